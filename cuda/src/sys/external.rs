//! Memory that somebody else made and gave away as a file descriptor.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use super::abi::{Address, CUexternalMemory, ExternalBuffer, ExternalHandle, ExternalType, ExternalUnion};
use super::context::Context;
use crate::Error;

/// What the file descriptor is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternalKind {
    /// A dma-buf: known since CUDA 13.0.
    DmaBuf,
    /// Whatever the driver knows without being told.
    Opaque,
}

/// External memory, mapped for a GPU until dropped.
pub struct ExternalMemory {
    raw: CUexternalMemory,
    address: Address,
    context: Arc<Context>,
}

// SAFETY: the handle is the driver's, which takes calls for it from any thread.
unsafe impl Send for ExternalMemory {}
// SAFETY: as above.
unsafe impl Sync for ExternalMemory {}

impl ExternalMemory {
    /// Imports and maps it. The file descriptor is given away: to the driver where that takes it, else it is closed.
    ///
    /// # Errors
    /// The driver refuses.
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
        // SAFETY: the driver reads the fd of the union, which is open. The handle is destroyed when this is dropped.
        unsafe { api.cuImportExternalMemory(&raw mut raw, &raw const handle) }?;
        // From here on it is the driver's to close.
        let _ = fd.into_raw_fd();
        let mut this = Self { raw, address: 0, context: Arc::clone(context) };
        let buffer = ExternalBuffer { offset: 0, size: length_bytes, flags: 0, reserved: [0; 16] };
        // SAFETY: the structure is whole; the mapping is freed when this is dropped.
        unsafe { api.cuExternalMemoryGetMappedBuffer(&raw mut this.address, raw, &raw const buffer) }?;
        Ok(this)
    }

    /// Where the GPU finds it.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Takes the mapping and the import back, once.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn release(&mut self) -> Result<(), Error> {
        let (raw, address) =
            (std::mem::replace(&mut self.raw, std::ptr::null_mut()), std::mem::take(&mut self.address));
        if raw.is_null() {
            return Ok(());
        }
        let api = self.context.enter()?;
        // SAFETY: mapped by us, and whoever used it borrowed this.
        let unmapped = if address == 0 { Ok(()) } else { unsafe { api.cuMemFree_v2(address) } };
        // SAFETY: imported by us; its mapping is gone.
        unmapped.and_then(|()| unsafe { api.cuDestroyExternalMemory(raw) })
    }
}

impl Drop for ExternalMemory {
    fn drop(&mut self) {
        let _ = self.release();
    }
}
