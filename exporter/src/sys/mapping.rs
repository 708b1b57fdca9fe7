//! Memory mapped into this process.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::mmio;
use crate::check_span;

/// Memory mapped into this process, unmapped on drop. All accesses are volatile copies, because devices and other processes may
/// change the bytes at any time.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: NonNull<u8>,
    length_bytes: NonZeroUsize,
}

// SAFETY: the value owns its mapping, which is valid in every thread. No Rust reference to the bytes exists: they are accessed
// by volatile copies only, so other threads are like devices that change them.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

fn protection() -> ProtFlags {
    ProtFlags::PROT_READ | ProtFlags::PROT_WRITE
}

/// Huge page size in bytes. x86-64 supports it, and AArch64 with pages of 4 KiB.
const HUGE_PAGE_BYTES: u64 = 2 << 20;

fn length(bytes: u64) -> io::Result<NonZeroUsize> {
    usize::try_from(bytes).ok().and_then(NonZeroUsize::new).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

impl Mapping {
    /// Allocates zeroed memory and populates every page.
    pub(crate) fn anonymous(length_bytes: u64) -> io::Result<Self> {
        let length_bytes = length(length_bytes)?;
        // SAFETY: the kernel chooses a free address, to which nothing else refers.
        let address = unsafe {
            mmap_anonymous(None, length_bytes, protection(), MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE)
        }?;
        Ok(Self { address: address.cast(), length_bytes })
    }

    /// Like [`Mapping::anonymous`], in huge pages of 2 MiB. Rounds the length up to whole huge pages.
    pub(crate) fn huge(length_bytes: u64) -> io::Result<Self> {
        let length_bytes = length(length_bytes.checked_next_multiple_of(HUGE_PAGE_BYTES).unwrap_or(0))?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE | MapFlags::MAP_HUGETLB | MapFlags::MAP_HUGE_2MB;
        // SAFETY: as in `anonymous`.
        let address = unsafe { mmap_anonymous(None, length_bytes, protection(), flags) }?;
        Ok(Self { address: address.cast(), length_bytes })
    }

    /// Maps a span of a file, dma-buf or device with `MAP_SHARED`.
    pub(crate) fn shared(file: BorrowedFd<'_>, offset: u64, length_bytes: u64) -> io::Result<Self> {
        let length_bytes = length(length_bytes)?;
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: the kernel chooses a free address, to which nothing else refers; the mapping holds its own
        // reference to the file.
        let address = unsafe { mmap(None, length_bytes, protection(), MapFlags::MAP_SHARED, file, offset) }?;
        Ok(Self { address: address.cast(), length_bytes })
    }

    pub(crate) fn address(&self) -> NonNull<u8> {
        self.address
    }

    pub(crate) fn length_bytes(&self) -> usize {
        self.length_bytes.get()
    }

    /// Copies bytes from the mapping at `offset` to `into`.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let at = self.at(offset, into.len())?;
        // SAFETY: `at` checked that the span lies within the mapping, which lives as long as `self`.
        unsafe { mmio::copy_out(at, into) };
        Ok(())
    }

    /// Copies `from` to the mapping at `offset`. For `flush`, see [`mmio::copy_in`].
    pub(crate) fn write(&self, offset: u64, from: &[u8], flush: bool) -> io::Result<()> {
        let at = self.at(offset, from.len())?;
        // SAFETY: `at` checked that the span lies within the mapping, which lives as long as `self`.
        unsafe { mmio::copy_in(at, from, flush) };
        Ok(())
    }

    /// Copies bytes to another mapping, without an intermediate buffer. For `flush`, see [`mmio::copy_in`].
    pub(crate) fn copy_to(&self, offset: u64, to: &Self, to_offset: u64, length: usize, flush: bool) -> io::Result<()> {
        let (from, to) = (self.at(offset, length)?, to.at(to_offset, length)?);
        // SAFETY: `at` checked that both spans lie within their mappings, which live as long as the references to them.
        unsafe { mmio::copy(from, to, length, flush) };
        Ok(())
    }

    fn at(&self, offset: u64, length: usize) -> io::Result<NonNull<u8>> {
        check_span(offset, length, self.length_bytes.get() as u64)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: the span was just checked to end within the mapping.
        Ok(unsafe { self.address.add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the value owns the mapping with this address and length, and users of the address keep the value alive.
        let _ = unsafe { munmap(self.address.cast(), self.length_bytes.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_between_mappings() {
        let (from, to) = (Mapping::anonymous(4096).unwrap(), Mapping::anonymous(4096).unwrap());
        let bytes: Vec<u8> = (0..100).collect();
        from.write(1, &bytes, false).unwrap();
        from.copy_to(1, &to, 3996, 100, true).unwrap();
        let mut back = vec![0; 100];
        to.read(3996, &mut back).unwrap();
        assert_eq!(back, bytes);
        assert!(from.copy_to(0, &to, 3997, 100, true).is_err());
        assert!(from.copy_to(4000, &to, 0, 100, true).is_err());
    }

    #[test]
    fn rejects_spans_outside_the_mapping() {
        let mapping = Mapping::anonymous(4096).unwrap();
        mapping.write(4090, &[1, 2, 3, 4, 5, 6], true).unwrap();
        let mut back = [0; 6];
        mapping.read(4090, &mut back).unwrap();
        assert_eq!(back, [1, 2, 3, 4, 5, 6]);
        for (offset, length) in [(4091, 6), (4097, 0), (u64::MAX, 1)] {
            let error = mapping.read(offset, &mut vec![0; length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{offset} {length}");
        }
        mapping.read(4096, &mut []).unwrap();
        assert!(Mapping::anonymous(0).is_err());
    }
}
