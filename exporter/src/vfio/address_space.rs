//! An I/O address space (IOAS) of a device's own: what is mapped in it, the device reaches, and nothing else.

use std::borrow::Borrow;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, PoisonError};

use super::Device;
use super::cdev::Iommufd;
use crate::sys::{iommufd, vfio as sys};
use crate::{Error, HostMemory, page_bytes};

/// What a device may do with memory that is mapped for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Read it.
    pub read: bool,
    /// Write it.
    pub write: bool,
}

impl Access {
    /// Both.
    pub const BOTH: Self = Self { read: true, write: true };
}

/// An address space with one device attached. The IOMMU translates every access of the device by it, and blocks what is
/// not mapped.
#[derive(Debug)]
pub struct AddressSpace {
    ioas_id: u32,
    iommufd: Arc<Iommufd>,
    device: Arc<Device>,
}

impl AddressSpace {
    /// The address space of a device that was opened through the cdev interface. The first call attaches the device to an
    /// empty address space of its own, so that a mapping changes the page table of no other device. The kernel frees it
    /// with the iommufd.
    ///
    /// # Errors
    /// The device was opened through the group interface, or the kernel refused.
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

    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// What a bare ioctl on it needs: the iommufd and the number of the IOAS.
    #[inline]
    pub fn raw(&self) -> (BorrowedFd<'_>, u32) {
        (self.iommufd.fd(), self.ioas_id)
    }

    /// Maps the front of a dma-buf (`IOMMU_IOAS_MAP_FILE`), just as given: the kernel judges it, not we.
    ///
    /// # Errors
    /// The kernel's answer.
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

    /// Maps memory of this process (`IOMMU_IOAS_MAP`), in whole pages.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn map_memory<S: Borrow<Self>>(space: S, memory: HostMemory) -> io::Result<Mapped<S>> {
        let length_bytes = (memory.length_bytes() as u64).next_multiple_of(page_bytes());
        let (iommufd, ioas_id) = space.borrow().raw();
        let iova = iommufd::map_memory(iommufd, ioas_id, &memory, length_bytes)?;
        Ok(Mapped { space, iova, length_bytes, is_live: true, _memory: Some(memory) })
    }
}

/// Memory that the device reaches at an address, until this is dropped. Whatever keeps the address space alive may hold it:
/// one reference that somebody has anyway, where counting another would be time that is measured.
pub struct Mapped<S: Borrow<AddressSpace> = Arc<AddressSpace>> {
    // Unmapped before the memory may go.
    space: S,
    iova: u64,
    length_bytes: u64,
    is_live: bool,
    _memory: Option<HostMemory>,
}

impl<S: Borrow<AddressSpace>> Mapped<S> {
    /// What keeps the address space alive.
    pub fn space(&self) -> &S {
        &self.space
    }

    /// Where the device finds it.
    pub fn iova(&self) -> u64 {
        self.iova
    }

    /// How much of it is mapped.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Takes the mapping back ahead of its end and says whether that worked; done once, it is done.
    ///
    /// # Errors
    /// The kernel's answer.
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
        Err(io::Error::other(format!("{unmapped} of {} bytes were unmapped", self.length_bytes)))
    }
}

impl<S: Borrow<AddressSpace>> Drop for Mapped<S> {
    #[inline]
    fn drop(&mut self) {
        // Best effort: the kernel unmaps everything when the iommufd is closed.
        let _ = self.unmap();
    }
}
