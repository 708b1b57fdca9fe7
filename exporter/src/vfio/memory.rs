//! Memory that a driver in this process shares with its device: registers, and pages for queues.

use std::io;
use std::sync::Arc;

use peerpath_paths::BarIndex;

use super::address_space::{AddressSpace, Mapped};
use super::{Device, NotExportable};
use crate::sys::mapping::Mapping;
use crate::{Error, HostMemory, page_bytes};

/// Mapped registers at the start of a BAR. Every access is one volatile 32-bit access.
///
/// Memory decoding must be on during each access. Otherwise the access raises SIGBUS, which terminates the process.
#[derive(Debug)]
pub struct Registers {
    // Dropped before the device, so that it is unmapped before the device is closed.
    mapping: Mapping,
    _device: Arc<Device>,
}

impl Registers {
    /// Maps whole pages from the start of a BAR: at most `most_bytes`, and at most the area that VFIO can map.
    ///
    /// # Errors
    /// [`Error::BadBar`] if the function has no such BAR, or [`Error::Region`].
    pub fn map(device: &Arc<Device>, bar: BarIndex, most_bytes: u64) -> Result<Self, Error> {
        let absent = Error::BadBar { bdf: device.bdf(), bar, problem: NotExportable::Absent };
        let region = device.region(bar).filter(|region| region.size_bytes != 0).ok_or(absent)?;
        let front = region.mappable.iter().find(|area| area.start == 0).map_or(0, |area| area.end);
        let length_bytes = front.min(most_bytes) / page_bytes() * page_bytes();
        let mapping =
            Mapping::shared(device.fd(), region.fd_offset, length_bytes).map_err(device.failed("map the registers"))?;
        Ok(Self { mapping, _device: Arc::clone(device) })
    }

    /// Returns the mapped length in bytes.
    pub fn length_bytes(&self) -> u64 {
        self.mapping.length_bytes() as u64
    }

    /// Reads a 32-bit little-endian register.
    ///
    /// # Errors
    /// `InvalidInput` if the register is outside the mapping.
    pub fn read_u32(&self, offset: u64) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.mapping.read(offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes a 32-bit little-endian register. The device sees the bytes of earlier calls of [`DmaMemory::write`]
    /// before this write.
    ///
    /// # Errors
    /// Same as [`Registers::read_u32`].
    pub fn write_u32(&self, offset: u64, value: u32) -> io::Result<()> {
        self.mapping.write(offset, &value.to_le_bytes(), false)
    }
}

/// Zeroed pages of this process, mapped for a device, e.g. for its queues.
pub struct DmaMemory {
    // Dropped first, so that the pages are unmapped for the device before they are freed.
    mapped: Mapped,
    mapping: Arc<Mapping>,
}

impl DmaMemory {
    /// Allocates `length_bytes`, rounded up to whole pages, and maps them.
    ///
    /// # Errors
    /// The errno of `mmap` or of `IOMMU_IOAS_MAP`.
    pub fn new(space: &Arc<AddressSpace>, length_bytes: u64) -> io::Result<Self> {
        let mapping = Arc::new(Mapping::anonymous(length_bytes.next_multiple_of(page_bytes()))?);
        let mapped = AddressSpace::map_memory(Arc::clone(space), HostMemory::front(Arc::clone(&mapping), u64::MAX))?;
        Ok(Self { mapped, mapping })
    }

    /// Returns the I/O virtual address of the first byte.
    pub fn iova(&self) -> u64 {
        self.mapped.iova()
    }

    /// Returns the length in bytes, a multiple of the page size.
    pub fn length_bytes(&self) -> u64 {
        self.mapped.length_bytes()
    }

    /// Copies bytes at `offset`, which the device may have written, to `into`.
    ///
    /// # Errors
    /// `InvalidInput` if the span exceeds the memory.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.mapping.read(offset, into)
    }

    /// Copies `from` to the memory at `offset`. The device sees these bytes before any later write of this process.
    ///
    /// # Errors
    /// Same as [`DmaMemory::read`].
    pub fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.mapping.write(offset, from, false)
    }
}
