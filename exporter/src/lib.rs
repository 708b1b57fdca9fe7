//! Exports memory as a [`Buffer`]: a dma-buf for importers, and the exporter's [`View`] of the same bytes.
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
//! The crate never binds a driver, and creates no files except the socket of a [`socket::DmaBufSender`] and its lock. Each
//! [`Error`] has a cause ([`Error::cause`]), a reason and a remedy ([`peerpath_paths::Explained`]). Unsafe code is confined to
//! one private module.

mod buffer;
mod error;
mod memory;
mod options;
mod range;
mod removal;
mod size;
pub mod socket;
mod source;
mod source_list;
mod sys;
pub mod vfio;
mod view;

use std::sync::Arc;

pub use buffer::{BarRange, Buffer, Handle, HostMemory, Origin, SourceKind};
pub use error::Error;
pub use memory::{CudaExporter, GpuView, HeapExporter, HostExporter, UdmabufExporter};
pub use options::{OpenOptions, VfioInterface};
pub use range::RangeProblem;
pub use removal::Removal;
pub use size::{format_bytes, parse_bytes};
pub use socket::SocketExporter;
pub use source::Source;
pub use source_list::split_sources;
pub use vfio::VfioExporter;
pub use view::{View, check_span};

/// A source of memory that has been opened: a BAR, memory of a GPU, host memory, or a dma-buf of another process.
pub trait Exporter: Send + Sync {
    /// Returns the origin of all memory that can be exported.
    fn origin(&self) -> &Origin;

    /// Returns the size of the memory in bytes.
    fn length_bytes(&self) -> u64 {
        self.origin().ranges.iter().map(|range| range.length_bytes).sum()
    }

    /// Exports the first `length_bytes` bytes. If the source has several ranges, these are the first bytes of the concatenated
    /// ranges, and the last range may be shortened. Each call returns a new buffer, whose origin lists the exported ranges.
    ///
    /// # Errors
    /// [`Error::BadLength`] if the length is zero, exceeds the source, or is not a whole number of pages for a dma-buf.
    /// Otherwise, an error of the kernel.
    fn export(&self, length_bytes: u64) -> Result<Arc<Buffer>, Error>;

    /// Exports these ranges of a BAR, concatenated in this order. [`Origin::front`] and [`Origin::spread`] compute ranges.
    ///
    /// # Errors
    /// [`Error::BadRange`] if a range lies outside the ranges of the source or does not consist of whole pages,
    /// [`Error::NoRanges`] if the source is not a BAR. Otherwise, an error of the kernel.
    fn export_ranges(&self, _ranges: &[BarRange], _packing: Packing) -> Result<Arc<Buffer>, Error> {
        Err(Error::NoRanges { source_name: self.origin().to_string() })
    }

    /// Returns the removal of the function that has the memory. `None` if the memory does not belong to a function that can be
    /// removed.
    fn removal(&self) -> Option<&Removal> {
        None
    }

    /// Returns the function whose BAR the memory is, if this process has the function open through VFIO, e.g. to reset it. `None`
    /// for other memory.
    fn function(&self) -> Option<&Arc<vfio::Device>> {
        None
    }
}

/// Distribution of the ranges of a buffer over dma-bufs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// All ranges in one dma-buf.
    OneDmaBuf,
    /// One dma-buf per range.
    DmaBufPerRange,
}

/// Returns the page size of the CPU in bytes. Dma-bufs consist of whole pages.
pub fn page_bytes() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).filter(|size| size.is_power_of_two()).unwrap_or(4096)
}

/// Checks that a length is a multiple of `unit_bytes`, not zero, and within the exporter's memory.
fn check_length(exporter: &impl Exporter, length_bytes: u64, unit_bytes: u64) -> Result<(), Error> {
    let total = exporter.length_bytes();
    let (why, remedy) = if length_bytes == 0 {
        ("the length is zero".to_owned(), "Choose a length of at least one byte.".to_owned())
    } else if length_bytes > total {
        (format!("the source has only {total} bytes"), format!("Choose a length of at most {total} bytes."))
    } else if !length_bytes.is_multiple_of(unit_bytes) {
        whole_pages(unit_bytes)
    } else {
        return Ok(());
    };
    Err(Error::BadLength { source_name: exporter.origin().to_string(), length_bytes, why, remedy })
}

/// Reason and remedy for a length that is not a whole number of pages.
fn whole_pages(page_bytes: u64) -> (String, String) {
    (
        format!("a dma-buf consists of whole pages of {page_bytes} bytes"),
        format!("Choose a size that is a multiple of {page_bytes} bytes."),
    )
}
