//! Memory of a GPU, and memory of this process that a GPU can access.

use std::ffi::c_void;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;

use super::abi::{
    Address, HOST_REGISTER_DEVICE_MAP, HOST_REGISTER_IO_MEMORY, INVALID_VALUE, NOT_SUPPORTED,
    POINTER_ATTRIBUTE_SYNC_MEMOPS, RANGE_FLAG_PCIE, RANGE_HANDLE_DMA_BUF_FD,
};
use super::context::Context;
use crate::{Error, Version};

/// Granularity of allocations in bytes. An allocation must start on a page boundary to be exported as a dma-buf.
const BLOCK_BYTES: u64 = 2 << 20;
/// First version of CUDA with the flag that maps dma-bufs through PCIe.
const PCIE_FLAG_SINCE: Version = Version { major: 12, minor: 8 };

/// Memory of a GPU, freed when dropped.
pub struct DeviceMemory {
    address: Address,
    length_bytes: u64,
    context: Arc<Context>,
}

impl DeviceMemory {
    /// Allocates memory.
    ///
    /// # Errors
    /// The GPU does not have enough free memory.
    pub fn new(context: &Arc<Context>, length_bytes: u64) -> Result<Self, Error> {
        let api = context.enter()?;
        let bytes = length_bytes.checked_next_multiple_of(BLOCK_BYTES).and_then(|bytes| usize::try_from(bytes).ok());
        let mut address = 0;
        // SAFETY: the function writes an address, which `Drop` frees.
        unsafe { api.cuMemAlloc_v2(&raw mut address, bytes.unwrap_or(usize::MAX)) }?;
        if address == 0 {
            return Err(Error::Nothing { call: "cuMemAlloc_v2" });
        }
        Ok(Self { address, length_bytes, context: Arc::clone(context) })
    }

    /// Returns the length of the memory in bytes.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Returns the address of the memory on the GPU.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Returns the context that owns the memory.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Copies from the GPU to the host. Returns when the copy has completed.
    ///
    /// # Errors
    /// The range exceeds the memory, or the driver failed.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let from = self.at(offset, into.len())?;
        let api = self.context.enter()?;
        // SAFETY: `at` checked that the range is within the memory, which lives as long as `self`. `into` is borrowed for the
        // call, which returns when the copy has completed.
        unsafe { api.cuMemcpyDtoH_v2(into.as_mut_ptr().cast(), from, into.len()) }
    }

    /// Copies from the host to the GPU. Returns when the copy has completed.
    ///
    /// # Errors
    /// Same as [`DeviceMemory::read`].
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), Error> {
        let to = self.at(offset, from.len())?;
        let api = self.context.enter()?;
        // SAFETY: as in `read`. When the call returns, `from` has been read.
        unsafe { api.cuMemcpyHtoD_v2(to, from.as_ptr().cast(), from.len()) }?;
        // Wait, because non-blocking streams do not wait for this copy.
        // SAFETY: the function only waits.
        unsafe { api.cuCtxSynchronize() }
    }

    fn at(&self, offset: u64, length: usize) -> Result<Address, Error> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.length_bytes);
        let outside = Error::Refused { call: "a copy", code: INVALID_VALUE, name: "the range exceeds the memory" };
        end.map(|_| self.address + offset).ok_or(outside)
    }

    /// Exports the first `length_bytes` bytes as a dma-buf, mapped through PCIe if the driver supports the flag. From then
    /// on, the driver's copies into the memory are synchronous (`SYNC_MEMOPS`), so that other devices see their data.
    ///
    /// # Errors
    /// The driver cannot export the memory as a dma-buf.
    pub fn dma_buf(&self, length_bytes: u64) -> Result<OwnedFd, Error> {
        let length = usize::try_from(length_bytes.min(self.length_bytes)).unwrap_or(usize::MAX);
        let api = self.context.enter()?;
        let one = 1_u32;
        // SAFETY: the function reads 32 bits; the address is this allocation.
        unsafe { api.cuPointerSetAttribute((&raw const one).cast(), POINTER_ATTRIBUTE_SYNC_MEMOPS, self.address) }?;
        let export = |flags| {
            let mut fd: RawFd = -1;
            // SAFETY: for this type of handle, the function writes an int. The range is within the memory.
            unsafe {
                api.cuMemGetHandleForAddressRange(
                    (&raw mut fd).cast(),
                    self.address,
                    length,
                    RANGE_HANDLE_DMA_BUF_FD,
                    flags,
                )
            }?;
            if fd < 0 {
                return Err(Error::Nothing { call: "cuMemGetHandleForAddressRange" });
            }
            // SAFETY: the driver opened the fd for the caller, which owns it.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        };
        if self.context.driver().version() < PCIE_FLAG_SINCE {
            return export(0);
        }
        match export(RANGE_FLAG_PCIE) {
            // GPUs that other devices reach only through PCIe reject the flag.
            Err(Error::Refused { code: INVALID_VALUE | NOT_SUPPORTED, .. }) => export(0),
            exported => exported,
        }
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        let Ok(api) = self.context.enter() else { return };
        // SAFETY: allocated in `new`, and not accessible after `self`.
        let _ = unsafe { api.cuMemFree_v2(self.address) };
    }
}

/// Kind of memory of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKind {
    /// Ordinary pages.
    Memory,
    /// A mapping of a device's MMIO.
    Io,
}

/// Memory of this process that is registered for a GPU, until dropped.
pub struct HostRegistration {
    host: NonNull<u8>,
    address: Address,
    context: Arc<Context>,
    is_registered: bool,
}

// SAFETY: the address is valid in every thread, and only passed to the driver.
unsafe impl Send for HostRegistration {}
// SAFETY: as above.
unsafe impl Sync for HostRegistration {}

impl HostRegistration {
    /// Registers memory and maps it for the GPU.
    ///
    /// # Safety
    /// `length_bytes` bytes at `host` must stay mapped until this is dropped, and no Rust reference to them may exist.
    ///
    /// # Errors
    /// The driver refused to register or to map the memory.
    pub unsafe fn new(
        context: &Arc<Context>,
        host: NonNull<u8>,
        length_bytes: usize,
        kind: HostKind,
    ) -> Result<Self, Error> {
        let flags = match kind {
            HostKind::Memory => HOST_REGISTER_DEVICE_MAP,
            HostKind::Io => HOST_REGISTER_DEVICE_MAP | HOST_REGISTER_IO_MEMORY,
        };
        let api = context.enter()?;
        let at: *mut c_void = host.as_ptr().cast();
        // SAFETY: the caller guarantees the range. `Drop` unregisters it.
        unsafe { api.cuMemHostRegister_v2(at, length_bytes, flags) }?;
        let mut this = Self { host, address: 0, context: Arc::clone(context), is_registered: true };
        // SAFETY: the range was just registered.
        unsafe { api.cuMemHostGetDevicePointer_v2(&raw mut this.address, at, 0) }?;
        Ok(this)
    }

    /// Returns the address of the memory on the GPU.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Unregisters the memory. Later calls do nothing.
    ///
    /// # Errors
    /// The driver refused to unregister the memory.
    pub fn unregister(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.is_registered) {
            return Ok(());
        }
        let api = self.context.enter()?;
        // SAFETY: registered in `new`. Users of the address borrow `self`.
        unsafe { api.cuMemHostUnregister(self.host.as_ptr().cast()) }
    }
}

impl Drop for HostRegistration {
    fn drop(&mut self) {
        let _ = self.unregister();
    }
}
