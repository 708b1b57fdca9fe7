//! View of host memory that devices may access at the same time.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::sys::dma_buf::{self, Access};
use crate::sys::mapping::Mapping;
use crate::{HostMemory, View, check_span};

/// View of the first bytes of a mapping.
#[derive(Debug)]
pub(super) struct MemoryView {
    pub(super) mapping: Arc<Mapping>,
    pub(super) length_bytes: u64,
    /// Dma-buf to synchronize before and after each access (`DMA_BUF_IOCTL_SYNC`), for hosts whose caches are not coherent with
    /// DMA.
    pub(super) dma_buf: Option<OwnedFd>,
}

impl MemoryView {
    fn synchronized(&self, access: Access, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let Some(dma_buf) = &self.dma_buf else { return work() };
        dma_buf::sync(dma_buf.as_fd(), access, true)?;
        let result = work();
        dma_buf::sync(dma_buf.as_fd(), access, false)?;
        result
    }
}

impl View for MemoryView {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        check_span(offset, into.len(), self.length_bytes)?;
        self.synchronized(Access::Read, || self.mapping.read(offset, into))
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        check_span(offset, from.len(), self.length_bytes)?;
        self.synchronized(Access::Write, || self.mapping.write(offset, from, false))
    }

    fn mapping(&self) -> Option<HostMemory> {
        Some(HostMemory::front(Arc::clone(&self.mapping), self.length_bytes))
    }

    fn read_into(&self, offset: u64, memory: &HostMemory, at: u64, length: usize) -> io::Result<()> {
        check_span(offset, length, self.length_bytes)?;
        check_span(at, length, memory.length_bytes() as u64)?;
        self.synchronized(Access::Read, || self.mapping.copy_to(offset, memory.mapping(), at, length, false))
    }

    fn write_from(&self, offset: u64, memory: &HostMemory, at: u64, length: usize) -> io::Result<()> {
        check_span(offset, length, self.length_bytes)?;
        check_span(at, length, memory.length_bytes() as u64)?;
        self.synchronized(Access::Write, || memory.mapping().copy_to(at, &self.mapping, offset, length, false))
    }
}
