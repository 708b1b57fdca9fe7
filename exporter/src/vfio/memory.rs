//! Memory that a driver in this process shares with its device: registers, and pages for queues.

use std::io;
use std::sync::Arc;

use peerpath_paths::BarIndex;

use super::address_space::{AddressSpace, Mapped};
use super::{Device, NotExportable};
use crate::sys::mapping::Mapping;
use crate::{Error, HostMemory, page_bytes};

/// The front of a BAR, mapped: the registers of a device. Every access is one volatile access of its width.
///
/// A function that does not answer would end this process with SIGBUS: memory must be enabled while registers are used.
#[derive(Debug)]
pub struct Registers {
    // Unmapped before the device is closed.
    mapping: Mapping,
    _device: Arc<Device>,
}

impl Registers {
    /// Maps as much of the front of a BAR as can be mapped, up to `most_bytes`.
    ///
    /// # Errors
    /// There is no such BAR, or its front cannot be mapped.
    pub fn map(device: &Arc<Device>, bar: BarIndex, most_bytes: u64) -> Result<Self, Error> {
        let absent = Error::BadBar { bdf: device.bdf(), bar, problem: NotExportable::Absent };
        let region = device.region(bar).filter(|region| region.size_bytes != 0).ok_or(absent)?;
        let front = region.mappable.iter().find(|area| area.start == 0).map_or(0, |area| area.end);
        let length_bytes = front.min(most_bytes) / page_bytes() * page_bytes();
        let mapping =
            Mapping::shared(device.fd(), region.fd_offset, length_bytes).map_err(device.failed("map the registers"))?;
        Ok(Self { mapping, _device: Arc::clone(device) })
    }

    /// How much is mapped.
    pub fn length_bytes(&self) -> u64 {
        self.mapping.length_bytes() as u64
    }

    /// Reads 32 bits, little-endian as PCI has them.
    ///
    /// # Errors
    /// The register is not within what is mapped.
    pub fn read_u32(&self, offset: u64) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.mapping.read(offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes 32 bits. What was written to memory before is there for the device when it sees this.
    ///
    /// # Errors
    /// As [`Registers::read_u32`].
    pub fn write_u32(&self, offset: u64, value: u32) -> io::Result<()> {
        self.mapping.write(offset, &value.to_le_bytes(), false)
    }
}

/// Zeroed pages of this process, mapped for a device: for its queues and lists.
pub struct DmaMemory {
    // The device lets go first.
    mapped: Mapped,
    mapping: Arc<Mapping>,
}

impl DmaMemory {
    /// Allocates whole pages and maps them.
    ///
    /// # Errors
    /// There is no such memory, or the kernel did not map it.
    pub fn new(space: &Arc<AddressSpace>, length_bytes: u64) -> io::Result<Self> {
        let mapping = Arc::new(Mapping::anonymous(length_bytes.next_multiple_of(page_bytes()))?);
        let mapped = AddressSpace::map_memory(Arc::clone(space), HostMemory::front(Arc::clone(&mapping), u64::MAX))?;
        Ok(Self { mapped, mapping })
    }

    /// Where the device finds it.
    pub fn iova(&self) -> u64 {
        self.mapped.iova()
    }

    /// Its length, in whole pages.
    pub fn length_bytes(&self) -> u64 {
        self.mapped.length_bytes()
    }

    /// Copies out what the device has left there.
    ///
    /// # Errors
    /// The span leaves the memory.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.mapping.read(offset, into)
    }

    /// Copies in; it is there for the device before anything that is written afterwards.
    ///
    /// # Errors
    /// As [`DmaMemory::read`].
    pub fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.mapping.write(offset, from, false)
    }
}
