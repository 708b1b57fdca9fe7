//! Protection domains and memory regions.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use peerpath_exporter::HostMemory;

use super::backend::ffi;
use super::uverbs;
use super::{Context, check};

/// Every region may be read and written by the device, for this host and for its peer.
const ACCESS: u32 = ffi::ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0
    | ffi::ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0
    | ffi::ibv_access_flags::IBV_ACCESS_REMOTE_READ.0;

/// What a domain's regions allow beyond that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct AccessFlags {
    /// Atomic operations of the peer.
    pub(in crate::verbs) atomics: bool,
    /// Accesses in another order than they were asked for.
    pub(in crate::verbs) relaxed_ordering: bool,
}

impl AccessFlags {
    fn bits(self) -> u32 {
        let atomics = if self.atomics { ffi::ibv_access_flags::IBV_ACCESS_REMOTE_ATOMIC.0 } else { 0 };
        ACCESS | atomics | if self.relaxed_ordering { RELAXED_ORDERING } else { 0 }
    }
}

/// `IBV_ACCESS_RELAXED_ORDERING` (infiniband/verbs.h); devices that cannot do it may leave it aside.
const RELAXED_ORDERING: u32 = 1 << 20;

/// How a region came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) enum RegistrationCall {
    /// `ibv_reg_mr` of host memory.
    Memory,
    /// `ibv_reg_dmabuf_mr`.
    Provider,
    /// The kernel's ioctl, past a provider that has no dma-buf operation.
    UverbsIoctl,
}

impl RegistrationCall {
    /// The name in results.
    pub(in crate::verbs) fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "reg-mr",
            Self::Provider => "provider",
            Self::UverbsIoctl => "uverbs-ioctl",
        }
    }
}

/// What memory regions and queue pairs belong to: only those of one domain work together.
pub(in crate::verbs) struct ProtectionDomain {
    domain: NonNull<ffi::ibv_pd>,
    context: Arc<Context>,
    /// The kernel's number of the driver, which the ioctl wants; none where it is not known.
    driver_id: Option<u32>,
    access: u32,
}

// SAFETY: libibverbs locks its own state; a domain may be used from any thread, by several at once.
unsafe impl Send for ProtectionDomain {}
// SAFETY: as above.
unsafe impl Sync for ProtectionDomain {}

impl ProtectionDomain {
    /// Allocates one.
    pub(in crate::verbs) fn new(
        context: Arc<Context>,
        driver_id: Option<u32>,
        access: AccessFlags,
    ) -> io::Result<Self> {
        // SAFETY: the context is open.
        let domain = unsafe { ffi::ibv_alloc_pd(context.as_ptr()) };
        let domain = NonNull::new(domain).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { domain, context, driver_id, access: access.bits() })
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::ibv_pd {
        self.domain.as_ptr()
    }

