//! The explanation that every error of this workspace carries.

use crate::Cause;

/// Why an operation failed and what the user can do about it. The error's own message says what failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The cause word for results, if there is one for this failure.
    pub cause: Option<Cause>,
    /// How serious the failure is, where the errno decides it: always set by [`explain`](crate::explain()). `None` if the
    /// error that carries the explanation decides.
    pub severity: Option<Severity>,
    /// The reason, one sentence.
    pub why: String,
    /// What to do, one imperative sentence.
    pub remedy: String,
}

impl Explanation {
    /// An explanation with a cause.
    pub fn new(cause: Cause, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: Some(cause), severity: None, why: why.into(), remedy: remedy.into() }
    }

    /// An explanation without a cause word.
    pub fn uncaused(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: None, severity: None, why: why.into(), remedy: remedy.into() }
    }
}

/// How serious a failure is. It decides the exit code and the outcome of a cell.
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

/// An error that explains itself.
pub trait Explained: std::error::Error + Send + Sync + 'static {
    /// Why the operation failed, and what to do about it.
    fn explanation(&self) -> Explanation;
    /// How serious the failure is.
    fn severity(&self) -> Severity;
}
