//! What an exporter hands to importers.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use peerpath_cuda::DeviceMemory;
use peerpath_paths::{BarIndex, Bdf};
use serde::{Deserialize, Serialize};

use crate::sys::mapping::Mapping;
use crate::{Error, View};

/// A span of a BAR, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BarRange {
    /// Offset from the start of the BAR.
    pub offset_bytes: u64,
    /// Length of the span.
    pub length_bytes: u64,
}

/// What kind of memory a buffer is, in the words of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A PCI BAR exported by VFIO.
    Vfio,
    /// Memory of a memfd, as a dma-buf of `/dev/udmabuf`.
    Udmabuf,
    /// Memory of `/dev/dma_heap/system`.
    Heap,
    /// Memory of a GPU.
    Cuda,
    /// Ordinary registered memory, no dma-buf.
    Host,
}

impl SourceKind {
    /// The word in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vfio => "vfio",
            Self::Udmabuf => "udmabuf",
            Self::Heap => "heap",
            Self::Cuda => "cuda",
            Self::Host => "host",
        }
    }
}

/// Where a buffer comes from; results carry it as `source`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Kind of memory.
    pub kind: SourceKind,
    /// The exporting function, where there is one.
    pub bdf: Option<Bdf>,
    /// The BAR's index, where there is one.
    pub bar: Option<BarIndex>,
    /// The spans of the BAR in buffer order; one span from 0 on for memory that is no BAR.
    pub ranges: Vec<BarRange>,
}

impl fmt::Display for Origin {
    /// `BAR 2 of 0000:03:00.0`, or the kind of memory.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.bdf, self.bar) {
            (Some(bdf), Some(bar)) => write!(f, "BAR {bar} of {bdf}"),
            _ => f.write_str(self.kind.as_str()),
        }
    }
}

/// Memory mapped into this process that importers register by address.
///
/// Only this crate makes it, out of a mapping that it keeps: from the address on so many bytes stay mapped for
/// as long as the value or a clone of it lives, and no Rust reference to them exists, so a device may change them at any
/// time. Registrations rest on that.
#[derive(Debug, Clone)]
pub struct HostMemory {
    mapping: Arc<Mapping>,
    length_bytes: usize,
}

impl HostMemory {
    /// The first bytes of a mapping; no more than it has.
    pub(crate) fn front(mapping: Arc<Mapping>, length_bytes: u64) -> Self {
        let length_bytes = usize::try_from(length_bytes).unwrap_or(usize::MAX).min(mapping.length_bytes());
        Self { mapping, length_bytes }
    }

    /// Its first bytes.
    #[must_use]
    pub fn first(&self, length_bytes: u64) -> Self {
        Self::front(Arc::clone(&self.mapping), length_bytes.min(self.length_bytes as u64))
    }

    /// Start of the memory.
    pub fn address(&self) -> NonNull<u8> {
        self.mapping.address()
    }

    /// Its length.
    pub fn length_bytes(&self) -> usize {
        self.length_bytes
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

/// How an importer gets hold of the memory.
pub enum Handle {
    /// A dma-buf; the buffer owns the fd, importers borrow it (and duplicate it if they must give it away).
    DmaBuf(OwnedFd),
    /// A dma-buf for each range of the origin, in their order.
    DmaBufs(Vec<OwnedFd>),
    /// An address range of this process.
    Memory(HostMemory),
    /// None: the GPU's driver gave no dma-buf, for this reason. Who knows the memory otherwise ([`Buffer::gpu`]) can do without.
    Withheld(peerpath_cuda::Error),
}

impl Handle {
    /// Whether there is one.
    ///
    /// # Errors
    /// There is none.
    pub fn required(&self) -> Result<&Self, Error> {
        match self {
            Self::Withheld(source) => {
                Err(Error::Gpu { what: "the export of GPU memory as a dma-buf", source: source.clone() })
            }
            handle => Ok(handle),
        }
    }
}

/// Exported memory: a handle for importers, and the exporter's own view of the same bytes.
///
/// It keeps everything alive that the memory needs (the device behind a BAR among it), so a registration that holds
/// the buffer cannot outlive the memory.
pub struct Buffer {
    handle: Handle,
    origin: Origin,
    view: Arc<dyn View>,
    gpu: Option<Arc<DeviceMemory>>,
    /// That of the view, which adds it up anew each time.
    length_bytes: u64,
}

impl Buffer {
    /// Joins a handle with the view of the same bytes; the view keeps the exporter alive.
    pub fn new(handle: Handle, origin: Origin, view: Arc<dyn View>) -> Self {
        let length_bytes = view.length_bytes();
        Self { handle, origin, view, gpu: None, length_bytes }
    }

    /// Memory of a GPU, whose front it is.
    pub(crate) fn of_gpu(self, memory: Arc<DeviceMemory>) -> Self {
        Self { gpu: Some(memory), ..self }
    }

    /// The memory as this process has it of the GPU's driver, where it is a GPU's; the buffer is its front.
    pub fn gpu(&self) -> Option<&Arc<DeviceMemory>> {
        self.gpu.as_ref()
    }

    /// The handle.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The dma-buf, where the buffer is exactly one.
    pub fn dma_buf(&self) -> Option<BorrowedFd<'_>> {
        match &self.handle {
            Handle::DmaBuf(fd) => Some(fd.as_fd()),
            Handle::DmaBufs(_) | Handle::Memory(_) | Handle::Withheld(_) => None,
        }
    }

    /// Where it comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The exporter's own view.
    pub fn view(&self) -> &Arc<dyn View> {
        &self.view
    }

    /// Its size.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }
}
