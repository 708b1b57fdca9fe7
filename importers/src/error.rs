//! The one error type that every importer's errors become.

use std::fmt;

use peerpath_paths::{Explained, Explanation, Severity};

/// What went wrong at an importer: the importer's own typed error, which knows why and what to do.
///
/// It is opaque so that a new importer adds no line here; callers go by [`Explained`].
#[derive(Debug)]
pub struct Error(Box<dyn Explained>);

impl Error {
    /// Wraps an importer's own error.
    pub fn new(error: impl Explained) -> Self {
        Self(Box::new(error))
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
