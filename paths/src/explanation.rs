//! The shape of every error that reaches a user.

use crate::Cause;

/// Why something failed and what to do about it, one sentence each; what failed is the error's own message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The word for results, where one fits.
    pub cause: Option<Cause>,
    /// One sentence of why.
    pub why: String,
    /// One sentence of what to do.
    pub remedy: String,
}

impl Explanation {
    /// An explanation with a cause.
    pub fn new(cause: Cause, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: Some(cause), why: why.into(), remedy: remedy.into() }
    }

    /// An explanation for which results have no word.
    pub fn uncaused(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: None, why: why.into(), remedy: remedy.into() }
    }
}

/// What kind of failure it is: it decides the exit code and the outcome of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Wrong usage or bad input (exit 2).
    BadInput,
    /// This host cannot do it: a cell is waived; exit 3 where nothing could run.
    CannotHere,
    /// It was possible and went wrong: the cell failed (exit 1).
    Failed,
    /// An I/O error or a bug of ours (exit 4).
    Internal,
}

/// An error that can say why and what to do.
pub trait Explained: std::error::Error + Send + Sync + 'static {
    /// Why it failed, and the remedy.
    fn explanation(&self) -> Explanation;
    /// Which kind of failure it is.
    fn class(&self) -> Class;
}
