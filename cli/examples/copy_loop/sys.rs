//! Calls to the CUDA driver, declared as in cuda.h.
#![allow(unsafe_code, reason = "the driver is a library of C functions")]

use std::ffi::{c_int, c_void};

use libloading::{Library, Symbol};

/// Two allocations in a GPU's memory.
pub(crate) struct Copies {
    library: Library,
    from: u64,
    to: u64,
    bytes: usize,
}

/// Looks up a function and calls it. A result other than `CUDA_SUCCESS` is an error.
macro_rules! call {
    ($library:expr, $name:literal, ($($type:ty),*), ($($argument:expr),*)) => {{
        // SAFETY: the type is the one that cuda.h declares for this name. Pointer arguments are valid for writes, and memory
        // arguments come from cuMemAlloc_v2.
        let code = unsafe {
            let function: Symbol<'_, unsafe extern "C" fn($($type),*) -> c_int> =
                $library.get($name.as_bytes()).map_err(|error| error.to_string())?;
            function($($argument),*)
        };
        if code == 0 { Ok(()) } else { Err(format!("{} returned {code}", $name)) }
    }};
}

impl Copies {
    pub(crate) fn prepare(gpu: c_int, bytes: usize) -> Result<Self, String> {
        // SAFETY: the initializers of the driver's library have no preconditions.
        let library = unsafe { Library::new("libcuda.so.1") }.map_err(|error| error.to_string())?;
        let (mut device, mut context) = (0, std::ptr::null_mut::<c_void>());
        call!(library, "cuInit", (u32), (0))?;
        call!(library, "cuDeviceGet", (*mut c_int, c_int), (&raw mut device, gpu))?;
        call!(library, "cuDevicePrimaryCtxRetain", (*mut *mut c_void, c_int), (&raw mut context, device))?;
        call!(library, "cuCtxSetCurrent", (*mut c_void), (context))?;
        let (mut from, mut to) = (0, 0);
        call!(library, "cuMemAlloc_v2", (*mut u64, usize), (&raw mut from, bytes))?;
        call!(library, "cuMemAlloc_v2", (*mut u64, usize), (&raw mut to, bytes))?;
        Ok(Self { library, from, to, bytes })
    }

    /// Copies the buffer `times` times and waits for completion.
    pub(crate) fn copy(&self, times: u32) -> Result<(), String> {
        for _ in 0..times {
            call!(self.library, "cuMemcpyDtoD_v2", (u64, u64, usize), (self.to, self.from, self.bytes))?;
        }
        call!(self.library, "cuCtxSynchronize", (), ())
    }
}
