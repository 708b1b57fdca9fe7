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

    /// Subtracts from this limit the memory of the struct (e.g. [`super::SavedCell`]) that the caller creates from the JSON
    /// values that `values` counted.
    ///
    /// # Errors
    /// The JSON values exceed the limit of `values`, or the structs of all calls exceed this limit.
    pub(super) fn take(&mut self, values: &Meter) -> Result<(), ReadErrorReason> {
        if values.is_exceeded {
            return Err(ReadErrorReason::TooMuchMemory { limit_bytes: values.limit_bytes });
        }
        let left = self.left_bytes.checked_sub(values.copied_bytes());
        self.left_bytes = left.ok_or(ReadErrorReason::TooMuchMemory { limit_bytes: self.limit_bytes })?;
        Ok(())
    }
}
