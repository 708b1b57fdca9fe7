//! The bare ioctls. Each request structure is filled in before the timed call.
#![allow(unsafe_code)] // The example measures the system calls themselves.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use iommufd_bindings as uapi;

nix::ioctl_readwrite_bad!(ioas_map_file, nix::request_code_none!(uapi::IOMMUFD_TYPE, 0x8f), uapi::iommu_ioas_map_file);
nix::ioctl_readwrite_bad!(ioas_unmap, nix::request_code_none!(uapi::IOMMUFD_TYPE, 0x86), uapi::iommu_ioas_unmap);

/// Request for `IOMMU_IOAS_MAP_FILE`.
pub(crate) struct Map<'fd> {
    iommufd: BorrowedFd<'fd>,
    _dma_buf: BorrowedFd<'fd>,
    request: uapi::iommu_ioas_map_file,
}

impl<'fd> Map<'fd> {
    pub(crate) fn new((iommufd, ioas_id): (BorrowedFd<'fd>, u32), dma_buf: BorrowedFd<'fd>, length: u64) -> Self {
        let flags = uapi::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE
            | uapi::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE;
        let fd = dma_buf.as_raw_fd();
        let request = uapi::iommu_ioas_map_file { size: 40, flags, ioas_id, fd, start: 0, length, iova: 0 };
        Self { iommufd, _dma_buf: dma_buf, request }
    }

    #[inline]
    pub(crate) fn call(&mut self) -> io::Result<()> {
        // SAFETY: the kernel reads and writes `size` bytes, which is the structure's size, and keeps no pointer.
        unsafe { ioas_map_file(self.iommufd.as_raw_fd(), &raw mut self.request) }?;
        Ok(())
    }
}

/// Request for `IOMMU_IOAS_UNMAP` of one mapping.
pub(crate) struct Unmap<'fd> {
    iommufd: BorrowedFd<'fd>,
    request: uapi::iommu_ioas_unmap,
}

impl<'fd> Unmap<'fd> {
    pub(crate) fn of(map: &Map<'fd>) -> Self {
        let uapi::iommu_ioas_map_file { ioas_id, iova, length, .. } = map.request;
        Self { iommufd: map.iommufd, request: uapi::iommu_ioas_unmap { size: 24, ioas_id, iova, length } }
    }

    #[inline]
    pub(crate) fn call(&mut self) -> io::Result<()> {
        // SAFETY: as for `Map::call`.
        unsafe { ioas_unmap(self.iommufd.as_raw_fd(), &raw mut self.request) }?;
        Ok(())
    }
}
