//! The memory limit for the content of files.

use super::bounded::Meter;
use super::error::ReadErrorReason;

/// Memory that the content of one or several files may take.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    limit_bytes: usize,
    left_bytes: usize,
}

impl MemoryLimit {
    /// The limit for all results that are read together. 100,000 cells of ordinary length take about half of it.
    pub(crate) fn for_results() -> Self {
        Self::new(512 << 20)
    }

    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, left_bytes: limit_bytes }
    }

    /// Subtracts the memory of the typed copy of values that were read.
    ///
    /// # Errors
    /// The values exceed their own limit, or the copies of all values exceed this one.
    pub(super) fn take(&mut self, values: &Meter) -> Result<(), ReadErrorReason> {
        if values.is_exceeded {
            return Err(ReadErrorReason::TooMuchMemory { limit_bytes: values.limit_bytes });
        }
        let left = self.left_bytes.checked_sub(values.copied_bytes());
        self.left_bytes = left.ok_or(ReadErrorReason::TooMuchMemory { limit_bytes: self.limit_bytes })?;
        Ok(())
    }
}
