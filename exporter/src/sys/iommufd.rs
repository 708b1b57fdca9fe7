//! The one iommufd ioctl that an exporter needs. Numbers and structures: include/uapi/linux/iommufd.h.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use iommufd_bindings as uapi;

const NUMBER_IOAS_ALLOC: nix::sys::ioctl::ioctl_num_type = nix::request_code_none!(uapi::IOMMUFD_TYPE, 0x81);

nix::ioctl_readwrite_bad!(ioas_alloc, NUMBER_IOAS_ALLOC, uapi::iommu_ioas_alloc);

const _: () = assert!(size_of::<uapi::iommu_ioas_alloc>() == 12);

/// Makes an address space and returns its id; it goes with the iommufd.
pub(crate) fn allocate_ioas(iommufd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut request = uapi::iommu_ioas_alloc { size: 12, flags: 0, out_ioas_id: 0 };
    // SAFETY: the kernel reads and writes `size` bytes, which is the structure's size, and keeps no pointer.
    unsafe { ioas_alloc(iommufd.as_raw_fd(), &raw mut request) }?;
    Ok(request.out_ioas_id)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_is_that_of_the_kernel() {
        assert_eq!(super::NUMBER_IOAS_ALLOC, 0x3b81);
    }
}
