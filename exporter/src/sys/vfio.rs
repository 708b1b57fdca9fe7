//! Ioctls of VFIO. Numbers and structures: include/uapi/linux/vfio.h.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use vfio_bindings::bindings::vfio as uapi;

use super::adopt;
use crate::BarRange;

/// Returns the ioctl number `_IO(';', 100 + n)`. VFIO's numbers encode no size.
const fn number(n: u32) -> nix::sys::ioctl::ioctl_num_type {
    nix::request_code_none!(uapi::VFIO_TYPE, uapi::VFIO_BASE + n)
}

mod raw {
    use super::{number, uapi};
    use std::ffi::c_char;

    nix::ioctl_none_bad!(get_api_version, number(0));
    nix::ioctl_write_int_bad!(check_extension, number(1));
    nix::ioctl_write_int_bad!(set_iommu, number(2));
    nix::ioctl_readwrite_bad!(group_get_status, number(3), uapi::vfio_group_status);
    nix::ioctl_write_ptr_bad!(group_set_container, number(4), std::ffi::c_int);
    nix::ioctl_write_ptr_bad!(group_get_device_fd, number(6), c_char);
    nix::ioctl_readwrite_bad!(device_get_info, number(7), uapi::vfio_device_info);
    nix::ioctl_readwrite_bad!(device_get_region_info, number(8), uapi::vfio_region_info);
    nix::ioctl_write_ptr_bad!(device_set_irqs, number(10), u32);
    nix::ioctl_none_bad!(device_reset, number(11));
    nix::ioctl_readwrite_bad!(device_get_pci_hot_reset_info, number(12), u32);
    nix::ioctl_write_ptr_bad!(device_pci_hot_reset, number(13), u32);
    nix::ioctl_write_ptr_bad!(device_feature, number(17), u64);
    nix::ioctl_readwrite_bad!(device_bind_iommufd, number(18), uapi::vfio_device_bind_iommufd);
    nix::ioctl_readwrite_bad!(device_attach_iommufd_pt, number(19), uapi::vfio_device_attach_iommufd_pt);
}

/// Checks the sizes that requests pass to the kernel in `argsz`. The bindings crate checks the rest of the layout.
const _: () = {
    assert!(size_of::<uapi::vfio_group_status>() == 8);
    assert!(size_of::<uapi::vfio_device_info>() == 24);
    assert!(size_of::<uapi::vfio_region_info>() == 32);
    assert!(size_of::<uapi::vfio_device_bind_iommufd>() == 24);
    assert!(size_of::<uapi::vfio_device_attach_iommufd_pt>() == 16);
    assert!(size_of::<uapi::vfio_device_feature>() == 8);
    assert!(size_of::<uapi::vfio_device_feature_dma_buf>() == 16);
    assert!(size_of::<uapi::vfio_region_dma_range>() == 16);
    assert!(size_of::<uapi::vfio_region_info_cap_sparse_mmap>() == 16);
    assert!(size_of::<uapi::vfio_irq_set>() == 20);
    assert!(size_of::<uapi::vfio_pci_hot_reset_info>() == 4 * HOT_RESET_HEADER_WORDS);
    assert!(size_of::<uapi::vfio_pci_dependent_device>() == 4 * AFFECTED_WORDS);
    assert!(size_of::<uapi::vfio_pci_hot_reset>() == 4 * HOT_RESET_HEADER_WORDS);
};

fn argsz<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(u32::MAX)
}

/// Whether the container has API version 0 and offers this IOMMU type.
pub(crate) fn container_offers(container: BorrowedFd<'_>, iommu: u32) -> io::Result<bool> {
    // SAFETY: both ioctls take no pointer; the fd is open while it is borrowed.
    let version = unsafe { raw::get_api_version(container.as_raw_fd()) }?;
    // SAFETY: as above.
    let offered = unsafe { raw::check_extension(container.as_raw_fd(), iommu.cast_signed()) }?;
    Ok(version.cast_unsigned() == uapi::VFIO_API_VERSION && offered > 0)
}

/// Sets the IOMMU type of a container (`VFIO_SET_IOMMU`).
pub(crate) fn set_iommu(container: BorrowedFd<'_>, iommu: u32) -> io::Result<()> {
    // SAFETY: the ioctl takes a number, no pointer; the fd is open while it is borrowed.
    unsafe { raw::set_iommu(container.as_raw_fd(), iommu.cast_signed()) }?;
    Ok(())
}

