//! Handing functions to vfio-pci, and giving them back.
//!
//! Nothing is changed on the host before it stands in the journal, so [`restore`] can undo it after any death of the
//! process that changed it. A lock per function keeps two peerpath processes off the same function.

mod give;
mod hold;
mod in_use;
mod journal;
mod lock;
mod restore;
mod state_dir;
mod steps;
pub(crate) mod viability;

pub use give::{Bound, bind};
pub use in_use::{InUse, UseKind, uses};
pub use journal::OwnerKind;
pub use restore::{Outcome, Restored, restore};

pub(crate) use hold::Hold;
pub(crate) use in_use::vfio_users;
