//! A failure that ends a run or waives a cell: what failed, why, and what to do.

use std::fmt::Write as _;

use peerpath_paths::{Explained, Explanation, Severity};

/// An error as the user reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failed, in one sentence.
    pub what: String,
    /// Why, and what to do.
    pub explanation: Explanation,
    /// What kind of failure.
    pub severity: Severity,
}

impl Failure {
    /// A bug, or an error of the file system.
    pub fn internal(what: impl Into<String>, error: &dyn std::error::Error, remedy: &str) -> Self {
        Self {
            what: what.into(),
            explanation: Explanation::uncaused(chain(error), remedy),
            severity: Severity::Internal,
        }
    }

    /// Invalid input.
    pub fn bad_input(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), explanation: Explanation::uncaused(why, remedy), severity: Severity::BadInput }
    }

    /// An error with all its sources.
    pub fn of(error: &impl Explained) -> Self {
        Self { what: chain(error), explanation: error.explanation(), severity: error.severity() }
    }
}

impl<E: Explained> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { what: error.to_string(), explanation: error.explanation(), severity: error.severity() }
    }
}

/// An error and its sources, in one sentence.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        let next = error.to_string();
        if !text.contains(&next) {
            let _ = write!(text, ": {next}");
        }
        behind = error.source();
    }
    text
}
