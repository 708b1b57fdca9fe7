//! Anonymous memory for the far side.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use peerpath_exporter::{HostMemory, View, check_span};

/// Zeroed memory of this process, in whole pages.
pub(in crate::verbs) struct AnonymousMemory {
    address: NonNull<u8>,
    length_bytes: NonZeroUsize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for AnonymousMemory {}
// SAFETY: as above; bytes are copied through raw pointers, never referred to.
unsafe impl Sync for AnonymousMemory {}

impl AnonymousMemory {
    pub(in crate::verbs) fn new(length_bytes: NonZeroUsize) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let address =
            unsafe { mmap_anonymous(None, length_bytes, protection, MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE) }?;
        Ok(Self { address: address.cast(), length_bytes })
    }
}

impl Drop for AnonymousMemory {
    fn drop(&mut self) {
        // SAFETY: mapped above, unmapped once.
        let _ = unsafe { munmap(self.address.cast(), self.length_bytes.get()) };
    }
}

impl HostMemory for AnonymousMemory {
    fn address(&self) -> NonNull<u8> {
        self.address
    }

    fn length_bytes(&self) -> usize {
        self.length_bytes.get()
    }
}

impl View for AnonymousMemory {
    fn length_bytes(&self) -> u64 {
        self.length_bytes.get() as u64
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        check_span(offset, into.len(), View::length_bytes(self))?;
        // SAFETY: the span lies within the mapping.
        unsafe { self.address.as_ptr().add(offset as usize).copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        check_span(offset, from.len(), View::length_bytes(self))?;
        // SAFETY: the span lies within the mapping.
        unsafe { self.address.as_ptr().add(offset as usize).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        Ok(())
    }
}
