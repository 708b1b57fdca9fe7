//! Memory of a GPU, and memory of this process that a GPU reaches.

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

/// Memory of a GPU is made in blocks of this length: shorter pieces of one would not begin on pages, as dma-bufs have to.
const BLOCK_BYTES: u64 = 2 << 20;
/// The first version whose dma-bufs may be told to be mapped through PCIe.
const PCIE_FLAG_SINCE: Version = Version { major: 12, minor: 8 };

/// Memory of a GPU, freed when dropped.
pub struct DeviceMemory {
    address: Address,
    length_bytes: u64,
    context: Arc<Context>,
}

impl DeviceMemory {
    /// Allocates.
    ///
    /// # Errors
    /// The GPU has not as much.
    pub fn new(context: &Arc<Context>, length_bytes: u64) -> Result<Self, Error> {
        let api = context.enter()?;
        let bytes = length_bytes.checked_next_multiple_of(BLOCK_BYTES).and_then(|bytes| usize::try_from(bytes).ok());
        let mut address = 0;
        // SAFETY: it writes an address, which is freed when this is dropped.
        unsafe { api.cuMemAlloc_v2(&raw mut address, bytes.unwrap_or(usize::MAX)) }?;
        if address == 0 {
            return Err(Error::Nothing { call: "cuMemAlloc_v2" });
        }
        Ok(Self { address, length_bytes, context: Arc::clone(context) })
    }

    /// Its length.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Where the GPU has it.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Whose it is.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Copies out, by the driver; returns when all is there.
    ///
    /// # Errors
    /// The driver failed. Nothing is copied beyond the end.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let from = self.at(offset, into.len())?;
        let api = self.context.enter()?;
        // SAFETY: `at` has seen that the span lies within the memory, which lives as long as `self`; `into` is borrowed for
        // the call, which returns when the copy is made.
        unsafe { api.cuMemcpyDtoH_v2(into.as_mut_ptr().cast(), from, into.len()) }
    }

    /// Copies in, by the driver; returns when all is there.
    ///
    /// # Errors
    /// As [`DeviceMemory::read`].
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), Error> {
        let to = self.at(offset, from.len())?;
        let api = self.context.enter()?;
        // SAFETY: as in `read`; what is not yet there when the call returns has left `from`.
        unsafe { api.cuMemcpyHtoD_v2(to, from.as_ptr().cast(), from.len()) }?;
        // Queues of ours do not wait for it by themselves.
        // SAFETY: it only waits.
        unsafe { api.cuCtxSynchronize() }
    }

    fn at(&self, offset: u64, length: usize) -> Result<Address, Error> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.length_bytes);
        let outside = Error::Refused { call: "a copy", code: INVALID_VALUE, name: "a span outside of the memory" };
        end.map(|_| self.address + offset).ok_or(outside)
    }

    /// Its front as a dma-buf, to be mapped through PCIe where the driver can be told so. Copies of the driver into it are
    /// from then on done when they return, as other devices that look at it need it.
    ///
    /// # Errors
    /// The driver gives none.
    pub fn dma_buf(&self, length_bytes: u64) -> Result<OwnedFd, Error> {
        let length = usize::try_from(length_bytes.min(self.length_bytes)).unwrap_or(usize::MAX);
        let api = self.context.enter()?;
        let one = 1_u32;
        // SAFETY: it reads a number of 32 bits; the memory is ours.
        unsafe { api.cuPointerSetAttribute((&raw const one).cast(), POINTER_ATTRIBUTE_SYNC_MEMOPS, self.address) }?;
        let export = |flags| {
            let mut fd: RawFd = -1;
            // SAFETY: for this kind of handle it writes an int; the span is the front of the memory.
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
            // SAFETY: the driver has just opened it for us and keeps none of it.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        };
        if self.context.driver().version() < PCIE_FLAG_SINCE {
            return export(0);
        }
        match export(RANGE_FLAG_PCIE) {
            // A GPU without another way than PCIe has no use for the flag.
            Err(Error::Refused { code: INVALID_VALUE | NOT_SUPPORTED, .. }) => export(0),
            exported => exported,
        }
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        let Ok(api) = self.context.enter() else { return };
        // SAFETY: allocated by us, and nobody can use it after us.
        let _ = unsafe { api.cuMemFree_v2(self.address) };
    }
}

/// What memory of this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKind {
    /// Pages.
    Memory,
    /// A mapping of a device's memory.
    Io,
}

/// Memory of this process that a GPU reaches, until dropped.
pub struct HostRegistration {
    host: NonNull<u8>,
    address: Address,
    context: Arc<Context>,
    is_registered: bool,
}

// SAFETY: the address means the same in every thread and is only handed back to the driver.
unsafe impl Send for HostRegistration {}
// SAFETY: as above.
unsafe impl Sync for HostRegistration {}

impl HostRegistration {
    /// Registers it and maps it for the GPU.
    ///
    /// # Safety
    /// From `host` on so many bytes have to stay mapped until this is dropped, and no Rust reference to them may exist.
    ///
    /// # Errors
    /// The driver refuses.
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
        // SAFETY: the caller vouches for the span; it is taken back when this is dropped.
        unsafe { api.cuMemHostRegister_v2(at, length_bytes, flags) }?;
        let mut this = Self { host, address: 0, context: Arc::clone(context), is_registered: true };
        // SAFETY: the span was just registered.
        unsafe { api.cuMemHostGetDevicePointer_v2(&raw mut this.address, at, 0) }?;
        Ok(this)
    }

    /// Where the GPU finds it.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Takes the registration back, once.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn unregister(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.is_registered) {
            return Ok(());
        }
        let api = self.context.enter()?;
        // SAFETY: registered by us, and whoever used it borrowed this.
        unsafe { api.cuMemHostUnregister(self.host.as_ptr().cast()) }
    }
}

impl Drop for HostRegistration {
    fn drop(&mut self) {
        let _ = self.unregister();
    }
}
