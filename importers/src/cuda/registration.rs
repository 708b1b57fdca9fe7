//! A buffer registered with a GPU.

use std::sync::{Arc, PoisonError};

use peerpath_exporter::Buffer;

use super::device::{Device, OpenGpu};
use super::errors::{Error, Refusal};
use super::mechanism::Mechanism;
use super::sys::ReachableMemory;
use crate::DeviceInfo;

/// A buffer registered with a GPU. Dropping it unregisters the buffer.
// Fields are dropped in this order: the driver releases the memory before the buffer is freed.
pub struct Registration {
    pub(super) reachable: ReachableMemory,
    mechanism: Mechanism,
    pub(super) buffer: Arc<Buffer>,
    pub(super) device: Arc<OpenGpu>,
}

impl Registration {
    /// Returns the mechanism by which the GPU accesses the buffer.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Unregisters the buffer.
    ///
    /// # Errors
    /// The driver refused to unregister the buffer.
    pub fn unregister(mut self) -> Result<(), Error> {
        self.release()
    }

    pub(super) fn release(&mut self) -> Result<(), Error> {
        let gpu = self.device.gpu();
        self.reachable.release().map_err(|source| Error::Release { gpu, source })
    }
}

impl Device {
    /// Registers a buffer by the first mechanism that the driver accepts. The registration keeps the buffer and the device
    /// alive.
    ///
    /// # Errors
    /// The driver accepted none of the mechanisms, or the GPU failed; [`Error::cause`] gives the reason.
    pub fn register(&self, buffer: &Arc<Buffer>) -> Result<Registration, Error> {
        let gpu = &self.opened;
        let (index, kind) = (gpu.gpu(), buffer.origin().kind);
        let mut refused = Vec::new();
        for mechanism in gpu.order(kind) {
            match gpu.reach(mechanism, buffer) {
                Ok(reachable) => {
                    gpu.accepted.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, mechanism);
                    let (buffer, device) = (Arc::clone(buffer), Arc::clone(gpu));
                    return Ok(Registration { reachable, mechanism, buffer, device });
                }
                // No other mechanism works on a lost GPU.
                Err(Refusal::Driver(source)) if source.is_loss() => return Err(Error::Failed { gpu: index, source }),
                Err(refusal) => refused.push((mechanism, refusal)),
            }
        }
        Err(Error::NoMechanism { gpu: index, kind, refused })
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