/// Returns the flags of a group (`VFIO_GROUP_FLAGS_*`).
pub(crate) fn group_flags(group: BorrowedFd<'_>) -> io::Result<u32> {
    let mut status = uapi::vfio_group_status { argsz: argsz::<uapi::vfio_group_status>(), flags: 0 };
    // SAFETY: the kernel writes at most `argsz` bytes, which is the size of `status`, and keeps no pointer.
    unsafe { raw::group_get_status(group.as_raw_fd(), &raw mut status) }?;
    Ok(status.flags)
}

/// Adds a group to a container (`VFIO_GROUP_SET_CONTAINER`).
pub(crate) fn group_set_container(group: BorrowedFd<'_>, container: BorrowedFd<'_>) -> io::Result<()> {
    let fd = container.as_raw_fd();
    // SAFETY: the kernel reads one int, which lives on this stack until the call returns.
    unsafe { raw::group_set_container(group.as_raw_fd(), &raw const fd) }?;
    Ok(())
}

/// Opens the device with this name in the group.
pub(crate) fn group_device(group: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    // SAFETY: the kernel reads a string that ends with NUL and lives until the call returns.
    let fd = unsafe { raw::group_get_device_fd(group.as_raw_fd(), name.as_ptr()) }?;
    adopt(fd)
}

/// Returns the flags of a device (`VFIO_DEVICE_FLAGS_*`) and its number of regions.
pub(crate) fn device_info(device: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut info =
        uapi::vfio_device_info { argsz: argsz::<uapi::vfio_device_info>(), ..uapi::vfio_device_info::default() };
    // SAFETY: the kernel writes at most `argsz` bytes, which is the size of `info`, and keeps no pointer.
    unsafe { raw::device_get_info(device.as_raw_fd(), &raw mut info) }?;
    Ok((info.flags, info.num_regions))
}

/// Description of a region that the kernel returns (`VFIO_DEVICE_GET_REGION_INFO`).
#[derive(Debug, Clone, Default)]
pub(crate) struct RegionInfo {
    /// Flags of the region (`VFIO_REGION_INFO_FLAG_*`).
    pub(crate) flags: u32,
    pub(crate) size_bytes: u64,
    /// Offset of the region in the device's file descriptor, in bytes.
    pub(crate) fd_offset: u64,
    /// All bytes of the description: the structure and its list of capabilities.
    pub(crate) bytes: Vec<u8>,
    /// Offset of the first capability in `bytes`. Zero if the region has no capabilities.
    pub(crate) capabilities_at: u32,
}

/// Maximum size of a description that this module accepts from the kernel. Real descriptions are far smaller.
const REGION_INFO_LIMIT_BYTES: u32 = 1 << 20;

/// Reads the description of a region with its capabilities.
pub(crate) fn region_info(device: BorrowedFd<'_>, index: u32) -> io::Result<RegionInfo> {
    let mut size = argsz::<uapi::vfio_region_info>();
    loop {
        // Use `u64` elements to align the structure.
        let mut words = vec![0_u64; size.div_ceil(8) as usize];
        let at = words.as_mut_ptr().cast::<uapi::vfio_region_info>();
        let request = uapi::vfio_region_info { argsz: size, index, ..uapi::vfio_region_info::default() };
        // SAFETY: `words` has at least `size` bytes, which is at least the size of the structure, and u64 has its alignment.
        unsafe { at.write(request) };
        // SAFETY: the kernel reads and writes at most `argsz` bytes, which `words` has, and keeps no pointer.
        unsafe { raw::device_get_region_info(device.as_raw_fd(), at) }?;
        // SAFETY: still within `words`; every bit pattern is a valid structure of integers.
        let info = unsafe { at.read() };
        if info.argsz > size && info.argsz <= REGION_INFO_LIMIT_BYTES {
            size = info.argsz;
            continue;
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        return Ok(RegionInfo {
            flags: info.flags,
            size_bytes: info.size,
            fd_offset: info.offset,
            bytes,
            capabilities_at: if info.flags & uapi::VFIO_REGION_INFO_FLAG_CAPS != 0 { info.cap_offset } else { 0 },
        });
    }
}

/// Makes the kernel signal an eventfd when it requests the release of the device (`VFIO_PCI_REQ_IRQ_INDEX`). The kernel holds
/// its own reference to the eventfd until the device is closed.
pub(crate) fn signal_requests(device: BorrowedFd<'_>, event: BorrowedFd<'_>) -> io::Result<()> {
    let request = request_interrupt(event.as_raw_fd());
    // SAFETY: the kernel reads `argsz` bytes, which is the size of `request`, and keeps no pointer.
    unsafe { raw::device_set_irqs(device.as_raw_fd(), request.as_ptr()) }?;
    Ok(())
}

/// Creates a `vfio_irq_set`, followed by the eventfd of the request interrupt. All fields have 32 bits.
fn request_interrupt(event: RawFd) -> [u32; 6] {
    let flags = uapi::VFIO_IRQ_SET_DATA_EVENTFD | uapi::VFIO_IRQ_SET_ACTION_TRIGGER;
    [argsz::<[u32; 6]>(), flags, uapi::VFIO_PCI_REQ_IRQ_INDEX, 0, 1, event.cast_unsigned()]
}

/// Resets the device (`VFIO_DEVICE_RESET`).
pub(crate) fn reset(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the ioctl takes no argument; the fd is open while it is borrowed.
    unsafe { raw::device_reset(device.as_raw_fd()) }?;
    Ok(())
}

/// Length of `vfio_pci_hot_reset_info` and of `vfio_pci_hot_reset` without their arrays, in words of 32 bits.
const HOT_RESET_HEADER_WORDS: usize = 3;
/// Length of `vfio_pci_dependent_device`, in words of 32 bits.
const AFFECTED_WORDS: usize = 2;
/// Maximum number of functions of one hot reset that this module accepts: more than the 256 functions of a bus.
const MOST_AFFECTED: usize = 1024;

/// A function that a hot reset resets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AffectedFunction {
    pub(crate) segment: u16,
    pub(crate) bus: u8,
    pub(crate) devfn: u8,
}

