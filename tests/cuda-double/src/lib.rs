//! A library under the name of libcuda, for tests: a GPU whose memory is this process's.
//!
//! It says of itself that it stands in for the driver (`peerpath_stand_in`), so nothing measured with it counts. It follows
//! cuda.h by types generated from it, keeps account of everything it gives out, and complains about every use out of order: of
//! handles that are not there, memory that is not mapped, calls without a context, file descriptors given away twice. What is
//! left when the process ends is a complaint, too.
//!
//! `PEERPATH_CUDA_DOUBLE` tells it, in words divided by commas, what to do:
//! - `refuse=CALL:CODE` answers CALL with CODE, `refuse=CALL:CODE:N` only from the N-th time on;
//! - `lose=N` loses the GPU with the N-th piece of work: from then on everything answers `CUDA_ERROR_ILLEGAL_ADDRESS`;
//! - `takes=N`: on the GPU's clock every piece of work takes N microseconds, and nothing else takes any time;
//! - `spoil` changes a byte of everything that is copied between buffers;
//! - `gpus=N` has so many GPUs, `version=N` speaks that version of CUDA.
//!
//! `PEERPATH_CUDA_DOUBLE_LOG` names a file that calls and complaints are appended to.
#![allow(unsafe_code, reason = "it is a library of C functions")]
#![allow(non_snake_case, reason = "the names are those of cuda.h")]
#![allow(clippy::missing_safety_doc, reason = "cuda.h says what callers have to keep to")]
#![allow(missing_docs, reason = "the names are those of cuda.h")]

mod account;
mod calls;
mod told;

use std::ffi::{CStr, c_char};

/// What it calls itself. A program that finds this knows that no GPU is behind the library.
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
