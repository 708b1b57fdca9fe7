//! A buffer in the address space of a function.

use std::io;
use std::sync::Arc;

use peerpath_exporter::{Buffer, Handle, Mapped};

use super::data_plane::{NvmeDataPlane, Part};
use super::device::IommufdDevice;
use super::errors::Error;
use crate::{DataPlane, DataPlaneSettings, Registration};

/// How a buffer was mapped. One mapping takes no allocation: making and freeing it would be time that is measured.
pub(super) enum Mappings {
    /// All of it at one address.
    One(Mapped),
    /// Each of its ranges at one of its own, in their order.
    Each(Vec<Mapped>),
}

impl Mappings {
    fn as_slice(&self) -> &[Mapped] {
        match self {
            Self::One(mapped) => std::slice::from_ref(mapped),
            Self::Each(mapped) => mapped,
        }
    }

    fn unmap(self) -> io::Result<()> {
        match self {
            Self::One(mapped) => mapped.unmap(),
            Self::Each(mapped) => mapped.into_iter().try_for_each(Mapped::unmap),
        }
    }
}

/// The mappings, and what must outlive them. Fields are dropped in this order: the mappings first.
pub(super) struct IommufdRegistration {
    pub(super) mapped: Mappings,
    pub(super) buffer: Arc<Buffer>,
    pub(super) device: Arc<IommufdDevice>,
}

impl IommufdRegistration {
    /// Which part of the buffer lies where for the drive. Memory may be mapped beyond its end, to whole pages.
    pub(super) fn parts(&self) -> Box<[Part]> {
        let mut start = 0;
        let part = |mapped: &Mapped| {
            let end = (start + mapped.length_bytes()).min(self.buffer.length_bytes());
            let part = Part { start, end, address: mapped.iova() };
            start = end;
            part
        };
        self.mapped.as_slice().iter().map(part).collect()
    }
}

impl Registration for IommufdRegistration {
    fn mechanism(&self) -> &'static str {
        match self.buffer.handle() {
            Handle::DmaBuf(_) => "ioas-map-file",
            Handle::DmaBufs(_) => "ioas-map-file-per-range",
            Handle::Memory(_) => "ioas-map",
        }
    }

    fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, crate::Error> {
        Ok(Box::new(NvmeDataPlane::new(self, settings)?))
    }

    fn unregister(self: Box<Self>) -> Result<(), crate::Error> {
        let Self { mapped, buffer: _buffer, device } = *self;
        let bdf = device.function.bdf;
        mapped.unmap().map_err(|source| Error::Unmap { bdf, source }.into())
    }
}
