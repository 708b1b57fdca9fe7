//! Errors: one variant for each operation that can fail, with the object of the operation.

mod denied;
mod explained;

use std::io;
use std::path::PathBuf;

use peerpath_paths::{Bdf, GroupError, IommuGroupId};

use crate::{InUse, Subject};

/// A failure to change or to restore the host. The message names the failed operation; [`peerpath_paths::Explained`] provides
/// reason and remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Conditions of the host that prevent a change.
    /// VFIO cannot open the function, regardless of the driver bound to it.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// A file of `/sys` or `/proc` cannot be read, so whether a change is safe is unknown.
    #[error("cannot read {path}")]
    ReadHost {
        /// Path of the file.
        path: PathBuf,
        /// Error of the read.
        #[source]
        source: io::Error,
    },
    /// A kernel driver is bound to the function.
    #[error("cannot use {bdf}: its driver is {driver}")]
    NotVfioDriver {
        /// Address of the function.
        bdf: Bdf,
        /// Name of the driver.
        driver: String,
    },
    /// Another process that uses this crate has locked the function or the group.
    #[error("cannot lock {subject}: another peerpath process uses it")]
    Locked {
        /// The locked function or group.
        subject: Subject,
        /// ID of the process that has the lock; `None` if the lock file contains no process ID.
        pid: Option<u32>,
    },
    /// Other processes have the function, or its group, open through VFIO.
    #[error("cannot change {bdf}: other programs have it open through VFIO")]
    OpenElsewhere {
        /// Address of the function.
        bdf: Bdf,
        /// IDs of these processes, as far as they are visible to this user.
        pids: Vec<u32>,
    },
    /// A use of the function prevents the change.
    #[error("cannot change {bdf}, which is in use: {}", list(uses))]
    InUse {
        /// Address of the function.
        bdf: Bdf,
        /// The uses that prevent the change.
        uses: Vec<InUse>,
        /// Whether the caller set [`crate::Options::force_in_use`], which does not cover these uses.
        forced: bool,
    },
    /// The driver vfio-pci is not loaded.
    #[error("cannot bind to vfio-pci: the driver is not loaded")]
    VfioPciMissing,

    // Failures to bind or unbind a driver.
    /// A write to sysfs that binds or unbinds a function failed.
    #[error("cannot {operation} {bdf}")]
    Bind {
        /// Address of the function.
        bdf: Bdf,
        /// The step, as a verb, e.g. `unbind`.
        operation: &'static str,
        /// Error of the write to sysfs.
        #[source]
        source: io::Error,
    },
    /// The kernel accepted the request to bind, but did not bind the driver.
    #[error("cannot bind {bdf} to {driver}: the driver did not accept it")]
    NotBound {
        /// Address of the function.
        bdf: Bdf,
        /// Name of the driver that was to be bound.
        driver: String,
    },

    // Failures to change IOMMU domains, ACS bits or the network configuration.
    /// The change would remove state that cannot be restored.
    #[error("cannot change {subject}, because the change cannot be reverted: {what}")]
    NotRestorable {
        /// Function or IOMMU group that the change would affect.
        subject: Subject,
        /// Reason why the state cannot be restored, as a clause.
        what: String,
    },
    /// The kernel refused to change the domain type of a group.
    #[error("cannot set the domain type of IOMMU group {group} to {kind}")]
    SetDomain {
        /// IOMMU group number.
        group: IommuGroupId,
        /// The requested type, as sysfs names it.
        kind: String,
        /// Error of the write to sysfs.
        #[source]
        source: io::Error,
    },
    /// The ACS Control register of a port cannot be read or written.
    #[error("cannot {operation} the ACS Control register of {bdf}")]
    Acs {
        /// Address of the port.
        bdf: Bdf,
        /// The step, as a verb, e.g. `write`.
        operation: &'static str,
        /// Error of the access to config space.
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
        /// Standard error of the program.
        message: String,
    },
    /// Part of a function's network configuration did not reappear after its driver was bound again.
    #[error("cannot restore {bdf}: waited {waited_s} s for {what}")]
    NotRestored {
        /// Address of the function.
        bdf: Bdf,
        /// The missing part, as a noun phrase.
        what: String,
        /// Time waited for the part to appear, in seconds.
        waited_s: u64,
    },
    /// The function or group of a change has other functions now, so the change is not reverted.
    #[error("cannot restore {subject}: {found}")]
    Replaced {
        /// The changed function or group.
        subject: Subject,
        /// Difference between the functions at the time of the change and now, as a clause.
        found: String,
        /// State before the change, as a noun phrase.
        before: String,
        /// Whether the change is still in the journal, because the group still has some of the changed functions.
        kept: bool,
    },
    /// Another program bound another driver to the function after the change, so the change is not reverted.
    #[error("cannot restore {bdf}: another program has bound it to {driver}")]
    OtherDriver {
        /// Address of the function.
        bdf: Bdf,
        /// The driver that is bound now.
        driver: String,
        /// Driver before the change; `None` if there was none.
        before: Option<String>,
    },
    /// A change failed, and the changes before it cannot be reverted.
    #[error("{error}; cannot revert the earlier changes: {left}")]
    LeftChanged {
        /// Error of the change.
        error: Box<Error>,
        /// Error of reverting the changes before it.
        left: Box<Error>,
    },

    // Failures of the state directory.
    /// The state directory or a file in it cannot be used.
    #[error("cannot {operation} {path}")]
    State {
        /// Path of the file or directory.
        path: PathBuf,
        /// The step, as a verb phrase, e.g. `create the state directory`.
        operation: &'static str,
        /// Error of the failed step.
        #[source]
        source: io::Error,
    },
    /// Another user owns the state directory or can write to it, and could make root change the host.
    #[error("cannot use the state directory {path}: {}", distrust(*owner, *mode, *user))]
    UntrustedStateDir {
        /// Path of the directory.
        path: PathBuf,
        /// User ID of its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
        /// Effective user ID of this process.
        user: u32,
    },
    /// The journal does not have the expected format.
    #[error("cannot parse the journal {path}")]
    BadJournal {
        /// Path of the journal.
        path: PathBuf,
        /// Error of the JSON parser.
        #[source]
        source: serde_json::Error,
    },
}

fn distrust(owner: u32, mode: u32, user: u32) -> String {
    if owner == user {
        format!("other users can write to it (mode {mode:04o})")
    } else {
        format!("user {owner} owns it, not user {user}")
    }
}

fn list(uses: &[InUse]) -> String {
    uses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
