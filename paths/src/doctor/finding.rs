//! What a check found.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Cause, Explanation};

/// How a check ended; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It will not work like this.
    Fail,
    /// It may not work, or not as well as it could.
    Warn,
    /// It could not be told.
    Unknown,
    /// As it should be.
    Pass,
}

impl Status {
    /// Every status, the worst first.
    pub const ALL: [Self; 4] = [Self::Fail, Self::Warn, Self::Unknown, Self::Pass];

    /// The word in JSON and on the terminal.
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
    /// The check.
    pub check: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was looked at: `host`, a function, a device, or a pair `A -> B`.
    pub subject: String,
    /// Why, in a word, where there is one.
    pub cause: Option<Cause>,
    /// What to do, where something is to be done.
    pub remedy: Option<String>,
    /// What was found, one sentence.
    pub detail: String,
}

/// A finding before it knows whose it is.
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

    /// What a snapshot cannot tell. One wording, so that the text can say it once for all such checks.
    pub(super) fn live_only(subject: impl fmt::Display) -> Self {
        Self::unknown(subject, "Only the running host can tell.", "Run `peerpath doctor` on the host itself.")
    }

    /// What somebody else has explained already.
    pub(super) fn explained(status: Status, subject: impl fmt::Display, explanation: &Explanation) -> Self {
        Self {
            cause: explanation.cause,
            remedy: Some(explanation.remedy.clone()).filter(|remedy| !remedy.is_empty()),
            ..Self::new(status, subject, explanation.why.clone())
        }
    }

    pub(super) fn because(self, cause: Cause) -> Self {
        Self { cause: Some(cause), ..self }
    }

    pub(super) fn of(self, check: &'static str) -> Finding {
        let Self { status, subject, cause, remedy, detail } = self;
        Finding { check, status, subject, cause, remedy, detail }
    }
}
