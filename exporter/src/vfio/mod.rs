//! BARs of functions that a VFIO driver is bound to: both VFIO interfaces open the same kind of [`Device`].

mod address_space;
mod bars;
mod cdev;
mod config;
mod device;
mod export;
mod group;
mod memory;
mod open_devices;
mod regions;
mod view;

use std::io;

use peerpath_paths::{Bdf, Tree};

pub use address_space::{Access, AddressSpace, Mapped};
pub use bars::{NotExportable, bars};
pub use device::Device;
pub use export::VfioExporter;
pub use memory::{DmaMemory, Registers};

use crate::Error;

/// EBUSY means that another program has it open: kernel drivers were ruled out before.
fn busy_or(tree: &Tree, bdf: Bdf, source: io::Error, other: impl FnOnce(io::Error) -> Error) -> Error {
    if source.kind() != io::ErrorKind::ResourceBusy {
        return other(source);
    }
    Error::OpenElsewhere { bdf, pids: tree.vfio_users(bdf).unwrap_or_default(), source }
}
