//! Reasons why a cell has no figures, and the conversion of errors to them.

use std::error::Error as _;

use peerpath_importers::{TransferError, Transport};
use peerpath_paths::{Cause, Explained, Explanation, Severity};

use crate::failure::{Failure, chain};
use crate::measure::MeasureError;
use crate::peer::connection::ConnectionError;
use crate::peer::error::PeerError;
use crate::window::VerifyError;

/// Reason why a cell has no figures.
#[derive(Debug)]
pub(super) enum CellError {
    /// The run was interrupted, so the cell is not in the result.
    Interrupted,
    /// The cell did not pass. The severity decides whether it is waived or failed.
    Failure(Failure),
}

impl CellError {
    /// Creates the error for a cell that this host, this device or this size does not support.
    pub(super) fn waived(what: impl Into<String>, explanation: Explanation) -> Self {
        Failure::new(what, explanation, Severity::Unavailable).into()
    }

    pub(super) fn failed(what: impl Into<String>, explanation: Explanation) -> Self {
        Failure::new(what, explanation, Severity::Failed).into()
    }

    /// Creates the error for a cell whose data is missing or wrong. On an unreliable transport, missing data is reported as
    /// packet loss.
    pub(super) fn unverified(error: VerifyError, transport: Transport) -> Self {
        match error {
            VerifyError::Mismatch(mismatch) if mismatch.missing && transport != Transport::Rc => {
                Self::failed(mismatch.to_string(), packets_lost())
            }
            error => error.into(),
        }
    }

    /// Returns the error for this transport. On an unreliable transport, a timeout is reported as packet loss.
    pub(super) fn on_transport(self, transport: Transport) -> Self {
        match self {
            Self::Failure(failure)
                if failure.explanation.cause == Some(Cause::TimedOut) && transport != Transport::Rc =>
            {
                Self::failed(failure.what, packets_lost())
            }
            error => error,
        }
    }

    /// Whether the device completed a transfer with an error.
    pub(super) fn is_failed_transfer(&self) -> bool {
        matches!(self, Self::Failure(failure) if failure.source().is_some_and(|source| source.is::<TransferError>()))
    }

    fn from_explained(error: &impl Explained) -> Self {
        Failure::of(error).into()
    }
}

impl From<Failure> for CellError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
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
        let explanation = match &error {
            MeasureError::Interrupted => return Self::Interrupted,
            MeasureError::Importer(error) => return Self::from_explained(error),
            MeasureError::Exporter(error) => return Self::from_explained(error),
            MeasureError::Transfer(error) => {
                let failure = Failure::new(error.to_string(), (*error.explanation).clone(), Severity::Failed);
                return failure.with_source(error.clone()).into();
            }
            MeasureError::View(_) => Explanation::uncaused(
                "The function does not respond.",
                "Look at the kernel log (dmesg) from the time of the failure.",
            ),
            MeasureError::Bind { .. } => {
                Explanation::uncaused("The CPU is offline, or not in the cpuset of this process.", "Choose other CPUs.")
            }
            MeasureError::Thread { .. } => Explanation::new(
                Cause::LimitReached,
                "A limit of this host on threads or memory is reached.",
                "Use fewer threads, or raise the limit (ulimit -u).",
            ),
            MeasureError::Panicked => Explanation::uncaused("This is a bug.", "Report it with the message above."),
            MeasureError::TimedOut => Explanation::new(
                Cause::TimedOut,
                "The device accepted the transfer and did not complete it.",
                "Look at the kernel log for messages of its driver, then reset the device.",
            ),
        };
        Self::failed(error.to_string(), explanation)
    }
}

impl From<PeerError> for CellError {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::Connection(ConnectionError::Interrupted) => Self::Interrupted,
            error => Self::from_explained(&error),
        }
    }
}

impl From<VerifyError> for CellError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Peer(error) => error.into(),
            VerifyError::Mismatch(_) => Self::failed(
                error.to_string(),
                Explanation::new(
                    Cause::DataMismatch,
                    "The memory does not contain the data that was sent.",
                    "Make sure that nothing else uses the BAR. If nothing does, do not trust this path.",
                ),
            ),
            VerifyError::View { ref source, .. } if source.kind() == std::io::ErrorKind::Unsupported => Self::waived(
                chain(&error),
                Explanation::uncaused(
                    "The exporting process does not read and write its memory for other processes, so the data cannot be verified.",
                    "Export the buffer with peerpath, or add reads and writes to the exporting program.",
                ),
            ),
            VerifyError::View { .. } => Self::failed(
                chain(&error),
                Explanation::uncaused(
                    "The data cannot be verified.",
                    "Check that the exporting process is still running.",
                ),
            ),
        }
    }
}

fn packets_lost() -> Explanation {
    Explanation::new(
        Cause::PacketsLost,
        "The transport is unreliable: a lost packet is not retransmitted.",
        "Find out where packets are dropped (counters of NICs and switches), or use a reliable connection (rc).",
    )
}

/// Separates the errors of opening a source or target. Bad input ends the run. Each cell that needs the source or target
/// reports any other error.
///
/// # Errors
/// The input is bad.
pub(super) fn per_cell<T>(opened: Result<T, Failure>) -> Result<Result<T, Failure>, Failure> {
    match opened {
        Err(failure) if failure.severity == Severity::BadInput => Err(failure),
        opened => Ok(opened),
    }
}

/// Like [`per_cell`], for a source or target that the plan names. A source or target that does not exist ends the run, because
/// every cell would report the same failure. A missing library also ends the run.
///
/// # Errors
/// The input is bad, the device does not exist, or its library is missing.
pub(super) fn existing<T>(checked: Result<T, Failure>) -> Result<Result<T, Failure>, Failure> {
    match checked {
        Err(failure) if matches!(failure.explanation.cause, Some(Cause::NoDevice | Cause::LibraryMissing)) => {
            Err(failure)
        }
        checked => per_cell(checked),
    }
}
