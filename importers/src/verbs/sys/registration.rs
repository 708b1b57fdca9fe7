//! Protection domains and memory regions.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use peerpath_exporter::HostMemory;

use super::backend::ffi;
use super::uverbs;
use super::{Context, check};

/// Access flags of every region: the device may read and write the memory, for local work requests and for those of the
/// peer.
const ACCESS: u32 = ffi::ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0
    | ffi::ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0
    | ffi::ibv_access_flags::IBV_ACCESS_REMOTE_READ.0;

/// Optional access flags of all regions of a protection domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct AccessFlags {
    /// Whether the peer may perform atomic operations.
    pub(in crate::verbs) atomics: bool,
    /// Whether the device may reorder its accesses to the memory.
    pub(in crate::verbs) relaxed_ordering: bool,
}

impl AccessFlags {
    fn bits(self) -> u32 {
        let atomics = if self.atomics { ffi::ibv_access_flags::IBV_ACCESS_REMOTE_ATOMIC.0 } else { 0 };
        ACCESS | atomics | if self.relaxed_ordering { RELAXED_ORDERING } else { 0 }
    }
}

/// `IBV_ACCESS_RELAXED_ORDERING` (infiniband/verbs.h). Devices without support ignore it.
const RELAXED_ORDERING: u32 = 1 << 20;

/// Call that registered a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) enum RegistrationCall {
    /// `ibv_reg_mr` of host memory.
    Memory,
    /// `ibv_reg_dmabuf_mr`.
    Provider,
    /// uverbs ioctl of the kernel, used if the user-space provider does not implement `ibv_reg_dmabuf_mr`.
    UverbsIoctl,
}

impl RegistrationCall {
    /// Returns the name of the call in results.
    pub(in crate::verbs) fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "reg-mr",
            Self::Provider => "provider",
            Self::UverbsIoctl => "uverbs-ioctl",
        }
    }
}

/// A protection domain. Only memory regions and queue pairs of the same domain work together.
pub(in crate::verbs) struct ProtectionDomain {
    domain: NonNull<ffi::ibv_pd>,
    context: Arc<Context>,
    /// Driver ID for the ioctl (`enum rdma_driver_id`), if known.
    driver_id: Option<u32>,
    access: u32,
}

// SAFETY: libibverbs locks its state, so several threads may use a domain at a time.
unsafe impl Send for ProtectionDomain {}
// SAFETY: as above.
unsafe impl Sync for ProtectionDomain {}

impl ProtectionDomain {
    /// Allocates a protection domain.
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

    /// Checks that the device can register dma-bufs, by a trial registration with fd -1.
    ///
    /// # Errors
    /// The device cannot register dma-bufs; the error is the errno.
    pub(in crate::verbs) fn probe_dma_buf(&self) -> io::Result<()> {
        match self.register_fd(-1, 4096) {
            Ok(handle) => self.deregister(&handle),
            Err((_, refused)) => match refused.raw_os_error() {
                Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::ENOSYS | libc::ENOTTY) => Err(refused),
                // If kernel and driver implement the call, they check the fd and return EBADF.
                _ => Ok(()),
            },
        }
    }

    /// Registers a dma-buf. Work requests address its first byte as 0.
    ///
    /// # Errors
    /// The library or the kernel refused the registration; the error holds the call and the errno.
    pub(in crate::verbs) fn register_dma_buf(
        self: &Arc<Self>,
        dma_buf: BorrowedFd<'_>,
        length_bytes: usize,
    ) -> Result<MemoryRegion, (RegistrationCall, io::Error)> {
        let handle = self.register_fd(dma_buf.as_raw_fd(), length_bytes)?;
        Ok(MemoryRegion { handle: Some(handle), base: 0, domain: Arc::clone(self), memory: None })
    }

    /// Registers host memory. Work requests use the addresses that the memory has in this process.
    pub(in crate::verbs) fn register_memory(self: &Arc<Self>, memory: HostMemory) -> io::Result<MemoryRegion> {
        let address = memory.address();
        // SAFETY: `HostMemory` keeps the memory mapped, without Rust references into it. The region holds the `HostMemory`.
        let region = unsafe {
            ffi::ibv_reg_mr(self.as_ptr(), address.as_ptr().cast(), memory.length_bytes(), self.access.cast_signed())
        };
        let region = NonNull::new(region).ok_or_else(io::Error::last_os_error)?;
        // A pointer has at most 64 bits.
        let base = address.as_ptr().expose_provenance() as u64;
        let handle = Some(Handle::Library(region, RegistrationCall::Memory));
        Ok(MemoryRegion { handle, base, domain: Arc::clone(self), memory: Some(memory) })
    }

    fn register_fd(&self, fd: libc::c_int, length_bytes: usize) -> Result<Handle, (RegistrationCall, io::Error)> {
        // SAFETY: the domain is allocated. The kernel checks the fd and holds its own reference.
        let region =
            unsafe { ffi::ibv_reg_dmabuf_mr(self.as_ptr(), 0, length_bytes, 0, fd, self.access.cast_signed()) };
        let refused = io::Error::last_os_error();
        if let Some(region) = NonNull::new(region) {
            return Ok(Handle::Library(region, RegistrationCall::Provider));
        }
        match self.driver_id {
            // The provider, or a libibverbs older than version 34, does not implement the call. The kernel driver may.
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
            // SAFETY: registered by libibverbs. Callers drop the handle, so it is deregistered once.
            Handle::Library(region, _) => check(unsafe { ffi::ibv_dereg_mr(region.as_ptr()) }),
            Handle::Kernel(region, driver_id) => uverbs::destroy(self.context.command_fd(), driver_id, region.handle),
        }
    }
}

