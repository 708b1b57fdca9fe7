//! The explanation that every error of this workspace carries.

use crate::Cause;

/// Reason of a failure and its remedy. The error's own message names the operation that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Cause for results; `None` if no cause applies.
    pub cause: Option<Cause>,
    /// Severity of the failure. [`explain`](crate::explain()) always sets it; `None` means that [`Explained::severity`] of the
    /// error applies.
    pub severity: Option<Severity>,
    /// The reason, as sentences.
    pub why: String,
    /// Remedy, as imperative sentences.
    pub remedy: String,
}

impl Explanation {
    /// Creates an explanation with a cause.
    pub fn new(cause: Cause, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: Some(cause), severity: None, why: why.into(), remedy: remedy.into() }
    }

    /// Creates an explanation without a cause.
    pub fn uncaused(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: None, severity: None, why: why.into(), remedy: remedy.into() }
    }
}

/// Severity of a failure, which decides the exit code and the outcome of a cell (one measurement).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The input is invalid (exit code 2).
    BadInput,
    /// This host does not support the operation: the cell is waived. Exit code 3 if no cell could run.
    Unavailable,
    /// The host supports the operation, and it failed: the cell fails (exit code 1).
    Failed,
    /// An I/O error or a bug of peerpath (exit code 4).
    Internal,
}

impl Severity {
    /// Word for the severity in JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadInput => "bad-input",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
            Self::Internal => "internal",
        }
    }
}

/// An error with an explanation.
pub trait Explained: std::error::Error + Send + Sync + 'static {
    /// Returns the reason of the failure and its remedy.
    fn explanation(&self) -> Explanation;
    /// Returns the severity of the failure.
    fn severity(&self) -> Severity;
}
