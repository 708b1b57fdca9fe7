//! The plug-in trait: what devices of a kind can do, and how they are found and opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use peerpath_paths::{Bdf, Explanation};

use crate::{Device, Error, MechanismSpec, OpSpec, QueuePairOptions};

/// A kind of target device, such as RDMA NICs.
///
/// Implement it to add an importer. The entries of [`crate::IMPORTERS`] are built in; a program can use others beside them
/// with [`crate::parse_target_among`].
pub trait Importer: Sync {
    /// Name of the kind: the word before the colon of a target, and `target.kind` in results. Lowercase ASCII letters.
    fn kind(&self) -> &'static str;
    /// What its devices can do.
    fn capabilities(&self) -> Capabilities;
    /// How a target is written, for help texts.
    fn usage(&self) -> Usage;
    /// The devices of this host. Empty where there are none or where their library is missing.
    fn discover(&self) -> Vec<Discovered>;
    /// Whether each device supports on-demand paging, by device name. Devices that cannot be queried are absent.
    fn on_demand_paging(&self) -> BTreeMap<String, bool> {
        BTreeMap::new()
    }
    /// The PCI function that has to be bound to a VFIO driver before the device at `address` is opened. `None` for devices that
    /// their kernel driver serves.
    fn vfio_function(&self, _address: &str) -> Option<Bdf> {
        None
    }
    /// Whether the device at `address` (the text after the colon of a target) can be used. Leaves the host unchanged.
    ///
    /// # Errors
    /// The address is malformed, or no such device exists.
    fn probe(&self, address: &str) -> Result<Availability, Error>;
    /// Opens the device at `address`. `options` applies to devices with queue pairs.
    ///
    /// # Errors
    /// As [`Importer::probe`], and whatever opening the device takes.
    fn open(&self, address: &str, options: &QueuePairOptions) -> Result<Arc<dyn Device>, Error>;
}

/// What devices of a kind can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Operations, in the order in which a run performs them.
    pub ops: &'static [OpSpec],
    /// Registration mechanisms to choose from, named in an address as `?mechanism=NAME`. Without a name, the device tries
    /// each in this order.
    pub mechanisms: &'static [MechanismSpec],
    /// Buffers are mapped into an I/O address space of the device's own: see [`crate::DeviceInfo::own_address_space`].
    pub own_address_space: bool,
    /// Devices have queue pairs, so [`QueuePairOptions`] applies to them.
    pub queue_pairs: bool,
}

/// How a target of a kind is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The form of a target: `verbs:DEV[/PORT]`.
    pub form: &'static str,
    /// What such a target is, in one line.
    pub summary: &'static str,
}

/// Whether a device can be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// The device is ready.
    Ready,
    /// The device takes ordinary memory, but no dma-buf, for this reason.
    HostMemoryOnly(Explanation),
    /// The device cannot be used, for this reason.
    Waived(Explanation),
}

/// A device that an importer found on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// The device as a target: `verbs:rxe0`.
    pub target: String,
    /// PCI function of the device.
    pub bdf: Option<Bdf>,
}
