//! Copy kernels: GPU threads that copy with loads and stores.

use std::ffi::{CStr, c_void};
use std::sync::Arc;

use super::abi::{CUfunction, CUmodule};
use super::context::Context;
use super::queue::Stream;
use crate::Error;

/// PTX source that the driver compiles for the GPU, zero-terminated as the driver requires.
static IMAGE: &str = concat!(include_str!("../copy.ptx"), "\0");
/// Access widths in bytes, widest first, and the kernel for each width.
const WIDTHS: [(u64, &CStr); 3] = [(16, c"peerpath_copy_16"), (8, c"peerpath_copy_8"), (4, c"peerpath_copy_4")];
const THREADS_PER_BLOCK: u32 = 256;
/// Thread blocks per multiprocessor: enough to saturate memory bandwidth. Each thread copies in a loop.
const BLOCKS_PER_MULTIPROCESSOR: u32 = 8;

/// Copy kernels, compiled for a GPU.
pub struct Kernels {
    module: CUmodule,
    functions: [CUfunction; WIDTHS.len()],
    context: Arc<Context>,
}

// SAFETY: the driver accepts calls for the handles from any thread.
unsafe impl Send for Kernels {}
// SAFETY: as above.
unsafe impl Sync for Kernels {}

impl Kernels {
    /// Minimum access width in bytes. Addresses and lengths must be multiples of it.
    pub const SHORTEST_WORD_BYTES: u64 = 4;

    /// Compiles the kernels.
    ///
    /// # Errors
    /// The driver cannot compile them.
    pub fn new(context: &Arc<Context>) -> Result<Self, Error> {
        let api = context.enter()?;
        let mut module = std::ptr::null_mut();
        // SAFETY: the image is zero-terminated PTX. `Drop` unloads the module.
        unsafe { api.cuModuleLoadData(&raw mut module, IMAGE.as_ptr().cast()) }?;
        let mut this = Self { module, functions: [std::ptr::null_mut(); WIDTHS.len()], context: Arc::clone(context) };
        for (function, (_, name)) in this.functions.iter_mut().zip(WIDTHS) {
            // SAFETY: the function writes a handle, which lives as long as the module. The name is zero-terminated.
            unsafe { api.cuModuleGetFunction(function, module, name.as_ptr()) }?;
        }
        Ok(this)
    }

    /// Enqueues a copy with the widest accesses that both addresses and the length allow, 4 to 16 bytes per access.
    ///
    /// # Safety
    /// Both ranges must be memory that the stream's GPU can access until the copy has completed. `length_bytes` and both
    /// addresses must be multiples of [`Kernels::SHORTEST_WORD_BYTES`].
    ///
    /// # Errors
    /// The driver failed.
    #[inline]
    pub unsafe fn copy(&self, stream: &Stream, to: u64, from: u64, length_bytes: u64) -> Result<(), Error> {
        let all = to | from | length_bytes;
        let widest = WIDTHS.iter().position(|(width, _)| all.is_multiple_of(*width));
        let place = widest.unwrap_or(WIDTHS.len() - 1);
        let mut words = length_bytes / WIDTHS[place].0;
        let blocks = words.div_ceil(u64::from(THREADS_PER_BLOCK));
        let most = stream.context().multiprocessors() * BLOCKS_PER_MULTIPROCESSOR;
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX).clamp(1, most);
        let (mut to, mut from) = (to, from);
        let mut arguments: [*mut c_void; 3] = [(&raw mut to).cast(), (&raw mut from).cast(), (&raw mut words).cast()];
        let api = stream.context().enter()?;
        // SAFETY: the kernel has three 64-bit parameters, which the call copies. It accesses `words` words at both addresses,
        // which the caller guarantees to be valid.
        unsafe {
            api.cuLaunchKernel(
                self.functions[place],
                blocks,
                1,
                1,
                THREADS_PER_BLOCK,
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
        // SAFETY: loaded in `new`. Streams that run the kernels are dropped first, and dropping a stream waits for its work.
        let _ = unsafe { api.cuModuleUnload(self.module) };
    }
}
