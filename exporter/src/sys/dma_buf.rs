//! Ioctls of udmabuf, dma-buf heaps and dma-bufs. Numbers and structures: include/uapi/linux/{udmabuf,dma-heap,dma-buf}.h.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::adopt;

#[repr(C)]
struct UdmabufCreate {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}
const _: () = assert!(size_of::<UdmabufCreate>() == 24);
const UDMABUF_FLAGS_CLOEXEC: u32 = 1;

#[repr(C)]
struct HeapAllocation {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}
const _: () = assert!(size_of::<HeapAllocation>() == 24);

#[repr(C)]
struct Sync {
    flags: u64,
}
const _: () = assert!(size_of::<Sync>() == 8);

/// File system type of dma-bufs: `DMA_BUF_MAGIC` in include/uapi/linux/magic.h.
const DMA_BUF_MAGIC: u64 = 0x444d_4142;

mod raw {
    use super::{HeapAllocation, Sync, UdmabufCreate};

    nix::ioctl_write_ptr!(udmabuf_create, b'u', 0x42, UdmabufCreate);
    nix::ioctl_readwrite!(heap_alloc, b'H', 0x0, HeapAllocation);
    nix::ioctl_write_ptr!(sync, b'b', 0, Sync);
}

/// Direction of a CPU access to the memory of a dma-buf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Creates a dma-buf of the first `size_bytes` of a memfd, which must be sealed against shrinking.
pub(crate) fn udmabuf_create(udmabuf: BorrowedFd<'_>, memfd: BorrowedFd<'_>, size_bytes: u64) -> io::Result<OwnedFd> {
    let request = UdmabufCreate {
        memfd: memfd.as_raw_fd().cast_unsigned(),
        flags: UDMABUF_FLAGS_CLOEXEC,
        offset: 0,
        size: size_bytes,
    };
    // SAFETY: the kernel reads one structure, which lives until the call returns, and takes its own reference to the memfd.
    let fd = unsafe { raw::udmabuf_create(udmabuf.as_raw_fd(), &raw const request) }?;
    adopt(fd)
}

/// Allocates a dma-buf from a heap.
pub(crate) fn heap_allocate(heap: BorrowedFd<'_>, size_bytes: u64) -> io::Result<OwnedFd> {
    let fd_flags = (libc::O_RDWR | libc::O_CLOEXEC).cast_unsigned();
    let mut request = HeapAllocation { len: size_bytes, fd: 0, fd_flags, heap_flags: 0 };
    // SAFETY: the kernel reads and writes one structure, which nothing else borrows, and keeps no pointer.
    unsafe { raw::heap_alloc(heap.as_raw_fd(), &raw mut request) }?;
    adopt(request.fd.cast_signed())
}

/// Begins (`start`) or ends CPU accesses to a dma-buf (`DMA_BUF_IOCTL_SYNC`).
pub(crate) fn sync(dma_buf: BorrowedFd<'_>, access: Access, start: bool) -> io::Result<()> {
    let direction = match access {
        Access::Read => 1,
        Access::Write => 2,
    };
    let request = Sync { flags: direction | if start { 0 } else { 4 } };
    loop {
        // SAFETY: the kernel reads one structure, which lives until the call returns.
        match unsafe { raw::sync(dma_buf.as_raw_fd(), &raw const request) } {
            Ok(_) => return Ok(()),
            // Retry: the kernel waits for fences, and a signal can interrupt this wait.
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Whether the file descriptor is a dma-buf.
pub(crate) fn is_dma_buf(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(u64::try_from(nix::sys::statfs::fstatfs(fd)?.filesystem_type().0) == Ok(DMA_BUF_MAGIC))
}

/// Returns the size of a dma-buf or a file in bytes.
pub(crate) fn size_bytes(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let end = nix::unistd::lseek64(fd, 0, nix::unistd::Whence::SeekEnd)?;
    nix::unistd::lseek64(fd, 0, nix::unistd::Whence::SeekSet)?;
    u64::try_from(end).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ioctl_numbers_match_the_kernel() {
        assert_eq!(nix::request_code_write!(b'u', 0x42, size_of::<UdmabufCreate>()), 0x4018_7542);
        assert_eq!(nix::request_code_readwrite!(b'H', 0x0, size_of::<HeapAllocation>()), 0xc018_4800);
        assert_eq!(nix::request_code_write!(b'b', 0, size_of::<Sync>()), 0x4008_6200);
    }

    #[test]
    fn a_memfd_is_not_a_dma_buf() {
        use std::os::fd::AsFd;
        let memfd = nix::sys::memfd::memfd_create(c"test", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&memfd, 8192).unwrap();
        assert!(!is_dma_buf(memfd.as_fd()).unwrap());
        assert_eq!(size_bytes(memfd.as_fd()).unwrap(), 8192);
    }
}
