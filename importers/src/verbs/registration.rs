//! A buffer that an RDMA device knows.

use std::sync::Arc;

use peerpath_exporter::Buffer;

use super::data_plane::VerbsDataPlane;
use super::device::VerbsDevice;
use super::errors::Error;
use super::sys::{Mechanism, MemoryRegion};
use crate::{DataPlane, DataPlaneSettings, Registration};

/// The region, and what must outlive it. Fields are dropped in this order: the region first.
pub(super) struct VerbsRegistration {
    pub(super) region: MemoryRegion,
    pub(super) buffer: Arc<Buffer>,
    pub(super) device: Arc<VerbsDevice>,
}

impl VerbsRegistration {
    pub(super) fn new(region: MemoryRegion, buffer: Arc<Buffer>, device: Arc<VerbsDevice>) -> Self {
        Self { region, buffer, device }
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
        self.region.mechanism().as_str()
    }

    fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, crate::Error> {
        Ok(Box::new(VerbsDataPlane::new(self, settings)?))
    }

    fn unregister(self: Box<Self>) -> Result<(), crate::Error> {
        let mechanism = self.region.mechanism().as_str();
        let Self { region, buffer: _buffer, device } = *self;
        region
            .deregister()
            .map_err(|source| Error::Deregister { device: device.info.name.clone(), mechanism, source }.into())
    }
}
