//! Error type of the traits [`crate::Importer`], [`crate::Device`], [`crate::Registration`] and [`crate::DataPlane`].

use std::fmt;

use peerpath_paths::{Cause, Explained, Explanation, Severity};

/// Error of any importer, with its cause and remedy.
///
/// The type is opaque, so a new importer does not change it. [`Error::downcast_ref`] returns the importer's own error, e.g.
/// `verbs::Error`.
#[derive(Debug)]
pub struct Error(Box<dyn Explained>);

impl Error {
    /// Wraps an importer's error.
    pub fn new(error: impl Explained) -> Self {
        Self(Box::new(error))
    }

    /// Creates an error from a message, for failures without an error type. `message` names the operation that failed.
    pub fn untyped(message: impl Into<String>, severity: Severity, explanation: Explanation) -> Self {
        Self::new(Untyped { message: message.into(), severity, explanation })
    }

    /// Returns the cause of the failure. `None` if it is unknown.
    pub fn cause(&self) -> Option<Cause> {
        self.0.explanation().cause
    }

    /// Returns the importer's own error if its type is `E`.
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
