//! Opening and probing a function as importer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use peerpath_exporter::VfioInterface;
use peerpath_exporter::vfio::{self, AddressSpace};
use peerpath_paths::Bdf;

use super::address::{Address, Blocks};
use super::errors::Error;
use super::nvme::{self, Drive, Lifecycle};
use crate::DeviceInfo;

/// A function with its I/O address space. Devices on the same function share it.
pub(super) struct Function {
    pub(super) bdf: Bdf,
    pub(super) space: Arc<AddressSpace>,
    /// The drive, if the function is an NVMe controller.
    pub(super) drive: Option<(Drive, Arc<Lifecycle>)>,
}

static OPEN: Mutex<Option<HashMap<Bdf, Weak<Function>>>> = Mutex::new(None);

/// An I/O address space needs the cdev interface.
const INTERFACE: VfioInterface = VfioInterface::Cdev;

/// Parses an address.
pub(super) fn parse(text: &str) -> Result<Address, Error> {
    text.parse().map_err(|source| Error::Address { text: text.chars().take(64).collect(), source })
}

/// Checks that the function can be opened. Leaves it unchanged.
pub(super) fn probe(bdf: Bdf) -> Result<(), Error> {
    vfio::Device::probe(bdf, INTERFACE).map_err(|source| Error::Open { bdf, source })
}

impl Function {
    fn share(bdf: Bdf) -> Result<Arc<Self>, Error> {
        // Held while opening, so that a second thread waits and shares the function.
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_default();
        if let Some(function) = open.get(&bdf).and_then(Weak::upgrade) {
            return Ok(function);
        }
        let function = Arc::new(Self::open(bdf)?);
        open.insert(bdf, Arc::downgrade(&function));
        Ok(function)
    }

    fn open(bdf: Bdf) -> Result<Self, Error> {
        let failed = |source| Error::Open { bdf, source };
        let device = vfio::Device::open_through(bdf, INTERFACE).map_err(failed)?;
        let mut class = [0; 4];
        device.read_config(0x08, &mut class).map_err(failed)?;
        let space = AddressSpace::of(&device).map_err(failed)?;
        if u32::from_le_bytes(class) >> 8 != nvme::CLASS {
            return Ok(Self { bdf, space, drive: None });
        }
        // Started once to identify the drive, then stopped until a data plane uses it.
        let lifecycle = Arc::new(Lifecycle::default());
        let controller = lifecycle.start(&space).map_err(|source| Error::Drive { bdf, source })?;
        let drive = controller.drive().clone();
        drop(controller);
        Ok(Self { bdf, space, drive: Some((drive, lifecycle)) })
    }
}

/// A PCI function bound to a VFIO driver, with its own I/O address space. Clones share the open device.
#[derive(Clone)]
pub struct Device {
    pub(super) opened: Arc<OpenFunction>,
}

impl Device {
    /// Opens a function that is bound to a VFIO driver. An NVMe drive is only read.
    ///
    /// # Errors
    /// The function cannot be opened through VFIO and iommufd, or it is an NVMe drive that cannot be used.
    pub fn open(bdf: Bdf) -> Result<Self, Error> {
        Self::open_with(bdf, None)
    }

    /// As [`Device::open`], and allows overwriting `blocks` of an NVMe drive. Their content is lost.
    ///
    /// # Errors
    /// As [`Device::open`]; the function is not an NVMe drive, or it does not have all of the blocks.
    pub fn open_writable(bdf: Bdf, blocks: Blocks) -> Result<Self, Error> {
        Self::open_with(bdf, Some(blocks))
    }

    pub(super) fn open_with(bdf: Bdf, write: Option<Blocks>) -> Result<Self, Error> {
        Ok(Self { opened: Arc::new(OpenFunction::open(bdf, write)?) })
    }

    /// Name, model, PCI function and driver of the device.
    pub fn info(&self) -> &DeviceInfo {
        &self.opened.info
    }
}

/// An open function, and the part of its drive that may be overwritten.
pub(super) struct OpenFunction {
    pub(super) function: Arc<Function>,
    /// Blocks of the drive that may be overwritten.
    pub(super) write: Option<Blocks>,
    pub(super) info: DeviceInfo,
}

impl OpenFunction {
    fn open(bdf: Bdf, write: Option<Blocks>) -> Result<Self, Error> {
        let function = Function::share(bdf)?;
        match (&function.drive, write) {
            (None, Some(_)) => return Err(Error::NothingToWrite { bdf }),
            (Some((drive, _)), Some(blocks)) => check(bdf, drive, blocks)?,
            (_, None) => {}
        }
        let drive = function.drive.as_ref().map(|(drive, _)| drive);
        let info = DeviceInfo {
            name: bdf.to_string(),
            bdf: Some(bdf),
            driver: function.space.device().driver().map(str::to_owned),
            firmware: drive.map(|drive| format!("{} {}", drive.model, drive.firmware)),
            soft_rdma: false,
            own_address_space: true,
            model: None,
        };
        Ok(Self { function, write, info })
    }
}

/// Checks that the drive has all of the blocks.
pub(super) fn check(bdf: Bdf, drive: &Drive, blocks: Blocks) -> Result<(), Error> {
    match blocks.first.checked_add(blocks.count) {
        Some(end) if end <= drive.blocks => Ok(()),
        _ => Err(Error::BeyondDrive { bdf, blocks, capacity: drive.blocks }),
    }
}
