//! The error type that the traits share.

use std::fmt;

use peerpath_paths::{Cause, Explained, Explanation, Severity};

/// An importer's error behind the traits, with its cause and remedy.
///
/// The type is opaque, so a new importer does not change it. [`Error::downcast_ref`] returns the importer's error type,
/// e.g. `verbs::Error`.
#[derive(Debug)]
pub struct Error(Box<dyn Explained>);

impl Error {
    /// Wraps an importer's error.
    pub fn new(error: impl Explained) -> Self {
        Self(Box::new(error))
    }

    /// An error without a type of its own: `message` says what failed.
    pub fn untyped(message: impl Into<String>, severity: Severity, explanation: Explanation) -> Self {
        Self::new(Untyped { message: message.into(), severity, explanation })
    }

    /// Cause of the failure, if known.
    pub fn cause(&self) -> Option<Cause> {
        self.0.explanation().cause
    }

    /// Returns the importer's error if it has this type.
    pub fn downcast_ref<E: Explained>(&self) -> Option<&E> {
        let error: &(dyn std::error::Error + 'static) = &*self.0;
        error.downcast_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Explained for Error {
    fn explanation(&self) -> Explanation {
        self.0.explanation()
    }

    fn severity(&self) -> Severity {
        self.0.severity()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Untyped {
    message: String,
    severity: Severity,
    explanation: Explanation,
}

impl Explained for Untyped {
    fn explanation(&self) -> Explanation {
        self.explanation.clone()
    }

    fn severity(&self) -> Severity {
        self.severity
    }
}
