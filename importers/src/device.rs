//! Opened devices and the buffers registered with them.

use std::any::Any;
use std::sync::Arc;

use peerpath_exporter::Buffer;
use peerpath_paths::Bdf;

use crate::endpoint::no_remote_ends;
use crate::{ConnectedEnd, DataPlane, DataPlaneSettings, EndSettings, Error, UnconnectedEnd};

/// An opened device.
pub trait Device: Send + Sync {
    /// What the device is.
    fn info(&self) -> &DeviceInfo;
    /// Registers a buffer: the measured op `register`. The registration keeps the buffer and the device alive.
    ///
    /// # Errors
    /// The kernel or the library refused.
    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, Error>;
}

/// Description of an opened device; results carry it as `target`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Name of the device (`rxe0`).
    pub name: String,
    /// Model name, where the device's library reports one.
    pub model: Option<String>,
    /// PCI function of the device.
    pub bdf: Option<Bdf>,
    /// Kernel driver or user-space provider.
    pub driver: Option<String>,
    /// Firmware version, where the device has firmware.
    pub firmware: Option<String>,
    /// The CPU performs the RDMA operations (rxe, siw).
    pub soft_rdma: bool,
    /// Buffers are mapped into an I/O address space of the device's own (an IOAS of iommufd): the IOMMU translates every
    /// access, and the kernel's p2pdma code is not involved.
    pub own_address_space: bool,
}

/// A buffer registered with a device. Dropping it unregisters the buffer as well; only [`Registration::unregister`] reports
/// whether that succeeded.
///
/// Several threads may use one registration, each with a data plane of its own.
pub trait Registration: Send + Sync {
    /// How the buffer was registered, as results name it (`provider`, `uverbs-ioctl`, `reg-mr`).
    fn mechanism(&self) -> &'static str;
    /// Sets up a data plane (queue pairs, far-side memory). The data plane borrows the registration.
    ///
    /// # Errors
    /// The device cannot provide a data plane with these settings.
    fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, Error>;
    /// The buffer's end of connections whose other end belongs to another host or to another thread.
    ///
    /// # Errors
    /// The device refused, or its kind has no queue pairs.
    fn end(&self, _settings: EndSettings) -> Result<Box<dyn UnconnectedEnd<'_> + '_>, Error> {
        Err(no_remote_ends())
    }
    /// Both ends of connections between `far_bytes` bytes of host memory and the buffer, one for each of two threads. The end
    /// of the host memory comes first.
    ///
    /// # Errors
    /// As [`Registration::end`].
    fn both_ends(&self, _settings: EndSettings, _far_bytes: u64) -> Result<[Box<dyn ConnectedEnd + '_>; 2], Error> {
        Err(no_remote_ends())
    }
    /// Unregisters the buffer: the measured op `unregister`.
    ///
    /// # Errors
    /// The kernel or the library refused.
    fn unregister(self: Box<Self>) -> Result<DeferredRelease, Error>;
}

/// Memory of a registration that is no longer registered. It is freed when this is dropped, so a caller that times
/// [`Registration::unregister`] can keep the freeing out of the measured time.
pub struct DeferredRelease {
    _held: Box<dyn Any + Send>,
}

impl DeferredRelease {
    /// Holds `value` until dropped.
    pub fn new(value: Box<dyn Any + Send>) -> Self {
        Self { _held: value }
    }
}
