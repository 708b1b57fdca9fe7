//! Configuration space of an open function.

use std::io;
use std::os::fd::BorrowedFd;

use super::Device;
use super::regions::Region;
use crate::sys::vfio as sys;
use crate::{Error, check_span};

const COMMAND: u64 = 0x04;
const MEMORY_ENABLE: u16 = 1 << 1;
const BUS_MASTER_ENABLE: u16 = 1 << 2;

pub(crate) fn read_command(device: BorrowedFd<'_>, config: &Region) -> io::Result<u16> {
    let mut bytes = [0; 2];
    read(device, config, COMMAND, &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}

pub(crate) fn write_command(device: BorrowedFd<'_>, config: &Region, command: u16) -> io::Result<()> {
    write(device, config, COMMAND, &command.to_le_bytes())
}

fn read(device: BorrowedFd<'_>, config: &Region, offset: u64, into: &mut [u8]) -> io::Result<()> {
    check_span(offset, into.len(), config.size_bytes)?;
    sys::read_at(device, into, config.fd_offset + offset)
}

fn write(device: BorrowedFd<'_>, config: &Region, offset: u64, from: &[u8]) -> io::Result<()> {
    check_span(offset, from.len(), config.size_bytes)?;
    sys::write_at(device, from, config.fd_offset + offset)
}

impl Device {
    /// Reads configuration space. VFIO emulates some of the registers.
    ///
    /// # Errors
    /// [`Error::Region`] if the span exceeds configuration space or the kernel cannot read it.
    pub fn read_config(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        read(self.fd(), self.config(), offset, into).map_err(self.failed("read configuration space"))
    }

    /// Writes configuration space. VFIO emulates or ignores writes to some registers.
    ///
    /// # Errors
    /// Same as [`Device::read_config`].
    pub fn write_config(&self, offset: u64, from: &[u8]) -> Result<(), Error> {
        write(self.fd(), self.config(), offset, from).map_err(self.failed("write configuration space"))
    }

    /// Whether memory decoding is on (bit 1 of the command register), so that the function responds to accesses to its BARs.
    ///
    /// # Errors
    /// Same as [`Device::read_config`].
    pub fn memory_enabled(&self) -> Result<bool, Error> {
        Ok(self.command()? & MEMORY_ENABLE != 0)
    }

    /// Turns memory decoding on or off. While it is off, every dma-buf of the function is revoked. Closing the device restores
    /// the command register.
    ///
    /// # Errors
    /// Same as [`Device::read_config`].
    pub fn set_memory_enabled(&self, enabled: bool) -> Result<(), Error> {
        self.set_command(MEMORY_ENABLE, enabled)
    }

    /// Turns bus mastering on or off (bit 2 of the command register). The function can start DMA only while it is on. Exporting
    /// a BAR does not need it.
    ///
    /// # Errors
    /// Same as [`Device::read_config`].
    pub fn set_bus_master_enabled(&self, enabled: bool) -> Result<(), Error> {
        self.set_command(BUS_MASTER_ENABLE, enabled)
    }

    fn command(&self) -> Result<u16, Error> {
        read_command(self.fd(), self.config()).map_err(self.failed("read the command register"))
    }

    fn set_command(&self, bit: u16, enabled: bool) -> Result<(), Error> {
        let before = self.command()?;
        let after = if enabled { before | bit } else { before & !bit };
        if after == before {
            return Ok(());
        }
        write_command(self.fd(), self.config(), after).map_err(self.failed("write the command register"))
    }

    pub(crate) fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> Error + use<> {
        let bdf = self.bdf();
        move |source| Error::Region { bdf, operation, source }
    }
}
