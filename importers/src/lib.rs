//! A [`Buffer`] and a target device become a [`Registration`], and bytes move through it.
//!
//! Adding an importer is one file and one line of [`IMPORTERS`]: help texts, `list`, plans and the conformance test
//! all loop over that table.
//!
//! What depends on something borrows it or holds it, so it cannot be taken apart in the wrong order. A registration
//! cannot be taken back while a data plane uses it:
//!
//! ```compile_fail,E0505
//! # use peerpath_importers::{DataPlaneSettings, Error, Registration};
//! fn too_early(registration: Box<dyn Registration>, settings: &DataPlaneSettings) -> Result<(), Error> {
//!     let mut data_plane = registration.data_plane(settings)?;
//!     registration.unregister()?;
//!     data_plane.submit(&[])?;
//!     Ok(())
//! }
//! ```
//!
//! The other way round it compiles:
//!
//! ```
//! # use peerpath_importers::{DataPlaneSettings, Error, Registration};
//! fn in_order(registration: Box<dyn Registration>, settings: &DataPlaneSettings) -> Result<(), Error> {
//!     let mut data_plane = registration.data_plane(settings)?;
//!     data_plane.submit(&[])?;
//!     drop(data_plane);
//!     registration.unregister()?;
//!     Ok(())
//! }
//! ```

mod cuda;
mod endpoint;
mod error;
mod iommufd;
mod op;
mod queue_pair_options;
mod target;
#[cfg(any(feature = "verbs-dlopen", feature = "verbs-link"))]
mod verbs;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use peerpath_exporter::{Buffer, View};
use peerpath_paths::{Bdf, Explanation};

pub use endpoint::{ConnectedEnd, EndSettings, Endpoint, PortAddress, QueuePairEnd, Region, UnconnectedEnd};
pub use error::Error;
pub use op::{Direction, MechanismSpec, Op, OpSpec, ParseOpError, Role};
pub use queue_pair_options::{ParseTransportError, QueuePairOptions, Transport};
pub use target::{ParseTargetError, parse_target};

/// Every importer that was built in.
pub static IMPORTERS: &[&dyn Importer] = &[
    #[cfg(any(feature = "verbs-dlopen", feature = "verbs-link"))]
    &verbs::Verbs,
    &iommufd::Iommufd,
    &cuda::Cuda,
];

/// Whether a target can be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    Ready,
    /// It can for ordinary memory; it takes no dma-buf, for this reason.
    HostMemoryOnly(Explanation),
    /// It cannot, for this reason.
    Waived(Explanation),
}

/// A target that an importer found on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// As `--to` takes it: `verbs:rxe0`.
    pub target: String,
    /// The PCI function it sits on.
    pub bdf: Option<Bdf>,
}

/// A kind of target device: the unit of the plug-in table.
pub trait Importer: Sync {
    /// The word before the colon of `--to`, and `target.kind` in results.
    fn kind(&self) -> &'static str;
    /// How a target is written: `verbs:DEV[/PORT]`.
    fn form(&self) -> &'static str;
    /// One line for `--help`.
    fn summary(&self) -> &'static str;
    /// What its targets can be asked to do, in the order in which a run does it.
    fn ops(&self) -> &'static [OpSpec];
    /// The ways by which its targets can be made to reach a buffer, where the user may choose: named in an address as
    /// `?mechanism=NAME`. Without a name each is tried, in its turn.
    fn mechanisms(&self) -> &'static [MechanismSpec] {
        &[]
    }
    /// Whether buffers are mapped into an I/O address space of the target's own: see [`DeviceInfo::own_address_space`].
    fn has_own_address_space(&self) -> bool {
        false
    }
    /// The targets on this host; empty where there are none or the library is missing. Never fails.
    fn discover(&self) -> Vec<Discovered>;
    /// Whether its targets have queue pairs, so that [`QueuePairOptions`] says something to them.
    fn has_queue_pairs(&self) -> bool {
        false
    }
    /// Whether devices of this kind page on demand, by their names; nothing of those that could not be asked, or where
    /// that is no question. Never fails.
    fn on_demand_paging(&self) -> BTreeMap<String, bool> {
        BTreeMap::new()
    }
    /// Whether the target named `address` (the text after the colon) can be used; leaves nothing changed.
    ///
    /// # Errors
    /// The address is malformed or no such device exists.
    fn probe(&self, address: &str) -> Result<Availability, Error>;
    /// Opens the target; its queue pairs will be as `connection` says.
    ///
    /// # Errors
    /// As [`Importer::probe`], and whatever opening it takes.
    fn open(&self, address: &str, connection: &QueuePairOptions) -> Result<Arc<dyn Device>, Error>;
}

