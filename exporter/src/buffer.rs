//! Exported memory, as importers register it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use peerpath_cuda::DeviceMemory;
use peerpath_paths::{BarIndex, Bdf};
use serde::{Deserialize, Serialize};

use crate::sys::mapping::Mapping;
use crate::{Error, View};

/// A range of a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BarRange {
    /// Offset from the start of the BAR, in bytes.
    pub offset_bytes: u64,
    /// Length in bytes.
    pub length_bytes: u64,
}

/// Kind of memory, as saved results name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A PCI BAR, exported by VFIO.
    Vfio,
    /// Host memory of a memfd, as a dma-buf from `/dev/udmabuf`.
    Udmabuf,
    /// Host memory, as a dma-buf from `/dev/dma_heap/system`.
    Heap,
    /// Memory of a GPU.
    Cuda,
    /// Host memory, without a dma-buf.
    Host,
}

impl SourceKind {
    /// The name in saved results.
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

/// The memory that a buffer contains. Saved results have it as `source`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Kind of memory.
    pub kind: SourceKind,
    /// PCI function that exports the memory, if any.
    pub bdf: Option<Bdf>,
    /// Index of the BAR, if the memory is a BAR.
    pub bar: Option<BarIndex>,
    /// Ranges of the BAR in the order of the buffer. Other memory has one range that starts at 0.
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

/// Memory mapped into this process, which importers register by address.
///
/// The bytes stay mapped at this address as long as the value or a clone of it exists. No Rust reference to them exists, so
/// devices may change them at any time. Only this crate creates values, so that registrations can rely on both.
#[derive(Debug, Clone)]
pub struct HostMemory {
    mapping: Arc<Mapping>,
    length_bytes: usize,
}

impl HostMemory {
    /// The first bytes of a mapping, at most its length.
    pub(crate) fn front(mapping: Arc<Mapping>, length_bytes: u64) -> Self {
        let length_bytes = usize::try_from(length_bytes).unwrap_or(usize::MAX).min(mapping.length_bytes());
        Self { mapping, length_bytes }
    }

    /// The first bytes of this memory, at most its length.
    #[must_use]
    pub fn first(&self, length_bytes: u64) -> Self {
        Self::front(Arc::clone(&self.mapping), length_bytes.min(self.length_bytes as u64))
    }

    /// Address of the first byte in this process.
    pub fn address(&self) -> NonNull<u8> {
        self.mapping.address()
    }

    /// Length in bytes.
    pub fn length_bytes(&self) -> usize {
        self.length_bytes
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

/// What an importer registers.
pub enum Handle {
    /// A dma-buf. The buffer owns the file descriptor; an importer that must pass ownership on duplicates it.
    DmaBuf(OwnedFd),
    /// A dma-buf for each range of the origin, in the same order.
    DmaBufs(Vec<OwnedFd>),
    /// An address range of this process.
    Memory(HostMemory),
    /// The GPU's driver exported no dma-buf, for this reason. An importer can still use [`Buffer::gpu`].
    GpuNotExported(peerpath_cuda::Error),
}

impl Handle {
    /// Checks that the memory has a handle.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the GPU's driver exported no dma-buf.
    pub fn required(&self) -> Result<&Self, Error> {
        match self {
            Self::GpuNotExported(source) => {
                Err(Error::Gpu { what: "export GPU memory as a dma-buf", source: source.clone() })
            }
            handle => Ok(handle),
        }
    }
}

/// Exported memory: a handle for importers, and the exporter's own view of the same bytes.
///
/// The buffer keeps alive what the memory needs, e.g. the open device of a BAR. A registration that holds the buffer therefore
/// cannot outlive the memory.
pub struct Buffer {
    handle: Handle,
    origin: Origin,
    view: Arc<dyn View>,
    gpu: Option<Arc<DeviceMemory>>,
    /// Length of the view, which computes it on each call.
    length_bytes: u64,
}

impl Buffer {
    /// Creates a buffer from a handle and a view of the same bytes. The view must keep the exporter alive.
    pub fn new(handle: Handle, origin: Origin, view: Arc<dyn View>) -> Self {
        let length_bytes = view.length_bytes();
        Self { handle, origin, view, gpu: None, length_bytes }
    }

    /// Adds the GPU memory whose first bytes the buffer contains.
    pub(crate) fn of_gpu(self, memory: Arc<DeviceMemory>) -> Self {
        Self { gpu: Some(memory), ..self }
    }

    /// The GPU memory whose first bytes the buffer contains, if it is memory of a GPU.
    pub fn gpu(&self) -> Option<&Arc<DeviceMemory>> {
        self.gpu.as_ref()
    }

    /// What an importer registers.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The dma-buf, if the buffer is exactly one.
    pub fn dma_buf(&self) -> Option<BorrowedFd<'_>> {
        match &self.handle {
            Handle::DmaBuf(fd) => Some(fd.as_fd()),
            Handle::DmaBufs(_) | Handle::Memory(_) | Handle::GpuNotExported(_) => None,
        }
    }

    /// The memory that the buffer contains.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The exporter's view of the bytes.
    pub fn view(&self) -> &Arc<dyn View> {
        &self.view
    }

    /// Length in bytes.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }
}
