//! Which path a transfer really took: what the kernel did while it attached and mapped the buffer, seen through tracefs.
//!
//! ```no_run
//! # use peerpath_observe::{Expected, Memory, Observer, ObserverOptions, Unobservable, Watch};
//! # fn register() {}
//! # fn example(bar: std::ops::Range<u64>) -> Result<(), Unobservable> {
//! let mut observer = Observer::start(&ObserverOptions::default())?;
//! let watching = observer.begin(Watch::Path)?;
//! register();
//! let seen = watching.end()?.judge(&Expected::new(Memory::Mmio(vec![bar])));
//! println!("{}: {}", seen.path, seen.evidence.join("; "));
//! # Ok(())
//! # }
//! ```
//!
//! # What it rests on
//! The kernel decides inside the system call that registers the buffer, in the calling thread: the importer's driver
//! attaches to the dma-buf, asks the exporter to map it, and the exporter asks p2pdma how, then maps through the IOMMU, through
//! the direct mapping, or not at all. Each of these is an event or a function that can be probed (the table of the rules stands in `decide.rs`).
//! `pci_p2pdma_map_type` looks its answer up in a cache of the pair, but it is called for every mapping: the return
//! probe sees the answer each time, also the hundredth.
//!
//! What is seen is what the kernel set up. Where bridges really send a packet, an ACS setting changed behind the kernel's
//! back for instance, only a measurement can tell.
//!
//! # What it leaves alone
//! Events go to a trace instance of this process's own, and only for its own threads; the host's other tracing is not
//! touched. Probes are global in the kernel, so they carry the process in their name, are switched on in that
//! instance only and only between [`Observer::begin`] and [`Watching::end`], and go away with the [`Observer`]. What a killed
//! process left is removed by the next [`Observer::start`] or by [`sweep`].

mod calls;
mod classify;
mod error;
mod expected;
#[cfg(test)]
mod fake_tracefs;
mod faults;
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
pub use classify::{MapType, Mapping, Observation};
pub use error::Unobservable;
pub use expected::{Expected, Memory};
pub use faults::{Fault, FaultWatch};
pub use observer::{Observer, ObserverOptions, Watch, Watching, available};
pub use operation::CallKind;
pub use owner::{Swept, sweep};
pub use trace::Trace;
