//! A buffer that a GPU reaches.

use std::sync::{Arc, PoisonError};

use peerpath_exporter::Buffer;

use super::device::CudaDevice;
use super::errors::{Error, Refusal};
use super::mechanism::Mechanism;
use super::sys::ReachableMemory;
use crate::{Device, DeviceInfo, Registration};

/// The registration, and what must outlive it. Fields are dropped in this order: the driver's state first.
pub(super) struct CudaRegistration {
    pub(super) reachable: ReachableMemory,
    pub(super) mechanism: Mechanism,
    pub(super) buffer: Arc<Buffer>,
    pub(super) device: Arc<CudaDevice>,
}

impl Device for CudaDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, crate::Error> {
        let (gpu, kind) = (self.gpu(), buffer.origin().kind);
        let mut refused = Vec::new();
        for mechanism in self.order(kind) {
            match self.reach(mechanism, &buffer) {
                Ok(reachable) => {
                    self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, mechanism);
                    return Ok(Box::new(CudaRegistration { reachable, mechanism, buffer, device: self }));
                }
                // Whatever else is tried, it will not be had.
                Err(Refusal::Driver(source)) if source.is_loss() => return Err(Error::Failed { gpu, source }.into()),
                Err(refusal) => refused.push((mechanism, refusal)),
            }
        }
        Err(Error::NoMechanism { gpu, kind, refused }.into())
    }
}
