//! Looking at memory from one side of a transfer.

use std::io;

/// Plain byte access to one side of a transfer, apart from the way the transfer takes.
///
/// The exporter's view is what verification trusts: for a VFIO BAR it is the region's own mapping, never the path under
/// test. Importers give the same view of their far side (host memory, a drive's blocks, a GPU's memory).
pub trait View: Send + Sync {
    /// How many bytes can be seen.
    fn length_bytes(&self) -> u64;

    /// Copies bytes from `offset` on into `into`.
    ///
    /// # Errors
    /// `InvalidInput` where the span leaves the view; else what the memory answered.
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Copies `from` to `offset`; the bytes are there for the device before this returns.
    ///
    /// # Errors
    /// As [`View::read`].
    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()>;
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
