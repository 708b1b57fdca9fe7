//! Why a cell has no figures, and which errors lead to that.

use peerpath_importers::Transport;
use peerpath_paths::{Cause, Explained, Explanation, Severity};

use crate::failure::{Failure, chain};
use crate::measure::MeasureError;
use crate::peer::connection::ConnectionError;
use crate::peer::error::PeerError;
use crate::result::Outcome;
use crate::window::VerifyError;

/// Why a cell has no figures.
pub(super) enum CellError {
    Interrupted,
    Unmeasured(Unmeasured),
}

/// A cell that is waived or failed, as the result reports it.
#[derive(Debug, Clone)]
pub(super) struct Unmeasured {
    pub(super) outcome: Outcome,
    pub(super) reason: String,
    pub(super) explanation: Explanation,
}

impl CellError {
    pub(super) fn waived(reason: impl Into<String>, explanation: Explanation) -> Self {
        Self::Unmeasured(Unmeasured { outcome: Outcome::Waived, reason: reason.into(), explanation })
    }

    pub(super) fn failed(reason: impl Into<String>, explanation: Explanation) -> Self {
        Self::Unmeasured(Unmeasured { outcome: Outcome::Failed, reason: reason.into(), explanation })
    }

    /// A cell whose data did not arrive, or arrived wrong.
    pub(super) fn unverified(error: VerifyError, transport: Transport) -> Self {
        match error {
            VerifyError::Mismatch(mismatch) if mismatch.missing && transport != Transport::Rc => {
                Self::failed(mismatch.to_string(), packets_lost())
            }
            error => error.into(),
        }
    }

    /// On an unreliable connection, what timed out is reported as lost on its way.
    pub(super) fn over(self, transport: Transport) -> Self {
        match self {
            Self::Unmeasured(Unmeasured { reason, explanation, .. })
                if explanation.cause == Some(Cause::TimedOut) && transport != Transport::Rc =>
            {
                Self::failed(reason, packets_lost())
            }
            error => error,
        }
    }

    fn from_explained(error: &impl Explained) -> Self {
        Failure::of(error).into()
    }
}

impl From<Failure> for CellError {
    fn from(failure: Failure) -> Self {
        let outcome = match failure.severity {
            // What this host or this size does not allow is no failure of the path.
            Severity::Unavailable | Severity::BadInput => Outcome::Waived,
            Severity::Failed | Severity::Internal => Outcome::Failed,
        };
        Self::Unmeasured(Unmeasured { outcome, reason: failure.what, explanation: failure.explanation })
    }
}

impl From<peerpath_exporter::Error> for CellError {
    fn from(error: peerpath_exporter::Error) -> Self {
        Self::from_explained(&error)
    }
}

impl From<peerpath_importers::Error> for CellError {
    fn from(error: peerpath_importers::Error) -> Self {
        Self::from_explained(&error)
    }
}

impl From<MeasureError> for CellError {
    fn from(error: MeasureError) -> Self {
        match error {
            MeasureError::Importer(error) => error.into(),
            MeasureError::Exporter(error) => error.into(),
            MeasureError::Transfer(error) => Self::failed(error.to_string(), *error.explanation),
            MeasureError::View(_) => Self::failed(
                error.to_string(),
                Explanation::uncaused(
                    "the function does not answer",
                    "look into the kernel log (dmesg) of that moment",
                ),
            ),
            MeasureError::Bind { .. } => Self::failed(
                error.to_string(),
                Explanation::uncaused("it is offline, or not this process's to use", "choose other processors"),
            ),
            MeasureError::Thread { .. } => Self::failed(
                error.to_string(),
                Explanation::new(
                    Cause::LimitReached,
                    "this host allows no more",
                    "use fewer threads, or raise ulimit -u",
                ),
            ),
            MeasureError::Panicked => Self::failed(
                error.to_string(),
                Explanation::uncaused("this is a bug", "report it with the message above"),
            ),
            MeasureError::TimedOut => Self::failed(
                error.to_string(),
                Explanation::new(
                    Cause::TimedOut,
                    "the device took the transfer and never ended it",
                    "look into the kernel log for messages of its driver, then reset the device",
                ),
            ),
            MeasureError::Interrupted => Self::Interrupted,
        }
    }
}

impl From<PeerError> for CellError {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::Connection(ConnectionError::Interrupted) => Self::Interrupted,
            PeerError::Failed(failed) => Self::Unmeasured(Unmeasured {
                // That something passed is not for the peer to say.
                outcome: if failed.outcome == Outcome::Waived { Outcome::Waived } else { Outcome::Failed },
                reason: format!("on the peer, {}", failed.reason),
                explanation: failed.explanation(),
            }),
            error => Self::from_explained(&error),
        }
    }
}

impl From<VerifyError> for CellError {
    fn from(error: VerifyError) -> Self {
        if let VerifyError::Peer(error) = error {
            return error.into();
        }
        match &error {
            VerifyError::Mismatch(_) => Self::failed(
                error.to_string(),
                Explanation::new(
                    Cause::DataMismatch,
                    "the memory does not hold what was sent",
                    "make sure that nothing else uses the BAR; if nothing does, do not trust this path",
                ),
            ),
            VerifyError::View { source, .. } if source.kind() == std::io::ErrorKind::Unsupported => Self::waived(
                chain(&error),
                Explanation::uncaused(
                    "the process that exported this memory does not let others look at it",
                    "hand the buffer over through the export socket of peerpath, which does",
                ),
            ),
            VerifyError::Peer(_) | VerifyError::View { .. } => Self::failed(
                chain(&error),
                Explanation::uncaused("the data could not be verified", "see whether the exporter still lives"),
            ),
        }
    }
}

fn packets_lost() -> Explanation {
    Explanation::new(
        Cause::PacketsLost,
        "this connection is not a reliable one: what is dropped on the way is not sent again",
        "find out what drops packets (the counters of NICs and switches), or use a connection of kind rc",
    )
}

/// Of a source or target that cannot be used; each of its cells says so.
impl Unmeasured {
    /// # Errors
    /// Bad input ends the run before it begins.
    pub(super) fn or_bad_input(failure: Failure) -> Result<Self, Failure> {
        let outcome = match failure.severity {
            Severity::BadInput => return Err(failure),
            Severity::Unavailable => Outcome::Waived,
            Severity::Failed | Severity::Internal => Outcome::Failed,
        };
        Ok(Self { outcome, reason: failure.what, explanation: failure.explanation })
    }
}

impl From<Unmeasured> for CellError {
    fn from(unmeasured: Unmeasured) -> Self {
        Self::Unmeasured(unmeasured)
    }
}
