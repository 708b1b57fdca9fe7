//! A buffer in the address space of a function.

use std::borrow::Borrow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use peerpath_exporter::{Access, AddressSpace, Buffer, Handle, Mapped};

use super::device::IommufdDevice;
use super::errors::Error;
use crate::{Device, DeviceInfo, Registration};

/// A part of the buffer that lies in one piece for the drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// From here in the buffer.
    pub(super) start: u64,
    /// To here.
    pub(super) end: u64,
    /// Where the drive finds it.
    pub(super) address: u64,
}

/// The device as what keeps the address space of a mapping alive.
#[derive(Clone)]
pub(super) struct Holder(pub(super) Arc<IommufdDevice>);

impl Borrow<AddressSpace> for Holder {
    fn borrow(&self) -> &AddressSpace {
        &self.0.function.space
    }
}

/// The mappings, and what must outlive them. Fields are dropped in this order: the mappings first.
///
/// Making and freeing it is time that is measured: a buffer in one piece takes no list, and one reference to the device.
pub(super) struct IommufdRegistration {
    /// All of the buffer, or its first range.
    pub(super) first: Mapped<Holder>,
    /// Its other ranges, each at an address of its own, in their order.
    pub(super) others: Vec<Mapped<Holder>>,
    pub(super) buffer: Arc<Buffer>,
}

impl IommufdRegistration {
    pub(super) fn device(&self) -> &IommufdDevice {
        &self.first.space().0
    }

    /// Which part of the buffer lies where for the drive. Memory may be mapped beyond its end, to whole pages.
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

    /// The name in results.
    pub(super) fn mechanism(&self) -> &'static str {
        match self.buffer.handle() {
            Handle::DmaBuf(_) => "ioas-map-file",
            Handle::DmaBufs(_) => "ioas-map-file-per-range",
            Handle::Memory(_) | Handle::Withheld(_) => "ioas-map",
        }
    }

    /// Removes every mapping. Where one fails, the mappings behind it are removed when they are dropped.
    pub(super) fn unmap(&mut self) -> Result<(), Error> {
        let unmapped = self.first.unmap().and_then(|()| self.others.iter_mut().try_for_each(Mapped::unmap));
        unmapped.map_err(|source| Error::Unmap { bdf: self.device().function.bdf, source })
    }
}

impl Device for IommufdDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn register(self: Arc<Self>, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, crate::Error> {
        let bdf = self.function.bdf;
        if buffer.origin().bdf == Some(bdf) {
            return Err(Error::Itself { bdf }.into());
        }
        let length_bytes = buffer.length_bytes();
        let ranges = &buffer.origin().ranges;
        let map = |holder, dma_buf: &OwnedFd, length_bytes, ranges| {
            AddressSpace::map_dma_buf(holder, dma_buf.as_fd(), length_bytes, Access::BOTH)
                .map_err(|source| Error::MapDmaBuf { bdf, length_bytes, ranges, source })
        };
        let holder = Holder(self);
        let (first, others) = match buffer.handle() {
            Handle::DmaBuf(dma_buf) => (map(holder, dma_buf, length_bytes, ranges.len())?, Vec::new()),
            Handle::DmaBufs(dma_bufs) => {
                let mut each = dma_bufs.iter().zip(ranges);
                let mut next = |holder| each.next().map(|(dma_buf, range)| map(holder, dma_buf, range.length_bytes, 1));
                let first = next(holder.clone()).ok_or(Error::NoRange { bdf })??;
                (first, std::iter::from_fn(|| next(holder.clone())).collect::<Result<_, _>>()?)
            }
            Handle::Withheld(source) => return Err(Error::Withheld { source: source.clone() }.into()),
            Handle::Memory(memory) => {
                let mapped = AddressSpace::map_memory(holder, memory.clone());
                (mapped.map_err(|source| Error::MapMemory { bdf, length_bytes, source })?, Vec::new())
            }
        };
        Ok(Box::new(IommufdRegistration { first, others, buffer }))
    }
}