/// What results say of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The device's name (`rxe0`).
    pub name: String,
    /// What its maker calls it, where the library that drives it says so.
    pub model: Option<String>,
    /// The PCI function it sits on.
    pub bdf: Option<Bdf>,
    /// Kernel driver or provider.
    pub driver: Option<String>,
    /// Firmware version, where it has one.
    pub firmware: Option<String>,
    /// RDMA done by the CPU (rxe, siw).
    pub soft_rdma: bool,
    /// Buffers are mapped into an I/O address space of its own (an IOAS of iommufd): the IOMMU translates every access,
    /// whatever lies between, and p2pdma is not asked.
    pub own_address_space: bool,
}

/// An opened target.
pub trait Device: Send + Sync {
    /// What it is.
    fn info(&self) -> &DeviceInfo;
    /// Registers a buffer: the measured op `register`. The registration keeps buffer and device alive.
    ///
    /// # Errors
    /// The kernel's or the library's refusal, typed and explained.
    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, Error>;
}

/// A buffer known to a target. Dropping it takes it back as well; [`Registration::unregister`] says whether that worked.
///
/// Several data planes, each in a thread of its own, may use one registration.
pub trait Registration: Send + Sync {
    /// How it was registered, in a word for results (`provider`, `uverbs-ioctl`, `reg-mr`).
    fn mechanism(&self) -> &'static str;
    /// Sets up what it takes to move data (queue pairs, far-side memory). It borrows the registration, so that cannot be
    /// taken back underneath it.
    ///
    /// # Errors
    /// What could not be set up.
    fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, Error>;
    /// The buffer's end of connections whose other end another host has, or another thread.
    ///
    /// # Errors
    /// What could not be set up, or the target has no such connections.
    fn end(&self, _settings: EndSettings) -> Result<Box<dyn UnconnectedEnd<'_> + '_>, Error> {
        Err(Error::new(endpoint::NoPeers))
    }
    /// The two ends of connections between the buffer and so many bytes of far-side memory, for a thread each: that of the
    /// far side first.
    ///
    /// # Errors
    /// As [`Registration::end`].
    fn both_ends(&self, _settings: EndSettings, _far_bytes: u64) -> Result<[Box<dyn ConnectedEnd + '_>; 2], Error> {
        Err(Error::new(endpoint::NoPeers))
    }
    /// Takes the registration back: the measured op `unregister`.
    ///
    /// # Errors
    /// The kernel refused.
    fn unregister(self: Box<Self>) -> Result<DeferredRelease, Error>;
}

/// What is left of a registration that was taken back: the buffer, memory of our own. To give that back is no part of what is
/// measured, so it is left to whoever drops this.
pub struct DeferredRelease {
    _of: Box<dyn Any + Send>,
}

impl DeferredRelease {
    /// Of what this is.
    pub fn new(of: Box<dyn Any + Send>) -> Self {
        Self { _of: of }
    }
}

/// What a data plane is set up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataPlaneSettings {
    /// Transfers under way at once, at most, on each queue and from each side.
    pub depth: u32,
    /// Queues side by side: queue pairs, of an RDMA device.
    pub queues: u32,
    /// Whether the buffer's side posts transfers as well.
    pub both_sides: bool,
    /// Bytes of far-side memory.
    pub far_bytes: u64,
}

