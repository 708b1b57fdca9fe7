//! PCI BARs of functions that are bound to a VFIO driver.
//!
//! [`Device::open`] opens a function, and [`Device::export`] exports bytes of a BAR as a dma-buf. A [`Device`] works in the same
//! way through both VFIO interfaces, group and cdev (Linux, `Documentation/driver-api/vfio.rst`). The function must already be
//! bound to a VFIO driver, because this crate does not bind it. Closing the device restores its PCI command register.
//!
//! [`VfioExporter`] keeps a BAR mapped over several exports. Importers use [`AddressSpace`] to map memory for a function through
//! an iommufd. User-space drivers use [`Registers`] and [`DmaMemory`].

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
mod revoke;
mod view;

use std::io;

use peerpath_paths::Tree;
pub use peerpath_paths::{BarIndex, Bdf};

pub use crate::sys::iommufd::Access;
pub use address_space::{AddressSpace, Mapped};
pub use bars::{NotExportable, bars};
pub use device::Device;
pub use export::VfioExporter;
pub use memory::{DmaMemory, Registers};
pub use revoke::PowerState;

use crate::Error;

/// Converts EBUSY to [`Error::OpenElsewhere`]: functions with a kernel driver are rejected earlier, so another process has the
/// function open. Other errors go to `other`.
fn busy_or(tree: &Tree, bdf: Bdf, source: io::Error, other: impl FnOnce(io::Error) -> Error) -> Error {
    if source.kind() != io::ErrorKind::ResourceBusy {
        return other(source);
    }
    Error::OpenElsewhere { bdf, pids: tree.vfio_users(bdf).unwrap_or_default(), source }
}
