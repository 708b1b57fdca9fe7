//! A buffer in the address space of a function.

use std::borrow::Borrow;
use std::sync::Arc;

use peerpath_exporter::{AddressSpace, Buffer, Handle, Mapped};

use super::data_plane::{NvmeDataPlane, Part};
use super::device::IommufdDevice;
use super::errors::Error;
use crate::{DataPlane, DataPlaneSettings, Registration, Remains};

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
}

impl Registration for IommufdRegistration {
    fn mechanism(&self) -> &'static str {
        match self.buffer.handle() {
            Handle::DmaBuf(_) => "ioas-map-file",
            Handle::DmaBufs(_) => "ioas-map-file-per-range",
            Handle::Memory(_) | Handle::Withheld(_) => "ioas-map",
        }
    }

    fn data_plane(&self, settings: &DataPlaneSettings) -> Result<Box<dyn DataPlane + '_>, crate::Error> {
        Ok(Box::new(NvmeDataPlane::new(self, settings)?))
    }

    fn unregister(mut self: Box<Self>) -> Result<Remains, crate::Error> {
        // Those behind one that fails are taken back as they are dropped.
        let unmapped = self.first.unmap().and_then(|()| self.others.iter_mut().try_for_each(Mapped::unmap));
        unmapped.map_err(|source| Error::Unmap { bdf: self.device().function.bdf, source })?;
        Ok(Remains::new(self))
    }
}
