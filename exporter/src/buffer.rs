//! Exported memory that importers register.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use peerpath_cuda::DeviceMemory;
use peerpath_paths::{BarIndex, Bdf, MemoryKind};
use serde::{Deserialize, Serialize};

use crate::sys::mapping::Mapping;
use crate::{Error, View};

/// Range of bytes in a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BarRange {
    /// Offset from the start of the BAR, in bytes.
    pub offset_bytes: u64,
    /// Length in bytes.
    pub length_bytes: u64,
}

/// Kind of exported memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A PCI BAR, exported by VFIO.
    Vfio,
    /// Host memory of a memfd, exported as a dma-buf by `/dev/udmabuf`.
    Udmabuf,
    /// Host memory, allocated as a dma-buf from `/dev/dma_heap/system`.
    Heap,
    /// Memory of a GPU.
    Cuda,
    /// Host memory, without a dma-buf.
    Host,
}

impl SourceKind {
    /// Returns the name of the kind in saved results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vfio => "vfio",
            Self::Udmabuf => "udmabuf",
            Self::Heap => "heap",
            Self::Cuda => "cuda",
            Self::Host => "host",
        }
    }

    /// Returns the kind of memory. The meaning of an importer's errno depends on it.
    pub fn memory(self) -> MemoryKind {
        match self {
            Self::Vfio => MemoryKind::VfioBar,
            Self::Cuda => MemoryKind::Gpu,
            Self::Udmabuf | Self::Heap | Self::Host => MemoryKind::Host,
        }
    }
}

/// Description of the memory that a buffer contains. Saved results contain it as the field `source`.
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
    /// Formats the memory as `BAR 2 of 0000:03:00.0`, or as its kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.bdf, self.bar) {
            (Some(bdf), Some(bar)) => write!(f, "BAR {bar} of {bdf}"),
            _ => f.write_str(self.kind.as_str()),
        }
    }
}

/// Memory mapped into this process, which importers register by address.
///
/// The bytes stay mapped at this address as long as the value or a clone of it exists. No Rust reference to the bytes exists,
/// so devices may change them at any time. Registrations rely on both, so only this crate creates values.
#[derive(Debug, Clone)]
pub struct HostMemory {
    mapping: Arc<Mapping>,
    length_bytes: usize,
}

impl HostMemory {
    /// Returns the first `length_bytes` bytes of a mapping, or all if the mapping is shorter.
    pub(crate) fn front(mapping: Arc<Mapping>, length_bytes: u64) -> Self {
        let length_bytes = usize::try_from(length_bytes).unwrap_or(usize::MAX).min(mapping.length_bytes());
        Self { mapping, length_bytes }
    }

    /// Returns the first `length_bytes` bytes of this memory, or all if it is shorter.
    #[must_use]
    pub fn first(&self, length_bytes: u64) -> Self {
        Self::front(Arc::clone(&self.mapping), length_bytes.min(self.length_bytes as u64))
    }

    /// Returns the address of the first byte in this process.
    pub fn address(&self) -> NonNull<u8> {
        self.mapping.address()
    }

    /// Returns the length in bytes.
    pub fn length_bytes(&self) -> usize {
        self.length_bytes
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

/// File descriptors or addresses that an importer registers.
pub enum Handle {
    /// A dma-buf. The buffer owns the file descriptor. An importer that must pass ownership to another API duplicates the
    /// descriptor.
    DmaBuf(OwnedFd),
    /// One dma-buf per range in [`Origin::ranges`], in the same order.
    DmaBufs(Vec<OwnedFd>),
    /// An address range of this process.
    Memory(HostMemory),
    /// The CUDA driver exported no dma-buf, for this reason. An importer can still use [`Buffer::gpu`].
    GpuNotExported(peerpath_cuda::Error),
}

impl Handle {
    /// Returns this handle if an importer can register it.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the CUDA driver exported no dma-buf.
    pub fn required(&self) -> Result<&Self, Error> {
        match self {
            Self::GpuNotExported(source) => {
                Err(Error::Gpu { what: "export GPU memory as a dma-buf", source: source.clone() })
            }
            handle => Ok(handle),
        }
    }
}

/// Exported memory: a handle for importers, and the exporter's view of the same bytes.
///
/// The buffer keeps the exporter's resources open, e.g. the device of a BAR. The memory therefore stays valid as long as a
/// registration holds the buffer.
pub struct Buffer {
    handle: Handle,
    origin: Origin,
    view: Arc<dyn View>,
    gpu: Option<Arc<DeviceMemory>>,
    /// Length of the view in bytes, cached because the view computes it on each call.
    length_bytes: u64,
}

impl Buffer {
    /// Creates a buffer from a handle and a view of the same bytes. The view must keep the exporter alive.
    pub fn new(handle: Handle, origin: Origin, view: Arc<dyn View>) -> Self {
        let length_bytes = view.length_bytes();
        Self { handle, origin, view, gpu: None, length_bytes }
    }

    /// Stores the GPU memory whose first bytes the buffer contains.
    pub(crate) fn of_gpu(self, memory: Arc<DeviceMemory>) -> Self {
        Self { gpu: Some(memory), ..self }
    }

    /// Returns the GPU memory whose first bytes the buffer contains. `None` if the buffer is not memory of a GPU.
    pub fn gpu(&self) -> Option<&Arc<DeviceMemory>> {
        self.gpu.as_ref()
    }

    /// Returns the handle that an importer registers.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns the dma-buf. `None` if the handle is not exactly one dma-buf.
    pub fn dma_buf(&self) -> Option<BorrowedFd<'_>> {
        match &self.handle {
            Handle::DmaBuf(fd) => Some(fd.as_fd()),
            Handle::DmaBufs(_) | Handle::Memory(_) | Handle::GpuNotExported(_) => None,
        }
    }

    /// Returns the origin of the bytes: kind of memory, PCI function, BAR and ranges.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns the exporter's view of the bytes.
    pub fn view(&self) -> &Arc<dyn View> {
        &self.view
    }

    /// Returns the length in bytes.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }
}
