//! A failure that ends a run or waives a cell: what failed, why, and what to do.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use peerpath_paths::{Explained, Explanation, Severity};

/// An explained error.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What failed, in one sentence.
    pub what: String,
    /// Why, and what to do. Its severity is that of the failure.
    pub explanation: Explanation,
    /// How serious the failure is.
    pub severity: Severity,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure of this severity. It replaces the severity that the errno alone suggests: the caller knows what the failed
    /// operation means for the run.
    pub fn new(what: impl Into<String>, explanation: Explanation, severity: Severity) -> Self {
        let explanation = Explanation { severity: Some(severity), ..explanation };
        Self { what: what.into(), explanation, severity, source: None }
    }

    /// A bug, or an error of the file system.
    pub fn internal(what: impl Into<String>, error: &dyn Error, remedy: &str) -> Self {
        Self::new(what, Explanation::uncaused(chain(error), remedy), Severity::Internal)
    }

    /// Invalid input.
    pub fn bad_input(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(what, Explanation::uncaused(why, remedy), Severity::BadInput)
    }

    /// The failure that an error stands for. It is described with all its sources.
    pub fn of(error: &impl Explained) -> Self {
        Self::new(chain(error), error.explanation(), error.severity())
    }

    /// The same failure with another severity.
    pub fn with_severity(self, severity: Severity) -> Self {
        Self { source: self.source.clone(), ..Self::new(self.what, self.explanation, severity) }
    }

    /// The same failure, caused by `source`.
    pub(crate) fn with_source(self, source: impl Error + Send + Sync + 'static) -> Self {
        Self { source: Some(Arc::new(source)), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.explanation.why)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}

impl<E: Explained> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.to_string(), error.explanation(), error.severity()).with_source(error)
    }
}

/// An error and its sources, in one sentence. A source whose text the error repeats is omitted.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            let _ = write!(text, ": {next}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_of_a_failure_replaces_that_of_its_explanation() {
        let explanation = Explanation { severity: Some(Severity::Unavailable), ..Explanation::uncaused("why", "do") };
        let failure = Failure::new("what", explanation, Severity::Failed);
        assert_eq!((failure.severity, failure.explanation.severity), (Severity::Failed, Some(Severity::Failed)));
        let waived = failure.with_severity(Severity::Unavailable);
        assert_eq!(
            (waived.severity, waived.explanation.severity),
            (Severity::Unavailable, Some(Severity::Unavailable))
        );
        assert_eq!(waived.to_string(), "what: why");
    }
}
