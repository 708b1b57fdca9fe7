//! External memory: memory that the driver imports from a file descriptor.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use super::abi::{Address, CUexternalMemory, ExternalBuffer, ExternalHandle, ExternalType, ExternalUnion};
use super::context::Context;
use crate::Error;

/// Type of the imported file descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternalKind {
    /// A dma-buf (CUDA 13.0 or later).
    DmaBuf,
    /// An opaque file descriptor, whose type the driver determines.
    Opaque,
}

/// Imported memory, mapped for a GPU until dropped.
pub struct ExternalMemory {
    raw: CUexternalMemory,
    address: Address,
    context: Arc<Context>,
}

// SAFETY: the driver accepts calls for the handle from any thread.
unsafe impl Send for ExternalMemory {}
// SAFETY: as above.
unsafe impl Sync for ExternalMemory {}

impl ExternalMemory {
    /// Imports and maps memory. The driver takes ownership of the file descriptor. After an error, the descriptor is
    /// closed.
    ///
    /// # Errors
    /// The driver refused to import or to map the memory.
    pub fn new(context: &Arc<Context>, kind: ExternalKind, fd: OwnedFd, length_bytes: u64) -> Result<Self, Error> {
        let api = context.enter()?;
        let handle = ExternalHandle {
            type_: match kind {
                ExternalKind::DmaBuf => ExternalType::CU_EXTERNAL_MEMORY_HANDLE_TYPE_DMABUF_FD,
                ExternalKind::Opaque => ExternalType::CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD,
            },
            handle: ExternalUnion { fd: fd.as_raw_fd() },
            size: length_bytes,
            flags: 0,
            reserved: [0; 16],
        };
        let mut raw = std::ptr::null_mut();
        // SAFETY: the driver reads the fd of the union, which is open. `release` destroys the handle.
        unsafe { api.cuImportExternalMemory(&raw mut raw, &raw const handle) }?;
        // The driver now owns the file descriptor and closes it.
        let _ = fd.into_raw_fd();
        let mut this = Self { raw, address: 0, context: Arc::clone(context) };
        let buffer = ExternalBuffer { offset: 0, size: length_bytes, flags: 0, reserved: [0; 16] };
        // SAFETY: every field of the structure is initialized. The mapping is freed by `release`.
        unsafe { api.cuExternalMemoryGetMappedBuffer(&raw mut this.address, raw, &raw const buffer) }?;
        Ok(this)
    }

    /// Returns the address of the memory on the GPU.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Unmaps and releases the memory. Later calls do nothing.
    ///
    /// # Errors
    /// The driver refused to unmap or to release the memory.
    pub fn release(&mut self) -> Result<(), Error> {
        let (raw, address) =
            (std::mem::replace(&mut self.raw, std::ptr::null_mut()), std::mem::take(&mut self.address));
        if raw.is_null() {
            return Ok(());
        }
        let api = self.context.enter()?;
        // SAFETY: mapped in `new`. Users of the address borrow `self`.
        let unmapped = if address == 0 { Ok(()) } else { unsafe { api.cuMemFree_v2(address) } };
        // SAFETY: imported in `new`, and its mapping is freed.
        unmapped.and_then(|()| unsafe { api.cuDestroyExternalMemory(raw) })
    }
}

impl Drop for ExternalMemory {
    fn drop(&mut self) {
        let _ = self.release();
    }
}
