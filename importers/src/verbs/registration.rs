//! A buffer that an RDMA device knows.

use std::sync::Arc;

use peerpath_exporter::{Buffer, Handle};

use super::bounds::Part;
use super::device::VerbsDevice;
use super::errors::Error;
use super::sys::MemoryRegion;
use crate::{Device, DeviceInfo, Registration};

/// The regions, and what must outlive them. Fields are dropped in this order: the regions first.
pub(super) struct VerbsRegistration {
    /// One for all of the buffer, or one for each of its ranges in their order.
    regions: Vec<MemoryRegion>,
    pub(super) buffer: Arc<Buffer>,
    pub(super) device: Arc<VerbsDevice>,
}

impl VerbsRegistration {
    pub(super) fn new(regions: Vec<MemoryRegion>, buffer: Arc<Buffer>, device: Arc<VerbsDevice>) -> Self {
        Self { regions, buffer, device }
    }

    /// Which part of the buffer each region holds.
    pub(super) fn parts(&self) -> Vec<Part> {
        let ranges = &self.buffer.origin().ranges;
        let lengths: Vec<u64> = match self.buffer.handle() {
            Handle::DmaBufs(_) => ranges.iter().map(|range| range.length_bytes).collect(),
            Handle::DmaBuf(_) | Handle::Memory(_) | Handle::Withheld(_) => vec![self.buffer.length_bytes()],
        };
        Part::in_a_row(lengths.into_iter().zip(self.regions.iter().map(MemoryRegion::keys)))
    }

    /// The name in results.
    pub(super) fn mechanism(&self) -> &'static str {
        match (self.buffer.handle(), &self.regions[..]) {
            (Handle::DmaBufs(_), _) | (_, []) => "mr-per-range",
            (_, [first, ..]) => first.mechanism().as_str(),
        }
    }

    /// Deregisters every region. Where one fails, the regions behind it are deregistered when they are dropped.
    pub(super) fn deregister(&mut self) -> Result<(), Error> {
        let mechanism = self.mechanism();
        let outcome = self.regions.drain(..).try_for_each(MemoryRegion::deregister);
        outcome.map_err(|source| Error::Deregister { device: self.device.info.name.clone(), mechanism, source })
    }
}

impl Device for VerbsDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, crate::Error> {
        let regions = self.regions(&buffer)?;
        Ok(Box::new(VerbsRegistration::new(regions, buffer, self)))
    }
}
