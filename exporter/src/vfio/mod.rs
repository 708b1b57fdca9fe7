//! BARs of functions that VFIO drives: two doors into one [`Device`], and what an open device offers.

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

use peerpath_paths::Bdf;

pub use address_space::{Access, AddressSpace, Mapped};
pub use bars::{NotExportable, bars};
pub use device::Device;
pub use export::VfioExporter;
pub use memory::{DmaMemory, Registers};

use crate::in_use::vfio_users;
use crate::{Error, HostTree};

/// EBUSY means another owner: that no driver of the kernel is in the way was seen before.
fn owned_or(host: &HostTree, bdf: Bdf, source: io::Error, other: impl FnOnce(io::Error) -> Error) -> Error {
    if source.kind() != io::ErrorKind::ResourceBusy {
        return other(source);
    }
    Error::Owned { bdf, pids: vfio_users(host, bdf).unwrap_or_default(), source }
}
