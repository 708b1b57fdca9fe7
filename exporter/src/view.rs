//! Looking at memory from one side of a transfer.

use std::io;

use crate::HostMemory;

/// Plain byte access to one side of a transfer, apart from the way the transfer takes.
///
/// The exporter's view is what verification trusts: for a VFIO BAR it is the region's own mapping, never the path under
/// test. Importers give the same view of their far side (host memory, a drive's blocks, a GPU's memory).
pub trait View: Send + Sync {
    /// How many bytes can be seen.
    fn length_bytes(&self) -> u64;

    /// Whether it may be written. Memory may; the content of a drive only where its owner said so.
    fn is_writable(&self) -> bool {
        true
    }

    /// Copies bytes from `offset` on into `into`.
    ///
    /// # Errors
    /// `InvalidInput` where the span leaves the view; else what the memory answered.
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Copies `from` to `offset`; the bytes are there for the device before this returns.
    ///
    /// # Errors
    /// As [`View::read`]; `PermissionDenied` where it may not be written.
    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()>;

    /// Copies `length` bytes at `offset` into a new vector.
    ///
    /// # Errors
    /// As [`View::read`].
    fn bytes(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        check_span(offset, length, self.length_bytes())?;
        let mut bytes = vec![0; length];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// The memory as this process has mapped it, where that is one piece from its first byte on: for importers that register
    /// a mapping. That of a BAR is of a device's memory, and no pages stand behind it.
    fn mapping(&self) -> Option<HostMemory> {
        None
    }

    /// As [`View::read`], but into host memory that a device reads as well, from `at` on. It is one copy, which takes no
    /// memory of its own and asks nobody whether the memory answers: read or write the view once before.
    ///
    /// # Errors
    /// As [`View::read`]; `Unsupported` where there is no such way.
    fn read_into(&self, _offset: u64, _memory: &HostMemory, _at: u64, _length: usize) -> io::Result<()> {
        Err(no_direct_copy())
    }

    /// As [`View::write`], but out of host memory that a device writes as well; otherwise as [`View::read_into`].
    ///
    /// # Errors
    /// As there.
    fn write_from(&self, _offset: u64, _memory: &HostMemory, _at: u64, _length: usize) -> io::Result<()> {
        Err(no_direct_copy())
    }
}

/// The answer of memory that this process has no mapping of.
pub(crate) fn no_direct_copy() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this process has no mapping of the memory")
}

/// `Ok` when `offset .. offset + length` lies within `total`.
///
/// # Errors
/// `InvalidInput`, naming the span.
pub fn check_span(offset: u64, length: usize, total: u64) -> io::Result<()> {
    let end = u64::try_from(length).ok().and_then(|length| offset.checked_add(length));
    match end {
        Some(end) if end <= total => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{length} bytes at {offset:#x} leave a view of {total:#x} bytes"),
        )),
    }
}
