//! What can go wrong with a drive.

use std::io;

use peerpath_paths::{Cause, Explained, Explanation, Facts, Severity, Step, explain};

use super::Status;

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the function could not be made ready")]
    Function(#[source] peerpath_exporter::Error),
    #[error("the drive's registers could not be used")]
    Registers(#[source] io::Error),
    #[error("memory for {what} could not be mapped for the drive")]
    Memory { what: &'static str, source: io::Error },
    #[error("the drive does not answer any more")]
    Gone,
    #[error("the drive reports a fatal error of its controller")]
    Fatal,
    #[error("{what} did not end within {seconds} s")]
    TimedOut { what: &'static str, seconds: u64 },
    #[error("the drive ended {what} with {}", status.name())]
    Refused { what: &'static str, status: Status },
    #[error("the drive cannot be used: {why}")]
    Unfit { why: &'static str },
    #[error("the drive ended a command that it was not given")]
    Confused,
    #[error("the drive has no queue left")]
    NoQueue,
    #[error("the drive was stopped after a failure")]
    Stopped,
}

impl Failure {
    /// Whether the controller may be in any state now, so that nothing but stopping it is left.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Registers(_) | Self::Gone | Self::Fatal | Self::TimedOut { .. } | Self::Confused)
    }
}

impl Explained for Failure {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Function(source) => source.explanation(),
            Self::Registers(source) => {
                explain(Step::RegionAccess, source.raw_os_error().unwrap_or(0), &Facts::default())
            }
            Self::Memory { source, .. } => {
                explain(Step::MapMemory, source.raw_os_error().unwrap_or(0), &Facts::default())
            }
            Self::Gone => Explanation::new(
                Cause::NoDevice,
                "Its registers read as all ones: the function was removed, lost power, or its link is down.",
                "Look at the kernel log (dmesg), and rescan the bus or power-cycle the slot.",
            ),
            Self::Fatal => Explanation::new(
                Cause::TransferFailed,
                "The controller gave up (CSTS.CFS), for example because it could not reach its queues.",
                "Run again, which resets it; if that does not help, look at the kernel log (dmesg).",
            ),
            Self::TimedOut { .. } => Explanation::new(
                Cause::TimedOut,
                "The drive took the command and never ended it; it was reset.",
                "Run again; if it happens again, look at the kernel log (dmesg) and at the drive's health.",
            ),
            Self::Refused { status, .. } => status.explanation(false),
            Self::Unfit { .. } => Explanation::new(
                Cause::NoDevice,
                "Only namespaces of plain blocks, without metadata, are read and written here.",
                "Use another drive, or format a namespace of this one without metadata.",
            ),
            Self::Confused => Explanation::new(
                Cause::TransferFailed,
                "What it wrote into its completion queue names no command that is under way.",
                "Do not trust this drive: update its firmware or use another one.",
            ),
            Self::NoQueue => Explanation::new(
                Cause::LimitReached,
                "A data plane takes one of its queues, and looking at the drive another one.",
                "Use fewer threads.",
            ),
            Self::Stopped => Explanation::new(
                Cause::TransferFailed,
                "Something failed before, and the controller was reset.",
                "See what failed first.",
            ),
        }
    }

    fn severity(&self) -> Severity {
        match self {
            Self::Function(source) => source.severity(),
            Self::Unfit { .. } => Severity::Unavailable,
            Self::NoQueue => Severity::BadInput,
            _ => Severity::Failed,
        }
    }
}