/// Returns the functions that a hot reset of the device resets (`VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`).
pub(crate) fn hot_reset_info(device: BorrowedFd<'_>) -> io::Result<Vec<AffectedFunction>> {
    let bytes = 4 * (HOT_RESET_HEADER_WORDS + MOST_AFFECTED * AFFECTED_WORDS);
    let mut words = vec![0_u32; bytes / 4];
    words[0] = u32::try_from(bytes).unwrap_or(u32::MAX);
    // SAFETY: the kernel reads and writes at most `argsz` bytes, which `words` has, and keeps no pointer.
    unsafe { raw::device_get_pci_hot_reset_info(device.as_raw_fd(), words.as_mut_ptr()) }?;
    Ok(affected_functions(&words))
}

/// Parses a `vfio_pci_hot_reset_info` and its array.
fn affected_functions(words: &[u32]) -> Vec<AffectedFunction> {
    let count = words.get(2).map_or(0, |count| *count as usize);
    let devices = words.get(HOT_RESET_HEADER_WORDS..).unwrap_or_default();
    let (devices, _) = devices.as_chunks::<AFFECTED_WORDS>();
    let function = |[_group, address]: &[u32; AFFECTED_WORDS]| {
        let [segment_low, segment_high, bus, devfn] = address.to_ne_bytes();
        AffectedFunction { segment: u16::from_ne_bytes([segment_low, segment_high]), bus, devfn }
    };
    devices.iter().take(count).map(function).collect()
}

/// Resets the bus or the slot of a device (`VFIO_DEVICE_PCI_HOT_RESET`). `groups` contains the group of every affected function;
/// it is empty for a device that was opened through its cdev.
pub(crate) fn hot_reset(device: BorrowedFd<'_>, groups: &[BorrowedFd<'_>]) -> io::Result<()> {
    let fds: Vec<RawFd> = groups.iter().map(AsRawFd::as_raw_fd).collect();
    let request = hot_reset_request(&fds)?;
    // SAFETY: the kernel reads the header and `count` file descriptors, which `request` has, and keeps no pointer.
    unsafe { raw::device_pci_hot_reset(device.as_raw_fd(), request.as_ptr()) }?;
    Ok(())
}

/// Creates a `vfio_pci_hot_reset`, followed by the file descriptors of the groups. All fields have 32 bits.
fn hot_reset_request(groups: &[RawFd]) -> io::Result<Vec<u32>> {
    let too_many = |_| io::Error::from_raw_os_error(libc::E2BIG);
    let bytes = u32::try_from(4 * (HOT_RESET_HEADER_WORDS + groups.len())).map_err(too_many)?;
    let count = u32::try_from(groups.len()).map_err(too_many)?;
    Ok([bytes, 0, count].into_iter().chain(groups.iter().map(|fd| fd.cast_unsigned())).collect())
}

