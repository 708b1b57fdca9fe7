//! A BAR, or ordinary memory, becomes a [`Buffer`] that importers can register.

mod buffer;
mod view;

use std::sync::Arc;

pub use buffer::{BarRange, Buffer, Handle, HostMemory, Origin, SourceKind};
pub use view::{View, check_span};

/// Something that memory can be exported from: an opened BAR, or a baseline of ordinary memory.
pub trait Exporter: Send + Sync {
    /// What can be exported: all that the user named.
    fn origin(&self) -> &Origin;

    /// How many bytes that is.
    fn length_bytes(&self) -> u64 {
        self.origin().ranges.iter().map(|range| range.length_bytes).sum()
    }

    /// Exports its first `length_bytes` bytes (in buffer order, so with several ranges the last may be cut); the measured
    /// op `export`. Every call gives a buffer of its own, whose origin says what went into it.
    ///
    /// # Errors
    /// A length of zero, beyond the whole, or not in whole pages where the kernel wants those; and what the kernel
    /// refused, typed and explained.
    fn export(&self, length_bytes: u64) -> Result<Arc<Buffer>, Error>;
}
/// placeholder
#[derive(Debug, thiserror::Error)]
#[error("placeholder")]
pub struct Error;
