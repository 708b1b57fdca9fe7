//! Opening and probing a PCI function as importer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use peerpath_exporter::VfioInterface;
use peerpath_exporter::vfio::{self, AddressSpace};
use peerpath_paths::Bdf;

use super::address::{Address, Blocks};
use super::errors::Error;
use super::nvme::{self, Drive, Lifecycle};
use crate::DeviceInfo;

/// A PCI function with its I/O address space, shared by all [`Device`]s of the function.
pub(super) struct Function {
    pub(super) bdf: Bdf,
    pub(super) space: Arc<AddressSpace>,
    /// The drive, if the function is an NVMe controller.
    pub(super) drive: Option<(Drive, Arc<Lifecycle>)>,
}

static OPEN: Mutex<Option<HashMap<Bdf, Weak<Function>>>> = Mutex::new(None);

/// VFIO interface to use. Only the cdev interface offers I/O address spaces of iommufd.
const INTERFACE: VfioInterface = VfioInterface::Cdev;

/// Parses the address of a PCI function: `BDF[?write=LBA+COUNT]`.
pub(super) fn parse(text: &str) -> Result<Address, Error> {
    text.parse().map_err(|source| Error::Address {
        target: format!("iommufd:{}", text.chars().take(64).collect::<String>()),
        source,
    })
}

/// Checks that the function can be opened, without changing it.
pub(super) fn probe(bdf: Bdf) -> Result<(), Error> {
    vfio::Device::probe(bdf, INTERFACE).map_err(|source| Error::Open { bdf, source })
}

impl Function {
    fn share(bdf: Bdf) -> Result<Arc<Self>, Error> {
        // Hold the lock while opening, so that a second thread waits and shares the function.
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
        // Start the controller once to identify the drive. It then stays stopped until a data plane uses it.
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
    /// Opens a function that is bound to a VFIO driver. Transfers that write to an NVMe drive are rejected.
    ///
    /// # Errors
    /// The function cannot be opened through VFIO and iommufd, or it is an NVMe drive that cannot be used.
    pub fn open(bdf: Bdf) -> Result<Self, Error> {
        Self::open_with(bdf, None)
    }

    /// Like [`Device::open`], and allows transfers to overwrite `blocks` of an NVMe drive. Their content is lost.
    ///
    /// # Errors
    /// Same as [`Device::open`]; or the function is not an NVMe drive, or the drive does not have all of the blocks.
    pub fn open_writable(bdf: Bdf, blocks: Blocks) -> Result<Self, Error> {
        Self::open_with(bdf, Some(blocks))
    }

    pub(super) fn open_with(bdf: Bdf, write: Option<Blocks>) -> Result<Self, Error> {
        Ok(Self { opened: Arc::new(OpenFunction::open(bdf, write)?) })
    }

    /// Returns the name, model, PCI function and driver of the device.
    pub fn info(&self) -> &DeviceInfo {
        &self.opened.info
    }
}

/// An open function, and the blocks of its drive that may be overwritten.
pub(super) struct OpenFunction {
    pub(super) function: Arc<Function>,
    /// Blocks that may be overwritten. `None` if the drive is only read.
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
