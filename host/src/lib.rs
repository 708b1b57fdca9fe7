//! Changes a host for a measurement, and restores it.
//!
//! Before each change, the current state is written to a journal. A guard reverts the change when it is dropped; [`restore`]
//! reverts the changes of a killed process. Locks keep two processes from changing the same function or IOMMU group.
//!
//! - [`bind()`] binds functions to vfio-pci until [`restore`].
//! - [`Hold`] locks a function, and binds one without a driver to vfio-pci, until it is dropped. Acquire it before the function
//!   is opened through VFIO.
//! - [`Arrangement`] changes IOMMU domain types and ACS redirect, so that a pair of functions gets the requested path,
//!   until it is dropped.
//! - [`is_changed`] returns whether this process still has to revert a change.
//! - [`left_by_earlier_runs`] lists what a killed run left changed.
//! - [`uses`] lists the uses that a change would break.
//!
//! ```no_run
//! use peerpath_host::{Options, bind, restore};
//!
//! let options = Options::default();
//! for bound in bind(&["0000:03:00.0".parse()?], &options)? {
//!     println!("{} was bound to {:?}", bound.bdf, bound.from_driver);
//! }
//! for restored in restore(&options)? {
//!     println!("{}: {:?}", restored.subject, restored.outcome);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arrangement;
mod bind;
mod changes;
mod error;
mod hold;
mod host_tree;
mod in_use;
mod options;
#[cfg(test)]
mod testing;

pub use arrangement::Arrangement;
pub use bind::{Bound, bind};
pub use changes::{Outcome, Restored, Reverted, Subject, is_changed, left_by_earlier_runs, restore};
pub use error::Error;
pub use hold::Hold;
pub use host_tree::HostTree;
pub use in_use::{InUse, UseKind, uses};
pub use options::Options;
