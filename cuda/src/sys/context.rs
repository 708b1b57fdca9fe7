//! CUDA contexts. A context is the state of a process on a GPU.

use std::sync::Arc;

use super::abi::{Attribute, CUcontext, Device, PEER_ACCESS_ALREADY_ENABLED, PEER_ACCESS_UNSUPPORTED};
use super::library::{Api, Driver};
use crate::{Error, Gpu};

/// Primary context of a GPU. All users in the process share it; dropping the last reference releases it.
pub struct Context {
    driver: &'static Driver,
    device: Device,
    raw: CUcontext,
    gpu: Gpu,
    multiprocessors: u32,
}

// SAFETY: the driver accepts calls for a context from any thread.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Opens a GPU by its number.
    ///
    /// # Errors
    /// The GPU does not exist, or the driver failed.
    pub fn open(driver: &'static Driver, index: u32) -> Result<Arc<Self>, Error> {
        let gpu = driver.gpu(index)?;
        let device = driver.device(index)?;
        let multiprocessors = driver.attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let multiprocessors = multiprocessors.and_then(|count| u32::try_from(count).ok()).unwrap_or(1).max(1);
        let mut raw = std::ptr::null_mut();
        // SAFETY: the function writes a handle, which `Drop` releases.
        unsafe { driver.api().cuDevicePrimaryCtxRetain(&raw mut raw, device) }?;
        Ok(Arc::new(Self { driver, device, raw, gpu, multiprocessors }))
    }

    /// Returns the properties of the GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Returns the driver.
    pub fn driver(&self) -> &'static Driver {
        self.driver
    }

    pub(super) fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// Makes the context current in this thread, and returns the functions of the driver.
    #[inline]
    pub(super) fn enter(&self) -> Result<&'static Api, Error> {
        let api = self.driver.api();
        // SAFETY: the context is retained as long as `self` lives.
        unsafe { api.cuCtxSetCurrent(self.raw) }?;
        Ok(api)
    }

    /// Enables peer access from this GPU to the memory of another GPU. Does nothing if both are the same GPU.
    ///
    /// # Errors
    /// The GPUs cannot access each other, or the driver failed.
    pub fn reach(&self, other: &Self) -> Result<(), Error> {
        if self.device == other.device {
            return Ok(());
        }
        if !self.driver.can_access_peer(self.device, other.device)? {
            let (call, name) = ("cuDeviceCanAccessPeer", "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED");
            return Err(Error::Refused { call, code: PEER_ACCESS_UNSUPPORTED, name });
        }
        let api = self.enter()?;
        // SAFETY: both contexts are retained. The access ends with them.
        match unsafe { api.cuCtxEnablePeerAccess(other.raw, 0) } {
            Err(Error::Refused { code: PEER_ACCESS_ALREADY_ENABLED, .. }) => Ok(()),
            other => other,
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: `open` retained the context once. Each object of the context holds this `Context`, so none exists anymore.
        let _ = unsafe { self.driver.api().cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}
