//! Exports memory as a [`Buffer`]: a dma-buf for importers, and the exporter's own [`View`] of the same bytes.
//!
//! The memory is a BAR of a PCI function through [`vfio`], memory of a GPU, host memory, or a dma-buf that another process
//! sends over a [`socket`]. This program exports BAR 2 of a function and accesses it with the CPU:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use peerpath_exporter::vfio::{self, BarIndex};
//!
//! // Bound to vfio-pci already; opening it does not change the host.
//! let device = vfio::Device::open("0000:03:00.0".parse()?)?;
//! let buffer = device.export(BarIndex::new(2)?, ..)?;
//!
//! let dma_buf = buffer.dma_buf(); // for ibv_reg_dmabuf_mr, IOMMU_IOAS_MAP_FILE and other importers
//! buffer.view().write(0, b"hello")?;
//! assert_eq!(buffer.view().bytes(0, 5)?, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! The crate `peerpath-importers` registers buffers with RDMA NICs, NVMe drives and GPUs, and transfers data through them.
//!
//! Programs that take memory by name (`0000:03:00.0:2`, `udmabuf:1M`) parse a [`Source`] and open it as an [`Exporter`].
//!
//! The crate never binds a driver and writes no files except the socket of a [`socket::ExportServer`]. Each [`Error`] has a
//! cause ([`Error::cause`]), a reason and a remedy ([`peerpath_paths::Explained`]). Unsafe code is confined to one private
//! module.

mod buffer;
mod error;
mod memory;
mod options;
mod range;
mod size;
pub mod socket;
mod source;
mod sys;
pub mod vfio;
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
pub use vfio::VfioExporter;
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
    /// All ranges in one dma-buf.
    OneDmaBuf,
    /// A dma-buf for each range.
    DmaBufPerRange,
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
