//! A BAR, or ordinary memory, becomes a [`Buffer`] that importers can register.

mod buffer;
mod view;

use std::sync::Arc;

pub use buffer::{BarRange, Buffer, Handle, HostMemory, Origin, SourceKind};
pub use view::{View, check_span};

/// Something that memory can be exported from: an opened BAR, or a baseline of ordinary memory.
pub trait Exporter: Send + Sync {
    /// What will be exported.
    fn origin(&self) -> &Origin;

    /// Exports it once; the measured op `export`. Every call gives a buffer of its own.
    ///
    /// # Errors
    /// What the kernel refused, typed and explained.
    fn export(&self) -> Result<Arc<Buffer>, Error>;
}
/// placeholder
#[derive(Debug, thiserror::Error)]
#[error("placeholder")]
pub struct Error;