/// Checks that the kernel and the device's driver support the dma-buf feature. Sets PROBE without GET, so the kernel creates
/// no dma-buf.
pub(crate) fn probe_dma_buf(device: BorrowedFd<'_>) -> io::Result<()> {
    let request = [words(8, uapi::VFIO_DEVICE_FEATURE_PROBE | uapi::VFIO_DEVICE_FEATURE_DMA_BUF)];
    // SAFETY: the kernel reads `argsz` = 8 bytes, which is the size of `request`, and keeps no pointer.
    unsafe { raw::device_feature(device.as_raw_fd(), request.as_ptr()) }?;
    Ok(())
}

/// Exports ranges of a region as a dma-buf.
pub(crate) fn export_dma_buf(device: BorrowedFd<'_>, region: u32, ranges: &[BarRange]) -> io::Result<OwnedFd> {
    dma_buf_feature(device, &export_request(region, ranges)?)
}

/// Sends a request for the dma-buf feature. Only the kernel checks the fields of the request.
pub(super) fn dma_buf_feature(device: BorrowedFd<'_>, request: &[u64]) -> io::Result<OwnedFd> {
    let flags = request.first().map_or(0, |&header| second(header));
    if flags & uapi::VFIO_DEVICE_FEATURE_MASK != uapi::VFIO_DEVICE_FEATURE_DMA_BUF {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: for this feature the kernel writes no memory of this process and keeps no pointer. If `argsz` exceeds the
    // length of `request`, it reads other memory of this process or returns EFAULT.
    let fd = unsafe { raw::device_feature(device.as_raw_fd(), request.as_ptr()) }?;
    adopt(fd)
}

/// Creates a `vfio_device_feature`, followed by `vfio_device_feature_dma_buf` and its ranges. Uses `u64` elements to align
/// the structures.
fn export_request(region: u32, ranges: &[BarRange]) -> io::Result<Vec<u64>> {
    let too_many = |_| io::Error::from_raw_os_error(libc::E2BIG);
    let count = u32::try_from(ranges.len()).map_err(too_many)?;
    let bytes = u32::try_from(24 + 16 * ranges.len()).map_err(too_many)?;
    let open_flags = (libc::O_RDWR | libc::O_CLOEXEC).cast_unsigned();
    let mut request = vec![
        words(bytes, uapi::VFIO_DEVICE_FEATURE_GET | uapi::VFIO_DEVICE_FEATURE_DMA_BUF),
        words(region, open_flags),
        words(0, count),
    ];
    request.extend(ranges.iter().flat_map(|range| [range.offset_bytes, range.length_bytes]));
    Ok(request)
}

/// Combines two adjacent `u32` fields into the `u64` with the same bytes in memory.
pub(super) fn words(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// Returns the second of the two fields that [`words`] combines.
fn second(word: u64) -> u32 {
    let [_, _, _, _, bytes @ ..] = word.to_ne_bytes();
    u32::from_ne_bytes(bytes)
}

/// Binds a device to an iommufd.
pub(crate) fn bind_iommufd(device: BorrowedFd<'_>, iommufd: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = uapi::vfio_device_bind_iommufd {
        argsz: argsz::<uapi::vfio_device_bind_iommufd>(),
        iommufd: iommufd.as_raw_fd(),
        ..uapi::vfio_device_bind_iommufd::default()
    };
    // SAFETY: the kernel reads `argsz` bytes and writes the device's ID back into the structure, which nothing else borrows.
    unsafe { raw::device_bind_iommufd(device.as_raw_fd(), &raw mut request) }?;
    Ok(())
}

/// Attaches a bound device to an I/O address space of its iommufd.
pub(crate) fn attach_ioas(device: BorrowedFd<'_>, ioas_id: u32) -> io::Result<()> {
    let mut request = uapi::vfio_device_attach_iommufd_pt {
        argsz: argsz::<uapi::vfio_device_attach_iommufd_pt>(),
        pt_id: ioas_id,
        ..uapi::vfio_device_attach_iommufd_pt::default()
    };
    // SAFETY: the kernel reads `argsz` bytes and writes the page table's ID back into the structure, which nothing else borrows.
    unsafe { raw::device_attach_iommufd_pt(device.as_raw_fd(), &raw mut request) }?;
    Ok(())
}

/// Opens a device file for reading and writing.
pub(crate) fn open(path: &std::path::Path) -> io::Result<OwnedFd> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
    Ok(file.into())
}

