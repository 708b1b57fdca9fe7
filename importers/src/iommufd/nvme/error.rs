//! Errors of a drive.

use std::io;

use peerpath_paths::{Cause, Explained, Explanation, Facts, Severity, Step, explain};

use super::Status;

/// An error of an NVMe drive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriveError {
    /// Memory decoding or bus mastering cannot be enabled, or the registers cannot be mapped.
    #[error("cannot access the PCI function of the drive")]
    Function(#[source] peerpath_exporter::Error),
    /// A register, or memory shared with the drive, cannot be accessed.
    #[error("cannot access the registers of the drive")]
    Registers(#[source] io::Error),
    /// Memory cannot be allocated or mapped for the drive.
    #[error("cannot map memory for {what}")]
    Memory {
        /// Purpose of the memory.
        what: &'static str,
        /// Error of the mapping.
        source: io::Error,
    },
    /// Every register reads as all ones, as after the function was removed.
    #[error("the drive does not respond")]
    Gone,
    /// The controller reports a fatal error (CSTS.CFS).
    #[error("the controller of the drive reports a fatal error")]
    Fatal,
    /// A command, or enabling or disabling the controller, timed out.
    #[error("{what} did not complete within {seconds} s")]
    TimedOut {
        /// Operation that timed out.
        what: &'static str,
        /// Timeout in seconds.
        seconds: u64,
    },
    /// The drive completed a command with an error.
    #[error("the drive completed {what} with {status}")]
    Refused {
        /// Name of the command.
        what: &'static str,
        /// Completion status of the command.
        status: Status,
    },
    /// The drive lacks a feature that this driver needs.
    #[error("cannot use the drive: {why}")]
    Unfit {
        /// Feature that the drive lacks.
        why: &'static str,
    },
    /// The drive completed a command that was not in flight.
    #[error("the drive completed an unknown command")]
    UnknownCommand,
    /// All I/O queues of the drive are in use.
    #[error("the drive has no free queue")]
    NoQueue,
    /// The controller was stopped after an error.
    #[error("the drive was stopped after an error")]
    Stopped,
}

impl DriveError {
    /// Whether the state of the controller is unknown, so that stopping it is the only option.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Registers(_) | Self::Gone | Self::Fatal | Self::TimedOut { .. } | Self::UnknownCommand)
    }
}

impl Explained for DriveError {
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
                "The registers of the drive read as all ones: the function was removed, lost power, or its link is \
                 down.",
                "Check the kernel log (dmesg), then rescan the bus or power-cycle the slot.",
            ),
            Self::Fatal => Explanation::new(
                Cause::TransferFailed,
                "The controller stopped (CSTS.CFS), for example because it cannot reach its queues.",
                "Open the drive again, which resets it. If the error persists, check the kernel log (dmesg).",
            ),
            Self::TimedOut { .. } => Explanation::new(
                Cause::TimedOut,
                "The drive accepted the command and did not complete it, so it was reset.",
                "Retry. If the error persists, check the kernel log (dmesg) and the health of the drive.",
            ),
            Self::Refused { status, .. } => status.explanation(false),
            Self::Unfit { .. } => Explanation::new(
                Cause::NoDevice,
                "Only NVMe controllers with the NVM command set, and namespaces without metadata, are supported.",
                "Use another drive. `nvme format` can reformat a namespace without metadata, but erases it.",
            ),
            Self::UnknownCommand => Explanation::new(
                Cause::TransferFailed,
                "A completion queue entry has the identifier of a command that is not in flight.",
                "Update the firmware of the drive, or use another drive.",
            ),
            Self::NoQueue => Explanation::new(
                Cause::LimitReached,
                "Each thread needs two queues: one for transfers, one to fill and verify the drive's blocks.",
                "Use fewer threads.",
            ),
            Self::Stopped => Explanation::new(
                Cause::TransferFailed,
                "An earlier operation failed, and the controller was reset.",
                "Check the first error.",
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
