//! A test double for libcuda: a GPU whose memory is memory of this process.
//!
//! It identifies itself as a test double (`peerpath_stand_in`), so results made with it are marked as emulated. Its types are generated
//! from cuda.h. It records every object that it creates and logs a complaint about every incorrect use: unknown handles, unmapped
//! memory, calls without a context, file descriptors passed twice. Objects that exist when the process ends are a complaint, too.
//!
//! `PEERPATH_CUDA_DOUBLE` holds settings, separated by commas:
//! - `refuse=CALL:CODE`: CALL returns CODE; `refuse=CALL:CODE:N`: from the N-th call on;
//! - `lose=N`: the GPU is lost at the N-th work item; from then on every call returns `CUDA_ERROR_ILLEGAL_ADDRESS`;
//! - `takes=N`: on the GPU's clock every work item takes N microseconds and nothing else takes time;
//! - `spoil`: one byte of every copy between buffers is changed;
//! - `gpus=N`: number of GPUs; `version=N`: CUDA version.
//!
//! `PEERPATH_CUDA_DOUBLE_LOG` names the file to which calls and complaints are appended.
#![allow(unsafe_code, reason = "a library of C functions")]
#![allow(non_snake_case, reason = "the names are those of cuda.h")]
#![allow(clippy::missing_safety_doc, reason = "cuda.h documents the requirements")]
#![allow(missing_docs, reason = "the names are those of cuda.h")]

mod account;
mod calls;
mod told;

use std::ffi::{CStr, c_char};

/// Name of the double. The symbol shows a program that the library does not drive a GPU.
#[unsafe(no_mangle)]
pub static peerpath_stand_in: Name = Name(c"a stand-in for the CUDA driver".as_ptr());

/// The address of a string.
#[repr(transparent)]
pub struct Name(*const c_char);

// SAFETY: it points to a constant.
unsafe impl Sync for Name {}

impl Name {
    /// The string.
    pub fn as_str(&self) -> &'static str {
        // SAFETY: it points to a constant that ends with a zero.
        unsafe { CStr::from_ptr(self.0) }.to_str().unwrap_or_default()
    }
}