/// Fills `into` from offset `at` of the device's file descriptor.
pub(crate) fn read_at(device: impl AsFd, mut into: &mut [u8], mut at: u64) -> io::Result<()> {
    while !into.is_empty() {
        let offset = i64::try_from(at).map_err(io::Error::other)?;
        match nix::sys::uio::pread(device.as_fd(), into, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                into = &mut into[count..];
                at += count as u64;
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Writes all of `from` at offset `at` of the device's file descriptor.
pub(crate) fn write_at(device: impl AsFd, mut from: &[u8], mut at: u64) -> io::Result<()> {
    while !from.is_empty() {
        let offset = i64::try_from(at).map_err(io::Error::other)?;
        match nix::sys::uio::pwrite(device.as_fd(), from, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                from = &from[count..];
                at += count as u64;
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn ioctl_numbers_match_the_kernel() {
        let numbers = [0, 1, 2, 3, 4, 6, 7, 8, 10, 11, 12, 13, 17, 18, 19].map(number);
        assert_eq!(
            numbers,
            [
                0x3b64, 0x3b65, 0x3b66, 0x3b67, 0x3b68, 0x3b6a, 0x3b6b, 0x3b6c, 0x3b6e, 0x3b6f, 0x3b70, 0x3b71, 0x3b75,
                0x3b76, 0x3b77
            ]
        );
    }

    #[test]
    fn a_request_interrupt_has_the_layout_of_the_structure() {
        let words = request_interrupt(7);
        let at = |offset: usize| words[offset / 4];
        assert_eq!(at(offset_of!(uapi::vfio_irq_set, argsz)), 24);
        assert_eq!(at(offset_of!(uapi::vfio_irq_set, flags)), 0x24);
        assert_eq!(at(offset_of!(uapi::vfio_irq_set, index)), 4);
        assert_eq!(at(offset_of!(uapi::vfio_irq_set, start)), 0);
        assert_eq!(at(offset_of!(uapi::vfio_irq_set, count)), 1);
        assert_eq!(at(offset_of!(uapi::vfio_irq_set, data)), 7);
    }

    #[test]
    fn a_hot_reset_has_the_layout_of_the_structures() {
        assert_eq!(offset_of!(uapi::vfio_pci_dependent_device, segment), 4);
        assert_eq!(offset_of!(uapi::vfio_pci_dependent_device, bus), 6);
        assert_eq!(offset_of!(uapi::vfio_pci_dependent_device, devfn), 7);
        assert_eq!(offset_of!(uapi::vfio_pci_hot_reset_info, count), 8);
        let address = |segment: u16, bus, devfn| {
            let [low, high] = segment.to_ne_bytes();
            u32::from_ne_bytes([low, high, bus, devfn])
        };
        let words = [28, 0, 2, 7, address(0, 1, 0), 8, address(0x1234, 0xab, 0xff), 9, 9];
        let function = |segment, bus, devfn| AffectedFunction { segment, bus, devfn };
        assert_eq!(affected_functions(&words), [function(0, 1, 0), function(0x1234, 0xab, 0xff)]);
        assert_eq!(affected_functions(&[12, 0, 5]), [], "a count that exceeds the array");
        assert_eq!(hot_reset_request(&[7]).unwrap(), [16, 0, 1, 7]);
        assert_eq!(hot_reset_request(&[]).unwrap(), [12, 0, 0]);
    }

    #[test]
    fn an_export_request_has_the_layout_of_the_structures() {
        let ranges = [
            BarRange { offset_bytes: 0x1000, length_bytes: 0x2000 },
            BarRange { offset_bytes: 0x8000, length_bytes: 0x4000 },
        ];
        let request = export_request(2, &ranges).unwrap();
        let bytes: Vec<u8> = request.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let u32_at = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let body = offset_of!(uapi::vfio_device_feature, data);
        assert_eq!(u32_at(offset_of!(uapi::vfio_device_feature, argsz)) as usize, bytes.len());
        assert_eq!(u32_at(offset_of!(uapi::vfio_device_feature, flags)), 0x1000b);
        assert_eq!(u32_at(body + offset_of!(uapi::vfio_device_feature_dma_buf, region_index)), 2);
        assert_eq!(u32_at(body + offset_of!(uapi::vfio_device_feature_dma_buf, open_flags)), 0o2000002);
        assert_eq!(u32_at(body + offset_of!(uapi::vfio_device_feature_dma_buf, flags)), 0);
        assert_eq!(u32_at(body + offset_of!(uapi::vfio_device_feature_dma_buf, nr_ranges)), 2);
        let first = body + offset_of!(uapi::vfio_device_feature_dma_buf, dma_ranges);
        let second = first + size_of::<uapi::vfio_region_dma_range>();
        assert_eq!((u64_at(first), u64_at(first + 8)), (0x1000, 0x2000));
        assert_eq!((u64_at(second), u64_at(second + 8)), (0x8000, 0x4000));
        assert_eq!(second + 16, bytes.len());
    }
}
