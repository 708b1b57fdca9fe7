//! CPU access to the memory of a transfer.

use std::io;

use crate::HostMemory;

/// CPU access to the memory on one side of a transfer, independent of the measured path.
///
/// Verification compares against the exporter's view. For a BAR, this view is the CPU's mapping of the VFIO region, never the
/// path under test. Importers implement the same trait for initiator memory, i.e. the memory that the exported memory exchanges
/// data with: host memory, blocks of a drive, or memory of a GPU.
pub trait View: Send + Sync {
    /// Returns the length in bytes.
    fn length_bytes(&self) -> u64;

    /// Returns whether the view may be written. False for blocks of a drive that the user did not allow to be overwritten.
    fn is_writable(&self) -> bool {
        true
    }

    /// Fills `into` with the bytes at `offset`.
    ///
    /// # Errors
    /// `InvalidInput` if the span exceeds the view. Otherwise, the error of the access.
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes `from` at `offset`. Devices can read the bytes when this returns.
    ///
    /// # Errors
    /// Same as [`View::read`], and `PermissionDenied` if the view may not be written.
    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()>;

    /// Copies `length` bytes at `offset` into a new vector.
    ///
    /// # Errors
    /// Same as [`View::read`].
    fn bytes(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        check_span(offset, length, self.length_bytes())?;
        let mut bytes = vec![0; length];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Returns the mapping of the whole view in this process, for importers that register addresses. `None` if no contiguous
    /// mapping exists. A mapping of a BAR is MMIO and has no struct pages.
    fn mapping(&self) -> Option<HostMemory> {
        None
    }

    /// Copies `length` bytes at `offset` of the view to `at` in host memory, which a device may read at the same time. Copies
    /// once and does not check memory decoding; call [`View::read`] or [`View::write`] before the first copy.
    ///
    /// # Errors
    /// Same as [`View::read`], and `Unsupported` if this process has no mapping of the memory.
    fn read_into(&self, _offset: u64, _memory: &HostMemory, _at: u64, _length: usize) -> io::Result<()> {
        Err(no_direct_copy())
    }

    /// Copies `length` bytes from `at` in host memory to `offset` of the view. A device may write the host memory meanwhile.
    /// Otherwise like [`View::read_into`].
    ///
    /// # Errors
    /// Same as [`View::read_into`].
    fn write_from(&self, _offset: u64, _memory: &HostMemory, _at: u64, _length: usize) -> io::Result<()> {
        Err(no_direct_copy())
    }
}

/// Returns the error for memory without a mapping in this process.
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
