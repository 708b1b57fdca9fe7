//! Ioctls of iommufd. Numbers and structures: include/uapi/linux/iommufd.h.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use iommufd_bindings as uapi;

use crate::HostMemory;

/// Returns the ioctl number `_IO(';', n)`. iommufd's numbers encode no size, because every structure has a size field.
const fn number(n: u32) -> nix::sys::ioctl::ioctl_num_type {
    nix::request_code_none!(uapi::IOMMUFD_TYPE, n)
}

mod raw {
    use super::{number, uapi};

    nix::ioctl_readwrite_bad!(ioas_alloc, number(uapi::IOMMUFD_CMD_IOAS_ALLOC), uapi::iommu_ioas_alloc);
    nix::ioctl_readwrite_bad!(ioas_map, number(uapi::IOMMUFD_CMD_IOAS_MAP), uapi::iommu_ioas_map);
    nix::ioctl_readwrite_bad!(ioas_unmap, number(uapi::IOMMUFD_CMD_IOAS_UNMAP), uapi::iommu_ioas_unmap);
    nix::ioctl_readwrite_bad!(ioas_map_file, number(uapi::IOMMUFD_CMD_IOAS_MAP_FILE), uapi::iommu_ioas_map_file);
}

/// Checks the sizes that requests pass to the kernel. The bindings crate checks the rest of the layout.
const _: () = {
    assert!(size_of::<uapi::iommu_ioas_alloc>() == 12);
    assert!(size_of::<uapi::iommu_ioas_map>() == 40);
    assert!(size_of::<uapi::iommu_ioas_unmap>() == 24);
    assert!(size_of::<uapi::iommu_ioas_map_file>() == 40);
};

/// Permissions of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The device may read.
    pub read: bool,
    /// The device may write.
    pub write: bool,
}

impl Access {
    /// The device may read and write.
    pub const BOTH: Self = Self { read: true, write: true };
}

fn flags(access: Access) -> u32 {
    let flag = |wanted: bool, flag| if wanted { flag } else { 0 };
    flag(access.read, uapi::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE)
        | flag(access.write, uapi::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE)
}

/// Allocates an I/O address space (IOAS) and returns its ID. The kernel frees it when the iommufd is closed.
pub(crate) fn allocate_ioas(iommufd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut request = uapi::iommu_ioas_alloc { size: 12, flags: 0, out_ioas_id: 0 };
    // SAFETY: the kernel reads and writes `size` bytes, which is the structure's size, and keeps no pointer.
    unsafe { raw::ioas_alloc(iommufd.as_raw_fd(), &raw mut request) }?;
    Ok(request.out_ioas_id)
}

/// Maps the first `length_bytes` of a dma-buf and returns the IOVA that the kernel chose.
#[inline]
pub(crate) fn map_file(
    iommufd: BorrowedFd<'_>,
    ioas_id: u32,
    file: BorrowedFd<'_>,
    length_bytes: u64,
    access: Access,
) -> io::Result<u64> {
    let mut request = uapi::iommu_ioas_map_file {
        size: 40,
        flags: flags(access),
        ioas_id,
        fd: file.as_raw_fd(),
        start: 0,
        length: length_bytes,
        iova: 0,
    };
    // SAFETY: the kernel reads and writes `size` bytes, which is the structure's size, keeps no pointer, and takes its own
    // reference to the file.
    unsafe { raw::ioas_map_file(iommufd.as_raw_fd(), &raw mut request) }?;
    Ok(request.iova)
}

/// Pins and maps whole pages of this process and returns the IOVA that the kernel chose. The pages stay allocated even if this
/// process unmaps them.
pub(crate) fn map_memory(
    iommufd: BorrowedFd<'_>,
    ioas_id: u32,
    memory: &HostMemory,
    length_bytes: u64,
) -> io::Result<u64> {
    let mut request = uapi::iommu_ioas_map {
        size: 40,
        flags: flags(Access::BOTH),
        ioas_id,
        user_va: memory.address().addr().get() as u64,
        length: length_bytes,
        ..uapi::iommu_ioas_map::default()
    };
    // SAFETY: the kernel reads and writes `size` bytes, which is the structure's size. A device may change the bytes at
    // any time, which `HostMemory` permits: this process accesses them by volatile copies only.
    unsafe { raw::ioas_map(iommufd.as_raw_fd(), &raw mut request) }?;
    Ok(request.iova)
}

/// Unmaps an address range and returns the number of unmapped bytes.
#[inline]
pub(crate) fn unmap(iommufd: BorrowedFd<'_>, ioas_id: u32, iova: u64, length_bytes: u64) -> io::Result<u64> {
    let mut request = uapi::iommu_ioas_unmap { size: 24, ioas_id, iova, length: length_bytes };
    // SAFETY: the kernel reads and writes `size` bytes, which is the structure's size, and keeps no pointer.
    unsafe { raw::ioas_unmap(iommufd.as_raw_fd(), &raw mut request) }?;
    Ok(request.length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ioctl_numbers_match_the_kernel() {
        let numbers = [
            uapi::IOMMUFD_CMD_IOAS_ALLOC,
            uapi::IOMMUFD_CMD_IOAS_MAP,
            uapi::IOMMUFD_CMD_IOAS_UNMAP,
            uapi::IOMMUFD_CMD_IOAS_MAP_FILE,
        ];
        assert_eq!(numbers.map(number), [0x3b81, 0x3b85, 0x3b86, 0x3b8f]);
    }

    #[test]
    fn flags_match_the_permissions() {
        assert_eq!(flags(Access { read: false, write: false }), 0);
        assert_eq!(flags(Access { read: false, write: true }), 2);
        assert_eq!(flags(Access { read: true, write: false }), 4);
        assert_eq!(flags(Access::BOTH), 6);
    }
}