    /// Whether a dma-buf could be registered at all, found out by registering none (an fd of -1).
    ///
    /// # Errors
    /// What any dma-buf would be refused with.
    pub(in crate::verbs) fn probe_dma_buf(&self) -> io::Result<()> {
        match self.register_fd(-1, 4096) {
            Ok(handle) => self.deregister(&handle),
            Err((_, refused)) => match refused.raw_os_error() {
                Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::ENOSYS | libc::ENOTTY) => Err(refused),
                // Only who takes dma-bufs looks at the fd (and answers EBADF).
                _ => Ok(()),
            },
        }
    }

    /// Registers a dma-buf from its start on; work requests address it from 0 on.
    ///
    /// # Errors
    /// The refusal, and of which mechanism it was.
    pub(in crate::verbs) fn register_dma_buf(
        self: &Arc<Self>,
        dma_buf: BorrowedFd<'_>,
        length_bytes: usize,
    ) -> Result<MemoryRegion, (RegistrationCall, io::Error)> {
        let handle = self.register_fd(dma_buf.as_raw_fd(), length_bytes)?;
        Ok(MemoryRegion { handle: Some(handle), base: 0, domain: Arc::clone(self), memory: None })
    }

    /// Registers host memory; work requests address it as this process does.
    pub(in crate::verbs) fn register_memory(self: &Arc<Self>, memory: HostMemory) -> io::Result<MemoryRegion> {
        let address = memory.address();
        // SAFETY: `HostMemory` promises that the memory is where it says for as long as it lives, and that nobody holds a
        // Rust reference into it; the region keeps it alive.
        let region = unsafe {
            ffi::ibv_reg_mr(self.as_ptr(), address.as_ptr().cast(), memory.length_bytes(), self.access.cast_signed())
        };
        let region = NonNull::new(region).ok_or_else(io::Error::last_os_error)?;
        // An address of this process, which fits.
        let base = address.as_ptr().expose_provenance() as u64;
        let handle = Some(Handle::Library(region, RegistrationCall::Memory));
        Ok(MemoryRegion { handle, base, domain: Arc::clone(self), memory: Some(memory) })
    }

    fn register_fd(&self, fd: libc::c_int, length_bytes: usize) -> Result<Handle, (RegistrationCall, io::Error)> {
        // SAFETY: the domain is allocated; the kernel looks at the fd and keeps a reference of its own.
        let region =
            unsafe { ffi::ibv_reg_dmabuf_mr(self.as_ptr(), 0, length_bytes, 0, fd, self.access.cast_signed()) };
        let refused = io::Error::last_os_error();
        if let Some(region) = NonNull::new(region) {
            return Ok(Handle::Library(region, RegistrationCall::Provider));
        }
        match self.driver_id {
            // The provider (or a libibverbs before 34) has no such operation; the kernel's driver may have one.
            Some(driver_id) if refused.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                let request = uverbs::Request {
                    // SAFETY: the domain is allocated, and its handle does not change.
                    domain_handle: unsafe { (*self.as_ptr()).handle },
                    length_bytes: length_bytes as u64,
                    base: 0,
                    fd,
                    access: self.access,
                };
                let region = uverbs::register_dma_buf(self.context.command_fd(), driver_id, &request);
                region
                    .map(|region| Handle::Kernel(region, driver_id))
                    .map_err(|refused| (RegistrationCall::UverbsIoctl, refused))
            }
            _ => Err((RegistrationCall::Provider, refused)),
        }
    }

    fn deregister(&self, handle: &Handle) -> io::Result<()> {
        match *handle {
            // SAFETY: registered by libibverbs; whoever calls this forgets the handle, so it happens once.
            Handle::Library(region, _) => check(unsafe { ffi::ibv_dereg_mr(region.as_ptr()) }),
            Handle::Kernel(region, driver_id) => uverbs::destroy(self.context.command_fd(), driver_id, region.handle),
        }
    }
}

impl Drop for ProtectionDomain {
    fn drop(&mut self) {
        // SAFETY: allocated by `ibv_alloc_pd`, freed once, and whatever was made of it held it and is gone.
        unsafe { ffi::ibv_dealloc_pd(self.as_ptr()) };
    }
}

/// Who knows the region.
enum Handle {
    Library(NonNull<ffi::ibv_mr>, RegistrationCall),
    Kernel(uverbs::KernelRegion, u32),
}

/// Memory that the device may use. Dropping it takes the registration back.
pub(in crate::verbs) struct MemoryRegion {
    /// None once it was taken back.
    handle: Option<Handle>,
    base: u64,
    domain: Arc<ProtectionDomain>,
    /// Host memory stays mapped as long as the device may use it. (A dma-buf is kept by the kernel.)
    memory: Option<HostMemory>,
}

// SAFETY: as for the domain; the region itself is only read.
unsafe impl Send for MemoryRegion {}
// SAFETY: as above.
unsafe impl Sync for MemoryRegion {}

/// How work requests name a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct Keys {
    /// The region's first address.
    pub(in crate::verbs) base: u64,
    /// For requests of this side.
    pub(in crate::verbs) local: u32,
    /// For requests of a peer.
    pub(in crate::verbs) remote: u32,
}

impl MemoryRegion {
    /// How it came to be.
    pub(in crate::verbs) fn mechanism(&self) -> RegistrationCall {
        match &self.handle {
            Some(Handle::Library(_, mechanism)) => *mechanism,
            _ => RegistrationCall::UverbsIoctl,
        }
    }

    /// How work requests name it. A region that was taken back has keys that every device refuses.
    pub(in crate::verbs) fn keys(&self) -> Keys {
        let (local, remote) = match &self.handle {
            // SAFETY: the region is registered, and its keys do not change.
            Some(Handle::Library(region, _)) => unsafe { ((*region.as_ptr()).lkey, (*region.as_ptr()).rkey) },
            Some(Handle::Kernel(region, _)) => (region.local_key, region.remote_key),
            None => (0, 0),
        };
        Keys { base: self.base, local, remote }
    }

    /// Takes the registration back and says whether that worked. Where it did not, the kernel ends it with the device.
    pub(in crate::verbs) fn deregister(mut self) -> io::Result<()> {
        let result = self.handle.take().map_or(Ok(()), |handle| self.domain.deregister(&handle));
        if result.is_err() {
            // The device may still use the memory: better leaked than handed to somebody else.
            std::mem::forget(self.memory.take());
        }
        result
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take()
            && self.domain.deregister(&handle).is_err()
        {
            std::mem::forget(self.memory.take());
        }
    }
}
