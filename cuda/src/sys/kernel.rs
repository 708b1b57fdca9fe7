//! Our kernels: copies in words, by the GPU's own loads and stores.

use std::ffi::{CStr, c_void};
use std::sync::Arc;

use super::abi::{CUfunction, CUmodule};
use super::context::Context;
use super::queue::Stream;
use crate::Error;

/// In PTX, which the driver compiles for the GPU that it has; it ends with a zero, as the driver wants it.
static IMAGE: &str = concat!(include_str!("../copy.ptx"), "\0");
/// Widths of words, the widest first, and the kernel for each.
const WIDTHS: [(u64, &CStr); 3] = [(16, c"peerpath_copy_16"), (8, c"peerpath_copy_8"), (4, c"peerpath_copy_4")];
const THREADS_A_BLOCK: u32 = 256;
/// With so many blocks on each processor of the GPU, its memory is kept busy; a block takes more than one turn.
const BLOCKS_A_MULTIPROCESSOR: u32 = 8;

/// The kernels, compiled for a GPU.
pub struct Kernels {
    module: CUmodule,
    functions: [CUfunction; WIDTHS.len()],
    context: Arc<Context>,
}

// SAFETY: the handles are the driver's, which takes calls for them from any thread.
unsafe impl Send for Kernels {}
// SAFETY: as above.
unsafe impl Sync for Kernels {}

impl Kernels {
    /// Words are no shorter than this.
    pub const SHORTEST_WORD_BYTES: u64 = 4;

    /// Has the driver compile them.
    ///
    /// # Errors
    /// The driver does not.
    pub fn new(context: &Arc<Context>) -> Result<Self, Error> {
        let api = context.enter()?;
        let mut module = std::ptr::null_mut();
        // SAFETY: the image is PTX that ends with a zero; the module is unloaded when this is dropped.
        unsafe { api.cuModuleLoadData(&raw mut module, IMAGE.as_ptr().cast()) }?;
        let mut this = Self { module, functions: [std::ptr::null_mut(); WIDTHS.len()], context: Arc::clone(context) };
        for (function, (_, name)) in this.functions.iter_mut().zip(WIDTHS) {
            // SAFETY: it writes a handle, which lives as long as the module; the name ends with a zero.
            unsafe { api.cuModuleGetFunction(function, module, name.as_ptr()) }?;
        }
        Ok(this)
    }

    /// Copies by loads and stores of as wide words as both addresses and the length allow, 4 to 16 bytes a thread.
    ///
    /// # Safety
    /// Both spans have to be memory that the stream's GPU reaches, until the copy has ended; `length_bytes` and both addresses
    /// have to be multiples of [`Kernels::SHORTEST_WORD_BYTES`].
    ///
    /// # Errors
    /// The driver failed.
    #[inline]
    pub unsafe fn copy(&self, stream: &Stream, to: u64, from: u64, length_bytes: u64) -> Result<(), Error> {
        let all = to | from | length_bytes;
        let widest = WIDTHS.iter().position(|(width, _)| all.is_multiple_of(*width));
        let place = widest.unwrap_or(WIDTHS.len() - 1);
        let mut words = length_bytes / WIDTHS[place].0;
        let blocks = words.div_ceil(u64::from(THREADS_A_BLOCK));
        let most = stream.context().multiprocessors() * BLOCKS_A_MULTIPROCESSOR;
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX).clamp(1, most);
        let (mut to, mut from) = (to, from);
        let mut arguments: [*mut c_void; 3] = [(&raw mut to).cast(), (&raw mut from).cast(), (&raw mut words).cast()];
        let api = stream.context().enter()?;
        // SAFETY: the kernel takes three numbers of 64 bits, which are copied by the call; it touches `words` words from both
        // addresses on, for which the caller vouches.
        unsafe {
            api.cuLaunchKernel(
                self.functions[place],
                blocks,
                1,
                1,
                THREADS_A_BLOCK,
                1,
                1,
                0,
                stream.raw(),
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        }
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        let Ok(api) = self.context.enter() else { return };
        // SAFETY: loaded by us; streams that may run it are dropped, and with that waited for, before.
        let _ = unsafe { api.cuModuleUnload(self.module) };
    }
}
