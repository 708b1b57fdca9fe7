//! What a process has of a GPU.

use std::sync::Arc;

use super::abi::{Attribute, CUcontext, Device, PEER_ACCESS_ALREADY_ENABLED, PEER_ACCESS_UNSUPPORTED};
use super::library::{Api, Driver};
use crate::{Error, Gpu};

/// The primary context of a GPU, which all users in a process share; given back with the last of them.
pub struct Context {
    driver: &'static Driver,
    device: Device,
    raw: CUcontext,
    gpu: Gpu,
    multiprocessors: u32,
}

// SAFETY: contexts are the driver's, which takes calls for them from any thread.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Of a GPU, by its number.
    ///
    /// # Errors
    /// There is no such GPU, or the driver failed.
    pub fn open(driver: &'static Driver, index: u32) -> Result<Arc<Self>, Error> {
        let gpu = driver.gpu(index)?;
        let device = driver.device(index)?;
        let multiprocessors = driver.attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let multiprocessors = multiprocessors.and_then(|count| u32::try_from(count).ok()).unwrap_or(1).max(1);
        let mut raw = std::ptr::null_mut();
        // SAFETY: it writes a handle, which is released when this is dropped.
        unsafe { driver.api().cuDevicePrimaryCtxRetain(&raw mut raw, device) }?;
        Ok(Arc::new(Self { driver, device, raw, gpu, multiprocessors }))
    }

    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The driver.
    pub fn driver(&self) -> &'static Driver {
        self.driver
    }

    pub(super) fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// The driver's functions, after which calls of this thread are about this GPU.
    #[inline]
    pub(super) fn enter(&self) -> Result<&'static Api, Error> {
        let api = self.driver.api();
        // SAFETY: the context is retained as long as this lives.
        unsafe { api.cuCtxSetCurrent(self.raw) }?;
        Ok(api)
    }

    /// Lets this GPU reach the memory of another one; of itself it always does.
    ///
    /// # Errors
    /// The driver does not let it.
    pub fn reach(&self, other: &Self) -> Result<(), Error> {
        if self.device == other.device {
            return Ok(());
        }
        if !self.driver.can_access_peer(self.device, other.device)? {
            let (call, name) = ("cuDeviceCanAccessPeer", "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED");
            return Err(Error::Refused { call, code: PEER_ACCESS_UNSUPPORTED, name });
        }
        let api = self.enter()?;
        // SAFETY: both contexts are retained; the mapping goes with them.
        match unsafe { api.cuCtxEnablePeerAccess(other.raw, 0) } {
            Err(Error::Refused { code: PEER_ACCESS_ALREADY_ENABLED, .. }) => Ok(()),
            other => other,
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once by us, and nothing of ours is left that uses it: all hold this.
        let _ = unsafe { self.driver.api().cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}
