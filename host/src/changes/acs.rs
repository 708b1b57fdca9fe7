//! Bits of an ACS Control register in config space.

use std::{fmt, io};

use peerpath_paths::Bdf;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::host_tree::HostTree;

/// Extended capability ID of ACS, at the start of the capability (PCI Express Base Specification, Access Control Services).
const ID: u16 = 0x000d;
/// Offset of the ACS Control register in the capability, in bytes.
const CONTROL: u16 = 6;

/// Bits of an ACS Control register before a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acs {
    /// Offset of the ACS Control register in config space, in bytes.
    pub(super) offset: u16,
    /// Bits that the change affects.
    pub(super) mask: u16,
    /// Value of the whole register before the change.
    pub(super) control: u16,
}

impl fmt::Display for Acs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, mask, control } = self;
        write!(f, "ACS Control (offset {offset:#x}) {:#06x} in the bits {mask:#06x}", control & mask)
    }
}

impl Acs {
    /// Reads the state before the bits of `mask` are changed.
    pub(crate) fn before(host: &HostTree, bdf: Bdf, offset: u16, mask: u16) -> Result<Self, Error> {
        Ok(Self { offset, mask, control: read(host, bdf, offset)? })
    }

    /// Merges with the state recorded by an earlier change of the same ACS Control register that is not yet reverted.
    pub(super) fn after(self, left: Self) -> Self {
        if self.offset != left.offset {
            return left;
        }
        Self { mask: self.mask | left.mask, control: self.control & !left.mask | left.control & left.mask, ..self }
    }
}

/// Sets or clears bits of an ACS Control register.
pub(crate) fn change(host: &HostTree, bdf: Bdf, offset: u16, bits: u16, set: bool) -> Result<(), Error> {
    write_bits(host, bdf, Acs { offset, mask: bits, control: if set { bits } else { 0 } })
}

/// Writes the bits of the mask, and checks that the port accepted them.
pub(super) fn write_bits(host: &HostTree, bdf: Bdf, Acs { offset, mask, control }: Acs) -> Result<(), Error> {
    let now = read(host, bdf, offset)?;
    let wanted = now & !mask | control & mask;
    if now == wanted {
        return Ok(());
    }
    let failed = |source| Error::Acs { bdf, operation: "write", source };
    host.write_config(bdf, offset, wanted).map_err(failed)?;
    if read(host, bdf, offset)? == wanted {
        Ok(())
    } else {
        Err(failed(io::Error::other("the ACS Control register does not have the written value")))
    }
}

/// Reads an ACS Control register. Checks the capability first: another device may have this address by now.
fn read(host: &HostTree, bdf: Bdf, offset: u16) -> Result<u16, Error> {
    let failed = |source| Error::Acs { bdf, operation: "read", source };
    let id = host.read_config(bdf, offset.saturating_sub(CONTROL)).map_err(failed)?;
    if id != ID {
        return Err(failed(io::Error::other("no ACS capability at this offset")));
    }
    host.read_config(bdf, offset).map_err(failed)
}
