//! A fake libcuda for tests, with a GPU whose memory is host memory of the process.
//!
//! The library exports the symbol `peerpath_stand_in`. The program marks results as emulated if the library that it loads has
//! this symbol. The library uses types that are generated from cuda.h, tracks every object that it creates, and logs misuse:
//! unknown handles, memory that is not mapped, calls without a context, file descriptors imported twice, and objects not
//! released when the process exits.
//!
//! The environment variable `PEERPATH_CUDA_DOUBLE` configures the fake driver with comma-separated options:
//! - `refuse=CALL:CODE` makes CALL return CODE; `refuse=CALL:CODE:N` does so from the N-th call on;
//! - `lose=N` simulates the loss of the GPU at the N-th work item: all later calls return `CUDA_ERROR_ILLEGAL_ADDRESS`;
//! - `takes=N` advances the GPU's clock by N microseconds per work item (copy or kernel launch); without it, the clock is that
//!   of the host;
//! - `spoil` corrupts a byte of every copy between buffers;
//! - `gpus=N` sets the number of GPUs, `version=N` the version of CUDA (13000 is 13.0).
//!
//! Calls and complaints are appended to the file that `PEERPATH_CUDA_DOUBLE_LOG` names.
#![allow(unsafe_code, reason = "the library exports C functions")]
#![allow(non_snake_case, reason = "the names are from cuda.h")]
#![allow(clippy::missing_safety_doc, reason = "cuda.h documents the requirements")]
#![allow(missing_docs, reason = "the names are from cuda.h")]

mod account;
mod calls;
mod options;

use std::ffi::{CStr, c_char};

/// Name of the fake driver. The symbol marks the library as a fake.
#[unsafe(no_mangle)]
pub static peerpath_stand_in: Name = Name(c"a fake CUDA driver".as_ptr());

/// Pointer to a zero-terminated string. A static cannot be a raw pointer, which is not `Sync`.
#[repr(transparent)]
pub struct Name(*const c_char);

// SAFETY: the pointer is to a constant.
unsafe impl Sync for Name {}

impl Name {
    /// Returns the string.
    pub fn as_str(&self) -> &'static str {
        // SAFETY: the pointer is to a zero-terminated constant.
        unsafe { CStr::from_ptr(self.0) }.to_str().unwrap_or_default()
    }
}
