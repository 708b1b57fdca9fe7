//! The trait to implement for a new kind of device: its capabilities, discovery and opening.

use std::collections::BTreeMap;
use std::sync::Arc;

use peerpath_paths::{Bdf, Explanation};

use crate::{Device, Error, MechanismSpec, OpSpec, QueuePairOptions};

/// Kind of target device, e.g. RDMA NICs.
///
/// Implement this trait to add an importer. The entries of [`crate::IMPORTERS`] are built in; a program can add others with
/// [`crate::parse_target_among`].
pub trait Importer: Sync {
    /// Returns the name of the kind, in lowercase ASCII letters: the part of a target before the colon, and `target.kind` in
    /// results.
    fn kind(&self) -> &'static str;
    /// Returns the capabilities of the devices of this kind.
    fn capabilities(&self) -> Capabilities;
    /// Returns the syntax of a target, for help texts.
    fn usage(&self) -> Usage;
    /// Lists the devices of this host. The list is empty if the host has no such device or if the library is missing.
    fn discover(&self) -> Vec<Discovered>;
    /// Reports for each device name whether the device supports on-demand paging (ODP). Omits devices that cannot be
    /// queried.
    fn on_demand_paging(&self) -> BTreeMap<String, bool> {
        BTreeMap::new()
    }
    /// Checks that the library for these devices is installed and can list the devices.
    ///
    /// # Errors
    /// The library is missing or too old, or it cannot list the devices.
    fn library(&self) -> Result<(), Error> {
        Ok(())
    }
    /// Returns the PCI function to bind to a VFIO driver before opening the device at `address`. `None` for devices that
    /// stay with their kernel driver.
    fn vfio_function(&self, _address: &str) -> Option<Bdf> {
        None
    }
    /// Checks whether the device at `address` (the text after the colon of a target) can be used. Leaves the host
    /// unchanged.
    ///
    /// # Errors
    /// The address is malformed, or no such device exists.
    fn probe(&self, address: &str) -> Result<Availability, Error>;
    /// Opens the device at `address`. `options` applies to devices with queue pairs.
    ///
    /// # Errors
    /// The address is malformed, no such device exists, or the device cannot be opened.
    fn open(&self, address: &str, options: &QueuePairOptions) -> Result<Arc<dyn Device>, Error>;
}

/// Capabilities of devices of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Operations, in the order in which a run measures them.
    pub ops: &'static [OpSpec],
    /// Registration mechanisms, selected in an address by `?mechanism=NAME`. By default, the device tries them in this
    /// order.
    pub mechanisms: &'static [MechanismSpec],
    /// Whether buffers are mapped into an I/O address space that only the device uses: see
    /// [`crate::DeviceInfo::own_address_space`].
    pub own_address_space: bool,
    /// Whether the devices have queue pairs, so that [`QueuePairOptions`] applies to them.
    pub queue_pairs: bool,
}

/// Syntax of a target of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Form of a target, e.g. `verbs:DEV[/PORT]`.
    pub form: &'static str,
    /// Description of the target, in one line.
    pub summary: &'static str,
}

/// Whether a device can be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// The device is ready.
    Ready,
    /// The device can register ordinary memory, but cannot register dma-bufs for this reason.
    HostMemoryOnly(Explanation),
    /// The device cannot be used, for this reason.
    Waived(Explanation),
}

/// A device that an importer found on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// Target that names the device, e.g. `verbs:rxe0`.
    pub target: String,
    /// PCI function of the device.
    pub bdf: Option<Bdf>,
}
