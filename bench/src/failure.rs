//! A failure that ends a run or waives a cell: what failed, why, and what to do.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use peerpath_paths::input_file::InputError;
use peerpath_paths::{Explained, Explanation, Severity, limit_of_open_files, sentence};

/// An error with its cause and its remedy.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What failed, in one sentence.
    pub what: String,
    /// The cause and the remedy. The severity of the explanation equals `severity`.
    pub explanation: Explanation,
    /// Decides the outcome of a cell and the exit code.
    pub severity: Severity,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Failure {
    /// Creates a failure. `severity` replaces the severity of the explanation, which is derived from the errno alone: the
    /// caller knows what the failed operation means for the run.
    pub fn new(what: impl Into<String>, explanation: Explanation, severity: Severity) -> Self {
        let explanation = Explanation { severity: Some(severity), ..explanation };
        Self { what: what.into(), explanation, severity, source: None }
    }

    /// Creates the failure for a bug or an error of the file system.
    pub fn internal(what: impl Into<String>, error: &(dyn Error + 'static), remedy: &str) -> Self {
        let limit = limit_of_open_files(error);
        Self::new(what, limit.unwrap_or_else(|| Explanation::uncaused(chain(error), remedy)), Severity::Internal)
    }

    /// Creates the failure for a file that a user names and that cannot be read.
    pub fn unreadable(what: impl Into<String>, error: &InputError, remedy: impl Into<String>) -> Self {
        match limit_of_open_files(error) {
            Some(limit) => Self::new(what, limit, Severity::Unavailable),
            None => Self::bad_input(what, error.to_string(), remedy),
        }
    }

    /// Creates the failure for invalid input.
    pub fn bad_input(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(what, Explanation::uncaused(why, remedy), Severity::BadInput)
    }

    /// Converts an error to a failure. `what` contains the error and its sources, without the sources that the explanation
    /// already contains.
    pub fn of(error: &impl Explained) -> Self {
        let explanation = explanation(error);
        let what = without_reason(joined(error, &explanation.why), &explanation.why);
        Self::new(what, explanation, error.severity())
    }

    /// Returns the same failure with another severity.
    pub fn with_severity(self, severity: Severity) -> Self {
        Self { source: self.source.clone(), ..Self::new(self.what, self.explanation, severity) }
    }

    /// Returns the same failure with `source` as its source error.
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
        let explanation = explanation(&error);
        let what = without_reason(error.to_string(), &explanation.why);
        Self::new(what, explanation, error.severity()).with_source(error)
    }
}

/// The explanation of an error. If a limit of open files caused the error, the explanation of that limit.
fn explanation(error: &impl Explained) -> Explanation {
    limit_of_open_files(error).unwrap_or_else(|| error.explanation())
}

/// An error's text without the reason after a colon if that reason is `why`, which is printed on its own line.
fn without_reason(mut text: String, why: &str) -> String {
    if let Some((at, _)) = text.match_indices(": ").find(|(at, colon)| sentence(&text[at + colon.len()..]) == why) {
        text.truncate(at);
    }
    text
}

/// Joins the texts of an error and its sources into one sentence. Omits a source whose text the error already contains.
pub fn chain(error: &dyn Error) -> String {
    joined(error, "")
}

/// Like [`chain`], and also omits a source whose text `said` contains.
fn joined(error: &dyn Error, said: &str) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) && !said.contains(&next) {
            let _ = write!(text, ": {next}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot save it")]
    struct NotSaved(#[source] std::io::Error);

    impl Explained for NotSaved {
        fn explanation(&self) -> Explanation {
            Explanation::uncaused("The disk is full.", "Free disk space.")
        }
        fn severity(&self) -> Severity {
            Severity::Internal
        }
    }

    #[test]
    fn explains_the_limit_of_open_files_in_every_kind_of_failure() {
        let error = || std::io::Error::from_raw_os_error(nix::errno::Errno::EMFILE as i32);
        for failure in [
            Failure::from(NotSaved(error())),
            Failure::of(&NotSaved(error())),
            Failure::internal("cannot save it", &error(), "Free disk space."),
            Failure::unreadable("cannot read it", &error().into(), "Name another file."),
        ] {
            assert!(failure.explanation.remedy.contains("ulimit -n"), "{failure:?}");
        }
    }

    #[test]
    fn prints_a_reason_once() {
        let text = |why| without_reason("cannot export 0000:03:00.0: the length is zero".to_owned(), why);
        assert_eq!(text("The length is zero."), "cannot export 0000:03:00.0");
        assert_eq!(text("Another reason."), "cannot export 0000:03:00.0: the length is zero");
    }

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
