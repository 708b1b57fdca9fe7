//! What is changed on the host: written down before it is done, undone afterwards.
//!
//! Every kind of change is a pair of steps that can be repeated, so that an interrupted one can be finished or undone. The
//! [`Journal`] holds them in the order in which they were made; [`restore`] undoes them in the reverse order after any
//! death of the process that made them. A lock a [`Subject`] keeps two peerpath processes apart.

pub(crate) mod acs;
pub(crate) mod domain;
pub(crate) mod driver;
mod journal;
mod lock;
mod network;
mod restore;
mod state_dir;
mod undo;

use std::fmt;

use peerpath_paths::Bdf;

pub(crate) use journal::{Change, Entry, Journal, OwnerKind};
pub(crate) use lock::Lock;
pub use restore::{Outcome, Restored, restore};
pub(crate) use state_dir::StateDir;
pub use undo::PutBack;

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A function.
    Function(Bdf),
    /// An IOMMU group, by its number.
    Group(u32),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(bdf) => bdf.fmt(f),
            Self::Group(number) => write!(f, "IOMMU group {number}"),
        }
    }
}