impl Drop for ProtectionDomain {
    fn drop(&mut self) {
        // SAFETY: allocated by `ibv_alloc_pd` and freed once. Each object of the domain holds it, so none exists anymore.
        unsafe { ffi::ibv_dealloc_pd(self.as_ptr()) };
    }
}

/// Handle of a region, by the call that registered it.
enum Handle {
    Library(NonNull<ffi::ibv_mr>, RegistrationCall),
    Kernel(uverbs::KernelRegion, u32),
}

/// A memory region. Dropping it deregisters the memory.
pub(in crate::verbs) struct MemoryRegion {
    /// `None` after deregistration.
    handle: Option<Handle>,
    base: u64,
    domain: Arc<ProtectionDomain>,
    /// Host memory, kept mapped while the device may access it. `None` for a dma-buf, because the kernel holds a reference to
    /// the dma-buf.
    memory: Option<HostMemory>,
}

// SAFETY: as for `ProtectionDomain`. Shared access only reads the region.
unsafe impl Send for MemoryRegion {}
// SAFETY: as above.
unsafe impl Sync for MemoryRegion {}

/// Address and keys of a region in work requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::verbs) struct Keys {
    /// Address of the first byte.
    pub(in crate::verbs) base: u64,
    /// Local key (lkey), for local work requests.
    pub(in crate::verbs) local: u32,
    /// Remote key (rkey), for work requests of the peer.
    pub(in crate::verbs) remote: u32,
}

impl MemoryRegion {
    /// Returns the call that registered the region.
    pub(in crate::verbs) fn mechanism(&self) -> RegistrationCall {
        match &self.handle {
            Some(Handle::Library(_, mechanism)) => *mechanism,
            _ => RegistrationCall::UverbsIoctl,
        }
    }

    /// Returns the address and the keys. After deregistration, the keys are 0, which devices reject.
    pub(in crate::verbs) fn keys(&self) -> Keys {
        let (local, remote) = match &self.handle {
            // SAFETY: the region is registered, and its keys do not change.
            Some(Handle::Library(region, _)) => unsafe { ((*region.as_ptr()).lkey, (*region.as_ptr()).rkey) },
            Some(Handle::Kernel(region, _)) => (region.local_key, region.remote_key),
            None => (0, 0),
        };
        Keys { base: self.base, local, remote }
    }

    /// Deregisters the memory. If that fails, the kernel deregisters it when the device is closed.
    pub(in crate::verbs) fn deregister(mut self) -> io::Result<()> {
        let result = self.handle.take().map_or(Ok(()), |handle| self.domain.deregister(&handle));
        if result.is_err() {
            // The device may still access the memory, so leak it instead of freeing it.
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
