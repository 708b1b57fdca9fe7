//! Byte access to one side of a transfer.

use std::io;

use crate::HostMemory;

/// Byte access to one side of a transfer, independent of the path that the transfer takes.
///
/// Verification compares against the exporter's view. For a BAR it is the CPU's mapping of the VFIO region, never the path
/// under test. Importers offer the same trait for the other side: host memory, blocks of a drive, or memory of a GPU.
pub trait View: Send + Sync {
    /// Length in bytes.
    fn length_bytes(&self) -> u64;

    /// Whether the view may be written. False for blocks of a drive that the user did not allow to overwrite.
    fn is_writable(&self) -> bool {
        true
    }

    /// Fills `into` with the bytes at `offset`.
    ///
    /// # Errors
    /// `InvalidInput` if the span leaves the view; otherwise the error of the memory.
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes `from` at `offset`. Devices can read the bytes when this returns.
    ///
    /// # Errors
    /// As [`View::read`], and `PermissionDenied` if the view may not be written.
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

    /// The mapping of the whole view in this process, if it is contiguous, for importers that register addresses. A mapping of
    /// a BAR has no `struct page` behind it.
    fn mapping(&self) -> Option<HostMemory> {
        None
    }

    /// Copies `length` bytes at `offset` of the view to `at` in host memory, which a device may read at the same time. Copies
    /// once and does not check memory decoding; call [`View::read`] or [`View::write`] before the first copy.
    ///
    /// # Errors
    /// As [`View::read`], and `Unsupported` if this process has no mapping of the memory.
    fn read_into(&self, _offset: u64, _memory: &HostMemory, _at: u64, _length: usize) -> io::Result<()> {
        Err(no_direct_copy())
    }

    /// Copies `length` bytes at `at` in host memory, which a device may write at the same time, to `offset` of the view.
    /// Otherwise as [`View::read_into`].
    ///
    /// # Errors
    /// As [`View::read_into`].
    fn write_from(&self, _offset: u64, _memory: &HostMemory, _at: u64, _length: usize) -> io::Result<()> {
        Err(no_direct_copy())
    }
}

/// The error of memory without a mapping in this process.
pub(crate) fn no_direct_copy() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this process has no mapping of the memory")
}

/// Checks that `length` bytes at `offset` are within `total` bytes.
///
/// # Errors
/// `InvalidInput`, with the span in the message.
pub fn check_span(offset: u64, length: usize, total: u64) -> io::Result<()> {
    let end = u64::try_from(length).ok().and_then(|length| offset.checked_add(length));
    match end {
        Some(end) if end <= total => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{length} bytes at {offset:#x} exceed a length of {total:#x} bytes"),
        )),
    }
}
