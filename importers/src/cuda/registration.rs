//! A buffer that a GPU reaches.

use std::sync::Arc;

use peerpath_cuda::{DeviceMemory, Error as DriverError, ExternalMemory};
use peerpath_exporter::Buffer;

use super::data_plane::CudaDataPlane;
use super::device::CudaDevice;
use super::errors::Error;
use super::mechanism::Mechanism;
use super::sys::RegisteredMemory;
use crate::{DataPlane, DataPlaneSettings, Registration, Remains};

/// What the driver keeps for it.
pub(super) enum Reach {
    External(ExternalMemory),
    Registered(RegisteredMemory),
    Device(Arc<DeviceMemory>),
}

impl Reach {
    /// Where the GPU finds the first byte.
    pub(super) fn address(&self) -> u64 {
        match self {
            Self::External(external) => external.address(),
            Self::Registered(registered) => registered.address(),
            Self::Device(memory) => memory.address(),
        }
    }

    fn release(&mut self) -> Result<(), DriverError> {
        match self {
            Self::External(external) => external.release(),
            Self::Registered(registered) => registered.release(),
            // It is the exporter's, and was never registered.
            Self::Device(_) => Ok(()),
        }
    }
}

/// The registration, and what must outlive it. Fields are dropped in this order: what the driver keeps first.
pub(super) struct CudaRegistration {
    pub(super) reach: Reach,
    pub(super) mechanism: Mechanism,
    pub(super) buffer: Arc<Buffer>,
    pub(super) device: Arc<CudaDevice>,
}

impl Registration for CudaRegistration {
    fn mechanism(&self) -> &'static str {
        self.mechanism.as_str()
    }

    fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, crate::Error> {
        Ok(Box::new(CudaDataPlane::new(self, settings)?))
    }

    fn unregister(mut self: Box<Self>) -> Result<Remains, crate::Error> {
        let gpu = self.device.gpu();
        self.reach.release().map_err(|source| Error::Release { gpu, source })?;
        Ok(Remains::new(self))
    }
}
