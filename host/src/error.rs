//! What can go wrong: one variant for each operation that can fail, with the object it failed on.

mod explained;

use std::io;
use std::path::PathBuf;

use peerpath_paths::{Bdf, GroupError, IommuGroupId};

use crate::{InUse, Subject};

/// A failure to change or to restore the host. The message says what failed; [`peerpath_paths::Explained`] says why and what
/// to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The state of the host.
    /// VFIO cannot open the function, whichever driver is bound to it.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// A file of `/sys` or `/proc` cannot be read. What it would have said is never assumed.
    #[error("cannot read {path}")]
    ReadHost {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A kernel driver is bound to the function.
    #[error("cannot use {bdf}: its driver is {driver}")]
    NotVfioDriver {
        /// The function.
        bdf: Bdf,
        /// The driver.
        driver: String,
    },
    /// Another process that uses this crate has locked the function or the group.
    #[error("cannot lock {subject}: another run uses it")]
    Locked {
        /// The locked function or group.
        subject: Subject,
        /// The process that locked it, where the lock file names one.
        pid: Option<u32>,
    },
    /// Other processes have the function, or its group, open through VFIO.
    #[error("cannot change {bdf}: other programs have it open through VFIO")]
    OpenElsewhere {
        /// The function.
        bdf: Bdf,
        /// Those of the processes that this user can see.
        pids: Vec<u32>,
    },
    /// Something uses the function.
    #[error("cannot change {bdf}, which is in use: {}", list(uses))]
    InUse {
        /// The function.
        bdf: Bdf,
        /// The uses that forbid the change.
        uses: Vec<InUse>,
        /// Whether the caller forced the change. These uses forbid it nevertheless.
        forced: bool,
    },
    /// The driver vfio-pci does not exist.
    #[error("cannot bind to vfio-pci: the driver is not loaded")]
    VfioPciMissing,

    // Drivers.
    /// A write to sysfs that binds or unbinds a function failed.
    #[error("cannot {operation} {bdf}")]
    Bind {
        /// The function.
        bdf: Bdf,
        /// The step, as a verb: `unbind`.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel accepted the request to bind and bound nothing.
    #[error("cannot bind {bdf} to {driver}: the driver did not accept it")]
    NotBound {
        /// The function.
        bdf: Bdf,
        /// The driver that was to be bound.
        driver: String,
    },

    // The path of a pair.
    /// The change would remove something that cannot be restored afterwards.
    #[error("cannot change {subject}, which could not be restored: {what}")]
    NotRestorable {
        /// The function or group.
        subject: Subject,
        /// The part that could not be restored, as part of a sentence.
        what: String,
    },
    /// The kernel refused another type for the domain of a group.
    #[error("cannot set the domain type of IOMMU group {group} to {kind}")]
    SetDomain {
        /// The group.
        group: IommuGroupId,
        /// The type, in the word of sysfs.
        kind: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The ACS control word of a port cannot be read or written.
    #[error("cannot {operation} the ACS control word of {bdf}")]
    Acs {
        /// The port.
        bdf: Bdf,
        /// The step, as a verb: `write`.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A program of iproute2 is not installed.
    #[error("cannot run {program}: it is not installed")]
    NoProgram {
        /// The name of the program.
        program: &'static str,
    },
    /// A program of iproute2 failed.
    #[error("cannot run `{command}`: {message}")]
    Program {
        /// The program and its arguments.
        command: String,
        /// What it printed to standard error.
        message: String,
    },
    /// Something that belongs to a function did not reappear after its driver was bound again.
    #[error("cannot restore {what} of {bdf}: it did not appear within {waited_s} s")]
    NotRestored {
        /// The function.
        bdf: Bdf,
        /// The missing part.
        what: String,
        /// How long it was waited for, in seconds.
        waited_s: u64,
    },
    /// A change failed, and so did reverting the steps before it.
    #[error("{error}; cannot revert the steps before it: {left}")]
    LeftChanged {
        /// Why the change failed.
        error: Box<Error>,
        /// Why the steps before it were not reverted.
        left: Box<Error>,
    },

    // The state directory.
    /// The state directory or a file in it cannot be used.
    #[error("cannot {operation} {path}")]
    State {
        /// The file or directory.
        path: PathBuf,
        /// The step, as a verb: `create the directory`.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The journal does not have the expected format.
    #[error("cannot parse the journal {path}")]
    BadJournal {
        /// The file.
        path: PathBuf,
        /// The parser's answer.
        #[source]
        source: serde_json::Error,
    },
}

fn list(uses: &[InUse]) -> String {
    uses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
