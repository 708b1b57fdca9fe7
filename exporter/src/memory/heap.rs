//! Host memory as a dma-buf from the kernel's system heap.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use super::view::MemoryView;
use super::{check_available, check_pages, origin};
use crate::sys::dma_buf;
use crate::sys::mapping::Mapping;
use crate::{Buffer, Error, Exporter, Handle, Origin, SourceKind, check_length, page_bytes};

/// Exporter of the kernel's system heap (`/dev/dma_heap/system`). Each export allocates new memory.
#[derive(Debug)]
pub struct HeapExporter {
    origin: Origin,
    path: PathBuf,
    heap: OwnedFd,
}

impl HeapExporter {
    /// Opens the heap, for exports of at most `size_bytes`.
    ///
    /// # Errors
    /// [`Error::BadSource`] if the size is not a whole number of pages, [`Error::NotEnoughMemory`], or [`Error::CreateDmaBuf`]
    /// if the kernel has no system heap.
    pub fn open(size_bytes: u64) -> Result<Self, Error> {
        check_pages("heap", size_bytes)?;
        let path = PathBuf::from("/dev/dma_heap/system");
        let heap = std::fs::File::open(&path).map_err(|source| Error::CreateDmaBuf {
            path: path.clone(),
            size_bytes,
            source,
        })?;
        check_available(size_bytes)?;
        Ok(Self { origin: origin(SourceKind::Heap, size_bytes), path, heap: heap.into() })
    }
}

impl Exporter for HeapExporter {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn export(&self, length_bytes: u64) -> Result<Arc<Buffer>, Error> {
        check_length(self, length_bytes, page_bytes())?;
        let failed = |source| Error::CreateDmaBuf { path: self.path.clone(), size_bytes: length_bytes, source };
        let dma_buf = dma_buf::heap_allocate(self.heap.as_fd(), length_bytes).map_err(failed)?;
        let mapping = Mapping::shared(dma_buf.as_fd(), 0, length_bytes).map_err(failed)?;
        let second = dma_buf.try_clone().map_err(failed)?;
        let view = MemoryView { mapping: Arc::new(mapping), length_bytes, dma_buf: Some(second) };
        let handle = Handle::DmaBuf(dma_buf);
        Ok(Arc::new(Buffer::new(handle, origin(SourceKind::Heap, length_bytes), Arc::new(view))))
    }
}
