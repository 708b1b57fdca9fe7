//! A buffer mapped into the I/O address space of a function.

use std::borrow::Borrow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use peerpath_exporter::vfio::{Access, AddressSpace, Mapped};
use peerpath_exporter::{Buffer, Handle, Removal};

use super::device::{Device, OpenFunction};
use super::errors::Error;
use crate::DeviceInfo;

/// Part of the buffer that is contiguous in I/O virtual addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Offset of the part's first byte in the buffer.
    pub(super) start: u64,
    /// Offset after the part's last byte in the buffer.
    pub(super) end: u64,
    /// I/O virtual address of the part's first byte.
    pub(super) address: u64,
}

/// Keeps the address space of a mapping alive.
#[derive(Clone)]
pub(super) struct Holder(pub(super) Arc<OpenFunction>);

impl Borrow<AddressSpace> for Holder {
    fn borrow(&self) -> &AddressSpace {
        &self.0.function.space
    }
}

/// A buffer mapped into a function's I/O address space. Dropping it removes the mapping.
// Fields are dropped in this order: the mappings before the buffer. Creating and dropping this struct is part of the measured
// time, so a buffer with a single mapping allocates no list and holds a single reference to the device.
pub struct Registration {
    /// Mapping of the whole buffer, or of its first range.
    pub(super) first: Mapped<Holder>,
    /// Mappings of the other ranges, in the order of the buffer. Their addresses are not contiguous.
    pub(super) others: Vec<Mapped<Holder>>,
    pub(super) buffer: Arc<Buffer>,
}

impl Registration {
    pub(super) fn device(&self) -> &OpenFunction {
        &self.first.space().0
    }

    /// Returns the parts of the buffer and their addresses. Cuts the last part at the length of the buffer, because a mapping
    /// consists of whole pages.
    pub(super) fn parts(&self) -> Box<[Part]> {
        let mut start = 0;
        let part = |mapped: &Mapped<Holder>| {
            let end = (start + mapped.length_bytes()).min(self.buffer.length_bytes());
            let part = Part { start, end, address: mapped.iova() };
            start = end;
            part
        };
        std::iter::once(&self.first).chain(&self.others).map(part).collect()
    }

    /// Returns the mechanism of the mapping, as results name it: `ioas-map`, `ioas-map-file` or `ioas-map-file-per-range`.
    pub fn mechanism(&self) -> &'static str {
        match self.buffer.handle() {
            Handle::DmaBuf(_) => "ioas-map-file",
            Handle::DmaBufs(_) => "ioas-map-file-per-range",
            Handle::Memory(_) | Handle::GpuNotExported(_) => "ioas-map",
        }
    }

    /// Removes the mapping.
    ///
    /// # Errors
    /// The kernel refused to unmap the buffer.
    pub fn unregister(mut self) -> Result<(), Error> {
        self.unmap()
    }

    /// Removes every mapping. If one removal fails, the mappings after it are removed on drop.
    pub(super) fn unmap(&mut self) -> Result<(), Error> {
        let unmapped = self.first.unmap().and_then(|()| self.others.iter_mut().try_for_each(Mapped::unmap));
        unmapped.map_err(|source| Error::Unmap { bdf: self.device().function.bdf, source })
    }
}

impl Device {
    /// Maps a buffer into the function's I/O address space. The registration keeps the buffer and the device alive.
    ///
    /// # Errors
    /// The kernel refused the mapping; [`Error::cause`] gives the reason.
    pub fn register(&self, buffer: &Arc<Buffer>) -> Result<Registration, Error> {
        let bdf = self.opened.function.bdf;
        if buffer.origin().bdf == Some(bdf) {
            return Err(Error::Itself { bdf });
        }
        let length_bytes = buffer.length_bytes();
        let ranges = &buffer.origin().ranges;
        let map = |holder, dma_buf: &OwnedFd, length_bytes, ranges| {
            AddressSpace::map_dma_buf(holder, dma_buf.as_fd(), length_bytes, Access::BOTH)
                .map_err(|source| Error::MapDmaBuf { bdf, length_bytes, ranges, source })
        };
        let holder = Holder(Arc::clone(&self.opened));
        let (first, others) = match buffer.handle() {
            Handle::DmaBuf(dma_buf) => (map(holder, dma_buf, length_bytes, ranges.len())?, Vec::new()),
            Handle::DmaBufs(dma_bufs) => {
                let mut each = dma_bufs.iter().zip(ranges);
                let mut next = |holder| each.next().map(|(dma_buf, range)| map(holder, dma_buf, range.length_bytes, 1));
                let first = next(holder.clone()).ok_or(Error::NoRange { bdf })??;
                (first, std::iter::from_fn(|| next(holder.clone())).collect::<Result<_, _>>()?)
            }
            Handle::GpuNotExported(source) => return Err(Error::GpuNotExported { source: source.clone() }),
            Handle::Memory(memory) => {
                let mapped = AddressSpace::map_memory(holder, memory.clone());
                (mapped.map_err(|source| Error::MapMemory { bdf, length_bytes, source })?, Vec::new())
            }
        };
        Ok(Registration { first, others, buffer: Arc::clone(buffer) })
    }
}

impl crate::Device for Device {
    fn info(&self) -> &DeviceInfo {
        self.info()
    }

    fn removal(&self) -> Option<&Removal> {
        Some(self.opened.function.space.device().removal())
    }

    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn crate::Registration>, crate::Error> {
        Ok(Box::new(Self::register(&self, &buffer)?))
    }
}
