//! Findings: the results of checks.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Cause, Explanation};

/// The status of a check, ordered from worst to best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// A run cannot succeed with this problem.
    Fail,
    /// The run may fail or be slower than possible.
    Warn,
    /// The information for the check is missing.
    Unknown,
    /// The check found no problem.
    Pass,
}

impl Status {
    /// Every status, from worst to best.
    pub const ALL: [Self; 4] = [Self::Fail, Self::Warn, Self::Unknown, Self::Pass];

    /// The status in JSON and on the terminal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Warn => "warn",
            Self::Unknown => "unknown",
            Self::Pass => "pass",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One object of `doctor --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check.
    pub check: &'static str,
    /// Status of the check.
    pub status: Status,
    /// Subject of the check: `host`, a function, a device, or a pair `A -> B`.
    pub subject: String,
    /// Cause of the problem; `None` if no cause applies.
    pub cause: Option<Cause>,
    /// Remedy, as imperative sentences; `None` if no action is needed.
    pub remedy: Option<String>,
    /// Result, as one sentence.
    pub detail: String,
}

/// A finding without the name of its check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) status: Status,
    pub(super) subject: String,
    pub(super) cause: Option<Cause>,
    pub(super) remedy: Option<String>,
    pub(super) detail: String,
}

impl Verdict {
    fn new(status: Status, subject: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self { status, subject: subject.to_string(), cause: None, remedy: None, detail: detail.into() }
    }

    pub(super) fn pass(subject: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self::new(Status::Pass, subject, detail)
    }

    pub(super) fn warn(subject: impl fmt::Display, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(Status::Warn, subject, detail) }
    }

    pub(super) fn fail(
        subject: impl fmt::Display,
        cause: Cause,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { cause: Some(cause), remedy: Some(remedy.into()), ..Self::new(Status::Fail, subject, detail) }
    }

    pub(super) fn unknown(subject: impl fmt::Display, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(Status::Unknown, subject, detail) }
    }

    /// Creates the finding of a check that needs the running host, for a snapshot or another copy of a host's files. All checks
    /// use the same wording so that text output can merge such findings.
    pub(super) fn live_only(subject: impl fmt::Display) -> Self {
        Self::unknown(subject, "This check needs the running host.", "Run `peerpath doctor` on the host.")
    }

    /// Converts an existing explanation to a finding.
    pub(super) fn explained(status: Status, subject: impl fmt::Display, explanation: &Explanation) -> Self {
        Self {
            cause: explanation.cause,
            remedy: Some(explanation.remedy.clone()).filter(|remedy| !remedy.is_empty()),
            ..Self::new(status, subject, explanation.why.clone())
        }
    }

    /// Turns a failure into a warning.
    pub(super) fn at_most_warn(self) -> Self {
        Self { status: self.status.max(Status::Warn), ..self }
    }

    pub(super) fn because(self, cause: Cause) -> Self {
        Self { cause: Some(cause), ..self }
    }

    pub(super) fn of(self, check: &'static str) -> Finding {
        let Self { status, subject, cause, remedy, detail } = self;
        Finding { check, status, subject, cause, remedy, detail }
    }
}
