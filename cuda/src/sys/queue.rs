//! Work that a GPU does in order, and its own clock.

use std::sync::Arc;
use std::time::Duration;

use super::abi::{Address, CUevent, CUstream, EVENT_DEFAULT, NOT_READY, STREAM_NON_BLOCKING};
use super::context::Context;
use crate::Error;

/// A queue of a GPU. Dropping it waits until all of its work has ended.
pub struct Stream {
    raw: CUstream,
    context: Arc<Context>,
}

// SAFETY: the handle is the driver's, which takes calls for it from any thread.
unsafe impl Send for Stream {}

impl Stream {
    /// Makes one.
    ///
    /// # Errors
    /// The driver failed.
    pub fn new(context: &Arc<Context>) -> Result<Self, Error> {
        let api = context.enter()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: it writes a handle, which is destroyed when this is dropped.
        unsafe { api.cuStreamCreate(&raw mut raw, STREAM_NON_BLOCKING) }?;
        Ok(Self { raw, context: Arc::clone(context) })
    }

    pub(super) fn raw(&self) -> CUstream {
        self.raw
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// Copies by a copy engine.
    ///
    /// # Safety
    /// Both spans have to be memory that this GPU reaches, until the copy has ended.
    ///
    /// # Errors
    /// The driver failed.
    #[inline]
    pub unsafe fn copy(&self, to: u64, from: u64, length_bytes: u64) -> Result<(), Error> {
        let api = self.context.enter()?;
        let length = usize::try_from(length_bytes).unwrap_or(usize::MAX);
        // SAFETY: forwarded from the caller.
        unsafe { api.cuMemcpyAsync(to as Address, from as Address, length, self.raw) }
    }

    /// Notes in the event when the work so far has ended.
    ///
    /// # Errors
    /// The driver failed.
    #[inline]
    pub fn record(&self, event: &Event) -> Result<(), Error> {
        let api = self.context.enter()?;
        // SAFETY: both are alive and of one context.
        unsafe { api.cuEventRecord(event.raw, self.raw) }
    }

    /// Waits until all work has ended.
    ///
    /// # Errors
    /// Some of it failed.
    pub fn synchronize(&self) -> Result<(), Error> {
        let api = self.context.enter()?;
        // SAFETY: it is alive.
        unsafe { api.cuStreamSynchronize(self.raw) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The memory of work that is under way goes next.
        let _ = self.synchronize();
        let Ok(api) = self.context.enter() else { return };
        // SAFETY: made by us, and nobody can use it after us.
        let _ = unsafe { api.cuStreamDestroy_v2(self.raw) };
    }
}

/// A moment on a GPU's own clock.
pub struct Event {
    raw: CUevent,
    context: Arc<Context>,
}

// SAFETY: the handle is the driver's, which takes calls for it from any thread.
unsafe impl Send for Event {}

impl Event {
    /// Makes one.
    ///
    /// # Errors
    /// The driver failed.
    pub fn new(context: &Arc<Context>) -> Result<Self, Error> {
        let api = context.enter()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: it writes a handle, which is destroyed when this is dropped.
        unsafe { api.cuEventCreate(&raw mut raw, EVENT_DEFAULT) }?;
        Ok(Self { raw, context: Arc::clone(context) })
    }

    /// Whether the work before it has ended.
    ///
    /// # Errors
    /// It ended with an error.
    #[inline]
    pub fn has_come(&self) -> Result<bool, Error> {
        let api = self.context.enter()?;
        // SAFETY: it is alive.
        match unsafe { api.cuEventQuery(self.raw) } {
            Ok(()) => Ok(true),
            Err(Error::Refused { code: NOT_READY, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The time from another one to this one, by the GPU's clock; both have come.
    ///
    /// # Errors
    /// The driver failed.
    pub fn since(&self, start: &Self) -> Result<Duration, Error> {
        let api = self.context.enter()?;
        let mut milliseconds = 0.0_f32;
        // SAFETY: both are alive; it writes a number.
        unsafe { api.cuEventElapsedTime(&raw mut milliseconds, start.raw, self.raw) }?;
        Ok(Duration::try_from_secs_f64(f64::from(milliseconds) / 1000.0).unwrap_or_default())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let Ok(api) = self.context.enter() else { return };
        // SAFETY: made by us, and nobody can use it after us.
        let _ = unsafe { api.cuEventDestroy_v2(self.raw) };
    }
}
