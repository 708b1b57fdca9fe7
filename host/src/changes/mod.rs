//! Changes of the host: recorded before they are made, reverted afterwards.
//!
//! Making and reverting a change are idempotent, so that an interrupted step can be completed or reverted. The
//! [`Journal`] lists the changes in the order in which they were made; [`restore`] reverts the changes of dead processes in the
//! reverse order. One lock per [`Subject`] keeps two processes from changing the same object.

pub(crate) mod acs;
pub(crate) mod domain;
pub(crate) mod driver;
mod entry;
mod identity;
mod journal;
mod lock;
mod names;
mod network;
mod restore;
mod revert;
mod state_dir;
mod taken;

use std::fmt;

use peerpath_paths::{Bdf, IommuGroupId};

pub(crate) use entry::{Change, Entry, OwnerKind};
pub(crate) use journal::Journal;
pub(crate) use lock::Lock;
pub use restore::{Outcome, Restored, is_changed, left_by_earlier_runs, restore};
pub use revert::Reverted;
pub(crate) use state_dir::StateDir;
pub(crate) use taken::Taken;

/// Object of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A PCI function.
    Function(Bdf),
    /// An IOMMU group.
    Group(IommuGroupId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(bdf) => bdf.fmt(f),
            Self::Group(number) => write!(f, "IOMMU group {number}"),
        }
    }
}
