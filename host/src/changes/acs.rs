//! Bits of an ACS control word in config space.

use std::io;

use peerpath_paths::Bdf;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::host_tree::HostTree;

/// The capability's id, at its start; the control word stands six bytes behind.
const ID: u16 = 0x000d;
const CONTROL: u16 = 6;

/// Bits of a control word, as they were before they were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acs {
    /// Where the control word stands in config space.
    pub(super) offset: u16,
    /// The bits that were changed; the others are not ours.
    pub(super) mask: u16,
    /// The word before.
    pub(super) control: u16,
}

impl Acs {
    /// What is there before bits of it are changed.
    pub(crate) fn before(host: &HostTree, bdf: Bdf, offset: u16, mask: u16) -> Result<Self, Error> {
        Ok(Self { offset, mask, control: read(host, bdf, offset)? })
    }

    /// This one where bits of the same word had been changed before.
    pub(super) fn after(self, left: Self) -> Self {
        if self.offset != left.offset {
            return left;
        }
        Self { mask: self.mask | left.mask, control: self.control & !left.mask | left.control & left.mask, ..self }
    }
}

/// Sets or clears bits.
pub(crate) fn change(host: &HostTree, bdf: Bdf, offset: u16, bits: u16, set: bool) -> Result<(), Error> {
    put(host, bdf, Acs { offset, mask: bits, control: if set { bits } else { 0 } })
}

/// Gives the bits of the mask their values.
pub(super) fn put(host: &HostTree, bdf: Bdf, Acs { offset, mask, control }: Acs) -> Result<(), Error> {
    let now = read(host, bdf, offset)?;
    let wanted = now & !mask | control & mask;
    if now == wanted {
        return Ok(());
    }
    let failed = |source| Error::Acs { bdf, operation: "writing its ACS control word", source };
    host.write_config(bdf, offset, wanted).map_err(failed)?;
    if read(host, bdf, offset)? == wanted {
        Ok(())
    } else {
        Err(failed(io::Error::other("the port kept the bits that it had")))
    }
}

/// Nothing is written to a place that is no ACS capability: the port may be another one by now.
fn read(host: &HostTree, bdf: Bdf, offset: u16) -> Result<u16, Error> {
    let failed = |source| Error::Acs { bdf, operation: "reading its ACS control word", source };
    let id = host.read_config(bdf, offset.saturating_sub(CONTROL)).map_err(failed)?;
    if id != ID {
        return Err(failed(io::Error::other("no ACS capability is there")));
    }
    host.read_config(bdf, offset).map_err(failed)
}
