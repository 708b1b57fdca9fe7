//! A buffer registered with an RDMA device.

use std::sync::Arc;

use peerpath_exporter::{Buffer, Handle};

use super::bounds::Part;
use super::device::{Device, OpenPort};
use super::errors::Error;
use super::sys::MemoryRegion;
use crate::DeviceInfo;

/// A buffer registered with an RDMA device. Dropping it deregisters the buffer.
// Fields are dropped in this order: the regions before the buffer.
pub struct Registration {
    /// One region for the whole buffer, or one per range, in the order of the buffer.
    regions: Vec<MemoryRegion>,
    pub(super) buffer: Arc<Buffer>,
    pub(super) device: Arc<OpenPort>,
}

impl Registration {
    /// Returns the part of the buffer that each region covers.
    pub(super) fn parts(&self) -> Vec<Part> {
        let ranges = &self.buffer.origin().ranges;
        let lengths: Vec<u64> = match self.buffer.handle() {
            Handle::DmaBufs(_) => ranges.iter().map(|range| range.length_bytes).collect(),
            Handle::DmaBuf(_) | Handle::Memory(_) | Handle::GpuNotExported(_) => vec![self.buffer.length_bytes()],
        };
        Part::in_a_row(lengths.into_iter().zip(self.regions.iter().map(MemoryRegion::keys)))
    }

    /// Returns the mechanism of the registration, as results name it: `reg-mr`, `provider`, `uverbs-ioctl` or
    /// `mr-per-range`.
    pub fn mechanism(&self) -> &'static str {
        match (self.buffer.handle(), &self.regions[..]) {
            (Handle::DmaBufs(_), _) | (_, []) => "mr-per-range",
            (_, [first, ..]) => first.mechanism().as_str(),
        }
    }

    /// Deregisters the buffer.
    ///
    /// # Errors
    /// The kernel refused to deregister the buffer.
    pub fn unregister(mut self) -> Result<(), Error> {
        self.deregister()
    }

    /// Deregisters every region. After an error, the remaining regions are deregistered on drop.
    pub(super) fn deregister(&mut self) -> Result<(), Error> {
        let mechanism = self.mechanism();
        let outcome = self.regions.drain(..).try_for_each(MemoryRegion::deregister);
        outcome.map_err(|source| Error::Deregister { device: self.device.info.name.clone(), mechanism, source })
    }
}

impl Device {
    /// Registers a buffer. The registration keeps the buffer and the device alive.
    ///
    /// # Errors
    /// The kernel or the library refused the registration; [`Error::cause`] gives the reason.
    pub fn register(&self, buffer: &Arc<Buffer>) -> Result<Registration, Error> {
        let regions = self.port.regions(buffer)?;
        Ok(Registration { regions, buffer: Arc::clone(buffer), device: Arc::clone(&self.port) })
    }
}

impl crate::Device for Device {
    fn info(&self) -> &DeviceInfo {
        self.info()
    }

    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn crate::Registration>, crate::Error> {
        Ok(Box::new(Self::register(&self, &buffer)?))
    }
}
