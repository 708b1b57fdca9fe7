//! Observes which path the kernel sets up while a device driver attaches to a dma-buf and maps it.
//!
//! The kernel chooses the path inside the call that registers the buffer. The importer's driver attaches to the dma-buf and asks
//! the exporter to map it. The exporter asks P2PDMA for the route to the importer, and then returns bus addresses, maps with or
//! without IOMMU translation, or refuses. Each step has a tracepoint or is a function that accepts a probe. An [`Observer`]
//! records the steps through tracefs, and [`Trace::classify`] derives the path from the recording (`classify.rs` lists the
//! rules). `pci_p2pdma_map_type` may read the map type from a cache, but the kernel calls it for every mapping, so its return
//! probe reports the map type each time.
//!
//! ```no_run
//! # use peerpath_observe::{Expected, Memory, ObserveError, Observer, ObserverOptions, ProbeSet};
//! # fn register() {}
//! # fn example(bar: std::ops::Range<u64>) -> Result<(), ObserveError> {
//! let mut observer = Observer::start(&ObserverOptions::default())?;
//! let recording = observer.begin(ProbeSet::Path)?;
//! register();
//! let observation = recording.end()?.classify(&Expected::new(Memory::Mmio(vec![bar])));
//! println!("{}: {}", observation.path, observation.evidence.join("; "));
//! # Ok(())
//! # }
//! ```
//!
//! The classification itself needs no privilege. Without any recorded event it reports an unknown path and the reason:
//!
//! ```
//! use peerpath_observe::{Expected, Memory, Trace};
//! use peerpath_paths::PathName;
//!
//! let observation = Trace::default().classify(&Expected::new(Memory::Mmio(vec![0xf000_0000..0xf010_0000])));
//! assert_eq!(observation.path, PathName::Unknown);
//! assert!(!observation.evidence.is_empty());
//! ```
//!
//! # Limits
//! The trace shows what the kernel set up. It does not show where bridges route a packet: if another program changes an ACS
//! setting, only a measurement shows the effect.
//!
//! # Effect on the host
//! Events go to a private trace instance and come from the recorded threads only, so other users of tracing are not
//! affected. Kprobes are global in the kernel. The name of their group contains the PID of the process that created them. They
//! are enabled in the private instance only, and only between [`Observer::begin`] and [`Recording::end`]. Dropping the
//! [`Observer`] removes them. The next [`Observer::start`], or [`remove_stale`], removes the instances and probes of a killed
//! process.

mod calls;
mod classify;
mod error;
mod events;
mod evidence;
mod expected;
#[cfg(test)]
mod fake_tracefs;
mod faults;
mod observation;
mod observer;
mod operation;
mod owner;
mod parse;
mod probes;
#[cfg(test)]
mod tests;
mod trace;
mod trace_instance;
mod tracefs;

pub use calls::Call;
pub use error::ObserveError;
pub use expected::{Expected, Memory};
pub use faults::{Fault, FaultWatch};
pub use observation::{MapType, Mapping, Observation};
pub use observer::{Observer, ObserverOptions, ProbeSet, Recording, available};
pub use operation::DmaBufOp;
pub use owner::{Removed, remove_own, remove_stale};
pub use trace::Trace;
