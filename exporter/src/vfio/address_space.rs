//! I/O address spaces (IOAS) of iommufd. The IOMMU translates the accesses of an attached device through them.

use std::borrow::Borrow;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, PoisonError};

use super::Device;
use super::cdev::Iommufd;
use crate::sys::iommufd::{self, Access};
use crate::sys::vfio as sys;
use crate::{Error, HostMemory, page_bytes};

/// I/O address space with one device attached. The IOMMU translates every access of the device through it, and blocks
/// accesses to addresses that are not mapped.
#[derive(Debug)]
pub struct AddressSpace {
    ioas_id: u32,
    iommufd: Arc<Iommufd>,
    device: Arc<Device>,
}

impl AddressSpace {
    /// Returns the address space of a device that was opened through the cdev interface. The first call allocates it and
    /// attaches only this device, so a mapping affects only this device. The kernel frees it with the iommufd.
    ///
    /// # Errors
    /// [`Error::OtherVfioInterface`] if the device was opened through a group, or [`Error::AttachIommufd`].
    pub fn of(device: &Arc<Device>) -> Result<Arc<Self>, Error> {
        let mut own = device.address_space.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(space) = own.upgrade() {
            return Ok(space);
        }
        let space = Arc::new(Self::new(Arc::clone(device))?);
        *own = Arc::downgrade(&space);
        Ok(space)
    }

    fn new(device: Arc<Device>) -> Result<Self, Error> {
        let iommufd = device.iommufd()?;
        let bdf = device.bdf();
        let failed = |operation| move |source| Error::AttachIommufd { bdf, operation, source };
        let ioas_id = iommufd::allocate_ioas(iommufd.fd()).map_err(failed("allocate an address space"))?;
        sys::attach_ioas(device.fd(), ioas_id).map_err(failed("attach the device to an address space"))?;
        Ok(Self { ioas_id, iommufd, device })
    }

    /// Returns the attached device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Returns the iommufd and the ID of the IOAS, for ioctls that this crate does not wrap.
    #[inline]
    pub fn raw(&self) -> (BorrowedFd<'_>, u32) {
        (self.iommufd.fd(), self.ioas_id)
    }

    /// Maps the first `length_bytes` bytes of a dma-buf (`IOMMU_IOAS_MAP_FILE`). Only the kernel checks the arguments.
    ///
    /// # Errors
    /// The ioctl failed; the error is its errno.
    #[inline]
    pub fn map_dma_buf<S: Borrow<Self>>(
        space: S,
        dma_buf: BorrowedFd<'_>,
        length_bytes: u64,
        access: Access,
    ) -> io::Result<Mapped<S>> {
        let (iommufd, ioas_id) = space.borrow().raw();
        let iova = iommufd::map_file(iommufd, ioas_id, dma_buf, length_bytes, access)?;
        Ok(Mapped { space, iova, length_bytes, is_live: true, _memory: None })
    }

    /// Maps memory of this process (`IOMMU_IOAS_MAP`), rounded up to whole pages.
    ///
    /// # Errors
    /// The ioctl failed; the error is its errno.
    pub fn map_memory<S: Borrow<Self>>(space: S, memory: HostMemory) -> io::Result<Mapped<S>> {
        let length_bytes = (memory.length_bytes() as u64).next_multiple_of(page_bytes());
        let (iommufd, ioas_id) = space.borrow().raw();
        let iova = iommufd::map_memory(iommufd, ioas_id, &memory, length_bytes)?;
        Ok(Mapped { space, iova, length_bytes, is_live: true, _memory: Some(memory) })
    }
}

/// Memory mapped for a device. Dropping the value unmaps the memory.
///
/// `S` keeps the address space alive. A caller that measures mappings passes a plain reference, because cloning an `Arc` would
/// add to the measured time.
pub struct Mapped<S: Borrow<AddressSpace> = Arc<AddressSpace>> {
    // `drop` unmaps through `space` before `_memory` is freed.
    space: S,
    iova: u64,
    length_bytes: u64,
    is_live: bool,
    _memory: Option<HostMemory>,
}

impl<S: Borrow<AddressSpace>> Mapped<S> {
    /// Returns the address space of the mapping.
    pub fn space(&self) -> &S {
        &self.space
    }

    /// Returns the I/O virtual address of the first byte.
    pub fn iova(&self) -> u64 {
        self.iova
    }

    /// Returns the mapped length in bytes.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Unmaps the memory. Unlike drop, this method reports errors. Later calls do nothing.
    ///
    /// # Errors
    /// The ioctl failed, or the kernel unmapped a different number of bytes.
    #[inline]
    pub fn unmap(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_live, false) {
            return Ok(());
        }
        let (iommufd, ioas_id) = self.space.borrow().raw();
        let unmapped = iommufd::unmap(iommufd, ioas_id, self.iova, self.length_bytes)?;
        if unmapped == self.length_bytes {
            return Ok(());
        }
        Err(io::Error::other(format!("the kernel unmapped {unmapped} of {} bytes", self.length_bytes)))
    }
}

impl<S: Borrow<AddressSpace>> Drop for Mapped<S> {
    #[inline]
    fn drop(&mut self) {
        // Ignore errors, because the kernel removes all mappings when the iommufd is closed.
        let _ = self.unmap();
    }
}
