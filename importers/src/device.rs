//! Opened devices and the buffers registered with them.

use std::any::Any;
use std::sync::Arc;

use peerpath_exporter::{Buffer, Removal};
use peerpath_paths::Bdf;

use crate::endpoint::no_remote_ends;
use crate::{ConnectedEnd, DataPlane, DataPlaneSettings, EndSettings, Error, UnconnectedEnd};

/// An opened target device, with which buffers are registered.
pub trait Device: Send + Sync {
    /// Returns the name, model, PCI function and driver of the device.
    fn info(&self) -> &DeviceInfo;
    /// Registers a buffer. The op `register` measures this call. The registration keeps the buffer and the device alive.
    ///
    /// # Errors
    /// The kernel or the library refused to register the buffer.
    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, Error>;
    /// Returns the removal of the device's function, if this process has the function open through VFIO. When the kernel requests
    /// the release of the function, drop the device and everything that it created.
    fn removal(&self) -> Option<&Removal> {
        None
    }
}

/// Description of an opened device; results contain it as `target`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Name of the device, e.g. `rxe0`.
    pub name: String,
    /// Model name, if the device's library reports one.
    pub model: Option<String>,
    /// PCI function of the device. `None` if the device has no PCI function or its function is unknown.
    pub bdf: Option<Bdf>,
    /// Kernel driver or user-space provider.
    pub driver: Option<String>,
    /// Firmware version. `None` if the device has no firmware.
    pub firmware: Option<String>,
    /// Whether the CPU performs the RDMA operations (rxe, siw).
    pub soft_rdma: bool,
    /// Whether buffers are mapped into an I/O address space (IOAS of iommufd) that only this device uses: the IOMMU
    /// translates every access, and the kernel's P2PDMA code is not involved.
    pub own_address_space: bool,
}

/// A buffer registered with a device. Dropping the registration also unregisters the buffer, but only
/// [`Registration::unregister`] reports an error.
///
/// Several threads may use one registration, each with its own data plane.
pub trait Registration: Send + Sync {
    /// Returns the mechanism of the registration, as results name it (`provider`, `uverbs-ioctl`, `reg-mr`).
    fn mechanism(&self) -> &'static str;
    /// Sets up a data plane (queue pairs, initiator memory). The data plane borrows the registration.
    ///
    /// # Errors
    /// The device cannot provide a data plane with these settings.
    fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, Error>;
    /// Creates unconnected queue pairs whose local memory is the buffer, to connect with a peer on another host or in another
    /// thread.
    ///
    /// # Errors
    /// The device cannot create the queue pairs, or this kind of device has no queue pairs.
    fn end(&self, _settings: EndSettings) -> Result<Box<dyn UnconnectedEnd<'_> + '_>, Error> {
        Err(no_remote_ends())
    }
    /// Creates connected queue pairs of initiator and responder, for two threads. Returns those of the initiator first; their
    /// local memory is `far_bytes` bytes of new host memory. The local memory of the responder's queue pairs is the buffer.
    ///
    /// # Errors
    /// Same as [`Registration::end`].
    fn both_ends(&self, _settings: EndSettings, _far_bytes: u64) -> Result<[Box<dyn ConnectedEnd + '_>; 2], Error> {
        Err(no_remote_ends())
    }
    /// Unregisters the buffer. The op `unregister` measures this call.
    ///
    /// # Errors
    /// The kernel or the library refused to unregister the buffer.
    fn unregister(self: Box<Self>) -> Result<DeferredRelease, Error>;
}

/// Memory of a former registration, freed on drop. A caller that measures [`Registration::unregister`] can thus exclude the
/// time to free the memory.
pub struct DeferredRelease {
    _held: Box<dyn Any + Send>,
}

impl DeferredRelease {
    /// Holds `value` until dropped.
    pub fn new(value: Box<dyn Any + Send>) -> Self {
        Self { _held: value }
    }
}
