//! CUDA streams and events.

use std::sync::Arc;
use std::time::Duration;

use super::abi::{Address, CUevent, CUstream, EVENT_DEFAULT, NOT_READY, STREAM_NON_BLOCKING};
use super::context::Context;
use crate::Error;

/// Stream: a queue of work that a GPU executes in order. Dropping the stream waits for its work.
pub struct Stream {
    raw: CUstream,
    context: Arc<Context>,
}

// SAFETY: the driver accepts calls for the handle from any thread.
unsafe impl Send for Stream {}

impl Stream {
    /// Creates a stream.
    ///
    /// # Errors
    /// The driver failed.
    pub fn new(context: &Arc<Context>) -> Result<Self, Error> {
        let api = context.enter()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the function writes a handle, which `Drop` destroys.
        unsafe { api.cuStreamCreate(&raw mut raw, STREAM_NON_BLOCKING) }?;
        Ok(Self { raw, context: Arc::clone(context) })
    }

    pub(super) fn raw(&self) -> CUstream {
        self.raw
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// Enqueues a copy by a copy engine.
    ///
    /// # Safety
    /// Both ranges must be memory that this GPU can access until the copy has completed.
    ///
    /// # Errors
    /// The driver failed.
    #[inline]
    pub unsafe fn copy(&self, to: u64, from: u64, length_bytes: u64) -> Result<(), Error> {
        let api = self.context.enter()?;
        let length = usize::try_from(length_bytes).unwrap_or(usize::MAX);
        // SAFETY: the caller guarantees both ranges.
        unsafe { api.cuMemcpyAsync(to as Address, from as Address, length, self.raw) }
    }

    /// Records an event after all work enqueued so far.
    ///
    /// # Errors
    /// The driver failed.
    #[inline]
    pub fn record(&self, event: &Event) -> Result<(), Error> {
        let api = self.context.enter()?;
        // SAFETY: both handles are alive. The driver rejects handles of different contexts.
        unsafe { api.cuEventRecord(event.raw, self.raw) }
    }

    /// Waits until all work has completed.
    ///
    /// # Errors
    /// Some of the work failed.
    pub fn synchronize(&self) -> Result<(), Error> {
        let api = self.context.enter()?;
        // SAFETY: the handle is alive.
        unsafe { api.cuStreamSynchronize(self.raw) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Wait before the memory that the work accesses is freed.
        let _ = self.synchronize();
        let Ok(api) = self.context.enter() else { return };
        // SAFETY: created in `new`, and not accessible after `self`.
        let _ = unsafe { api.cuStreamDestroy_v2(self.raw) };
    }
}

/// Event: a point in the work of a stream, with the time on the GPU's clock at which the GPU reached it.
pub struct Event {
    raw: CUevent,
    context: Arc<Context>,
}

// SAFETY: the driver accepts calls for the handle from any thread.
unsafe impl Send for Event {}

impl Event {
    /// Creates an event.
    ///
    /// # Errors
    /// The driver failed.
    pub fn new(context: &Arc<Context>) -> Result<Self, Error> {
        let api = context.enter()?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the function writes a handle, which `Drop` destroys.
        unsafe { api.cuEventCreate(&raw mut raw, EVENT_DEFAULT) }?;
        Ok(Self { raw, context: Arc::clone(context) })
    }

    /// Returns whether the work before the event has completed.
    ///
    /// # Errors
    /// The work failed.
    #[inline]
    pub fn has_completed(&self) -> Result<bool, Error> {
        let api = self.context.enter()?;
        // SAFETY: the handle is alive.
        match unsafe { api.cuEventQuery(self.raw) } {
            Ok(()) => Ok(true),
            Err(Error::Refused { code: NOT_READY, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the time from event `start` to this event, by the GPU's clock. Both events must have completed.
    ///
    /// # Errors
    /// The driver failed.
    pub fn since(&self, start: &Self) -> Result<Duration, Error> {
        let api = self.context.enter()?;
        let mut milliseconds = 0.0_f32;
        // SAFETY: both handles are alive, and the function writes a number.
        unsafe { api.cuEventElapsedTime(&raw mut milliseconds, start.raw, self.raw) }?;
        Ok(Duration::try_from_secs_f64(f64::from(milliseconds) / 1000.0).unwrap_or_default())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let Ok(api) = self.context.enter() else { return };
        // SAFETY: created in `new`, and not accessible after `self`.
        let _ = unsafe { api.cuEventDestroy_v2(self.raw) };
    }
}
