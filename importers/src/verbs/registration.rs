//! A buffer that an RDMA device knows.

use std::sync::Arc;

use peerpath_exporter::{Buffer, Handle};

use super::apart::Half;
use super::bounds::Part;
use super::data_plane::{FarMemory, VerbsDataPlane};
use super::device::VerbsDevice;
use super::errors::Error;
use super::sys::{Mechanism, MemoryRegion};
use crate::{DataPlane, DataPlaneSettings, EndSettings, JoinedEnd, LooseEnd, Registration, Remains};

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
}

impl Mechanism {
    /// The word in results.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "reg-mr",
            Self::Provider => "provider",
            Self::UverbsIoctl => "uverbs-ioctl",
        }
    }
}

impl Registration for VerbsRegistration {
    fn mechanism(&self) -> &'static str {
        match (self.buffer.handle(), &self.regions[..]) {
            (Handle::DmaBufs(_), _) | (_, []) => "mr-per-range",
            (_, [first, ..]) => first.mechanism().as_str(),
        }
    }

    fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, crate::Error> {
        Ok(Box::new(VerbsDataPlane::new(self, settings)?))
    }

    fn end(&self, settings: EndSettings) -> Result<Box<dyn LooseEnd<'_> + '_>, crate::Error> {
        Ok(Box::new(Half::new(self, settings)?))
    }

    fn both_ends(&self, settings: EndSettings, far_bytes: u64) -> Result<[Box<dyn JoinedEnd + '_>; 2], crate::Error> {
        let memory = FarMemory::new(&self.device, far_bytes)?;
        let (far, near) = (Half::of_far_side(self, settings, memory)?, Half::new(self, settings)?);
        let endpoints = (far.endpoint().clone(), near.endpoint().clone());
        Ok([Box::new(far).connect(&endpoints.1)?, Box::new(near).connect(&endpoints.0)?])
    }

    fn unregister(mut self: Box<Self>) -> Result<Remains, crate::Error> {
        let mechanism = self.mechanism();
        // Those behind one that fails are taken back as they are dropped.
        let outcome = self.regions.drain(..).try_for_each(MemoryRegion::deregister);
        outcome.map_err(|source| Error::Deregister { device: self.device.info.name.clone(), mechanism, source })?;
        Ok(Remains::new(self))
    }
}