impl DataPlaneSettings {
    /// One queue, on which the far side posts.
    pub const fn simple(depth: u32, far_bytes: u64) -> Self {
        Self { depth, queues: 1, both_sides: false, far_bytes }
    }
}

/// A side of a data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Side {
    /// What the buffer is moved to and from.
    #[default]
    Far,
    /// The buffer.
    Buffer,
}

/// The words of an atomic operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Operands {
    /// What is added, or what is expected to be there.
    pub compare_add: u64,
    /// What takes the place of what was expected.
    pub swap: u64,
}

/// One transfer between the buffer and the far side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Comes back in the completion.
    pub id: u64,
    /// A transfer op of this importer.
    pub op: Op,
    /// Who posts it. Posted by the buffer's side, an op carries bytes the other way.
    pub posted_by: Side,
    /// On which queue.
    pub queue: u32,
    /// Whether it may end without saying so: its completion then comes with that of the next one on its queue and side that
    /// is not unsignaled. The last one must not be.
    pub unsignaled: bool,
    /// Of an atomic operation.
    pub operands: Operands,
    /// Where in the buffer.
    pub buffer_offset: u64,
    /// Where on the far side.
    pub far_offset: u64,
    /// How much.
    pub length_bytes: u32,
}

impl Transfer {
    /// A transfer that the far side posts on the first queue.
    pub fn new(id: u64, op: Op, buffer_offset: u64, far_offset: u64, length_bytes: u32) -> Self {
        let (posted_by, operands) = (Side::Far, Operands::default());
        Self { id, op, posted_by, queue: 0, unsignaled: false, operands, buffer_offset, far_offset, length_bytes }
    }
}

/// The end of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Of the transfer.
    pub id: u64,
    /// How it ended.
    pub result: Result<(), TransferError>,
}

/// A transfer that the device ended with an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the transfer ended with {status}")]
pub struct TransferError {
    /// The device's own word (`REM_ACCESS_ERR`).
    pub status: &'static str,
    /// Why, and what to do.
    pub explanation: Box<Explanation>,
}

/// Moves data between a registered buffer and a far side.
///
/// A transfer that ends with an error may end the data plane as well (the queue pairs of verbs are such): what is still
/// under way then ends with errors too, and once all of that has been polled [`DataPlane::submit`] is refused (until then
/// it takes nothing). Drop it and set up another one.
pub trait DataPlane: Send {
    /// The far side's own view, for filling and verifying. Not to be used while transfers are under way.
    fn far(&self) -> Arc<dyn View>;
    /// Hands transfers to the device, as many as it takes now; returns how many (a prefix of the batch). No more than
    /// [`DataPlaneSettings::depth`] are under way at once, on each queue and from each side.
    ///
    /// # Errors
    /// A transfer leaves the buffer or the far side, has no length or too much, or is of another op: neither it nor what
    /// stands behind it in the batch was handed over. Or the device refused: the data plane is at its end.
    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error>;
    /// Collects what ended, without waiting. `done` is appended to and never shrunk, so a loop can reuse it; with room
    /// for `depth` completions in it, nothing is allocated unless a transfer failed.
    ///
    /// # Errors
    /// The completion queue itself failed.
    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error>;
    /// How long the device itself says that it took, from the beginning of the first transfer since this was asked before to the
    /// end of the last one; none where it keeps no time. Not to be used while transfers are under way.
    fn device_time_ns(&mut self) -> Option<u64> {
        None
    }
    /// To be called after a poll that found nothing: where the data plane was opened to sleep, it sleeps until something may
    /// be there, for a tenth of a second at most. Otherwise it returns at once. Returns whether it slept in vain.
    ///
    /// # Errors
    /// The device cannot be waited for.
    fn wait(&mut self) -> Result<bool, Error> {
        Ok(false)
    }
}
