//! Exports a BAR, or ordinary memory, as a [`Buffer`] that importers can register.
//!
//! A [`Source`] names memory; [`Source::open`] opens it as an [`Exporter`], whose exports are [`Buffer`]s. [`mod@socket`]
//! passes a buffer to another process. Nothing here changes the host: a function has to be bound to a VFIO driver already.

mod buffer;
mod error;
mod memory;
mod options;
mod range;
mod size;
pub mod socket;
mod source;
mod sys;
mod vfio;
mod view;

use std::sync::Arc;

pub use buffer::{BarRange, Buffer, Handle, HostMemory, Origin, SourceKind};
pub use error::Error;
pub use memory::{CudaExporter, GpuView, HeapExporter, HostExporter, UdmabufExporter};
pub use options::{OpenOptions, VfioInterface};
pub use range::RangeProblem;
pub use size::{format_bytes, parse_bytes};
pub use socket::SocketExporter;
pub use source::Source;
pub use vfio::{Access, AddressSpace, Device, DmaMemory, Mapped, NotExportable, Registers, VfioExporter, bars};
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

    /// Exports these ranges, one behind the other, which only BARs offer. [`Origin::spread`] and [`Origin::front`] give such.
    ///
    /// # Errors
    /// Ranges outside of what was opened, or in no whole pages; memory that is no BAR; and what the kernel refused.
    fn export_ranges(&self, _ranges: &[BarRange], _packing: Packing) -> Result<Arc<Buffer>, Error> {
        Err(Error::NoRanges { source_name: self.origin().to_string() })
    }
}

/// How ranges become dma-bufs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// All of them in one.
    Together,
    /// Each in one of its own.
    Apart,
}

/// The size of a page, in which the kernel exports.
pub fn page_bytes() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).filter(|size| size.is_power_of_two()).unwrap_or(4096)
}

/// Refuses a length that the exporter does not have, or that is not in whole `unit_bytes`.
fn check_length(exporter: &impl Exporter, length_bytes: u64, unit_bytes: u64) -> Result<(), Error> {
    let total = exporter.length_bytes();
    let why = if length_bytes == 0 {
        "nothing to export".to_owned()
    } else if length_bytes > total {
        format!("the source has {total} bytes")
    } else if !length_bytes.is_multiple_of(unit_bytes) {
        format!("it exports whole pages of {unit_bytes} bytes")
    } else {
        return Ok(());
    };
    Err(Error::BadLength { source_name: exporter.origin().to_string(), length_bytes, why })
}
