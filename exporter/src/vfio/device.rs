//! An open function, whichever VFIO interface it was opened through.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};

use peerpath_paths::{BarIndex, Bdf, IommuGroupId, Tree};
use vfio_bindings::bindings::vfio as uapi;

use super::cdev::{self, Iommufd};
use super::group::{self, Group};
use super::regions::Region;
use super::{AddressSpace, config, open_devices};
use crate::sys::vfio as sys;
use crate::{BarRange, Error, OpenOptions, VfioInterface};

/// A function opened through VFIO. Sources on the same function share one.
///
/// The kernel lets one process at a time open a device, and revokes every dma-buf of it when it is closed: a holder of a
/// dma-buf must keep the device alive as well.
#[derive(Debug)]
pub struct Device {
    // Fields are dropped in this order: the device is closed, then the interface.
    fd: OwnedFd,
    parent: Parent,
    bdf: Bdf,
    driver: Option<String>,
    flags: u32,
    config: Region,
    bars: Vec<Region>,
    /// The command register before this process opened the function.
    command_before: u16,
    /// The address space of its own, while there is one.
    pub(super) address_space: Mutex<Weak<AddressSpace>>,
}

/// The interface through which a device was opened; stays open as long as the device.
#[derive(Debug)]
enum Parent {
    Group { _group: Arc<Group> },
    Cdev { iommufd: Arc<Iommufd> },
}

const BARS: u32 = uapi::VFIO_PCI_ROM_REGION_INDEX;

impl Device {
    /// Opens a function that a VFIO driver is bound to, or shares the device if this process has it open already.
    ///
    /// # Errors
    /// [`Error::NotVfioDriver`] if no VFIO driver is bound, or a refusal of the kernel.
    pub fn open(bdf: Bdf, options: &OpenOptions) -> Result<Arc<Self>, Error> {
        open_devices::share(bdf, options.vfio, || Self::open_new(bdf, options))
    }

    /// Checks whether a function could be opened, without opening it and without changing anything.
    ///
    /// # Errors
    /// As [`Device::open`], and another program has it open.
    pub fn probe(bdf: Bdf, options: &OpenOptions) -> Result<(), Error> {
        let tree = Tree::live();
        let group = tree.vfio_group(bdf)?;
        tree.require_viable(bdf, group, &[bdf])?;
        let path = Path::new(match options.vfio {
            VfioInterface::Cdev => cdev::IOMMUFD,
            VfioInterface::Auto | VfioInterface::Group => group::CONTAINER,
        });
        if !path.exists() {
            return Err(Error::NoVfioInterface { bdf, interface: options.vfio, path: path.to_owned() });
        }
        require_vfio_driver(&tree, bdf)?;
        // If the open files of a process are unknown, the open itself decides: it fails with EBUSY.
        match tree.vfio_users(bdf).unwrap_or_default() {
            pids if pids.is_empty() => Ok(()),
            pids => Err(Error::OpenElsewhere { bdf, pids, source: io::ErrorKind::ResourceBusy.into() }),
        }
    }

    fn open_new(bdf: Bdf, options: &OpenOptions) -> Result<Self, Error> {
        let tree = Tree::live();
        let group = tree.vfio_group(bdf)?;
        let driver = require_vfio_driver(&tree, bdf)?;
        tree.require_viable(bdf, group, &[])?;
        let (fd, parent) = open_through(&tree, bdf, group, options.vfio)?;
        Self::describe(parent, fd, bdf, driver)
    }

    /// The order of the first two parameters matters on failure: parameters are dropped from the last to the first, and the
    /// interface must be closed after the device.
    fn describe(parent: Parent, fd: OwnedFd, bdf: Bdf, driver: Option<String>) -> Result<Self, Error> {
        let failed = |operation| move |source| Error::OpenDevice { bdf, operation, source };
        let (flags, _) = sys::device_info(fd.as_fd()).map_err(failed("read the description"))?;
        let region = |index| {
            sys::region_info(fd.as_fd(), index).map(|info| Region::new(&info)).map_err(failed("read the regions"))
        };
        let config = region(uapi::VFIO_PCI_CONFIG_REGION_INDEX)?;
        let bars = (0..BARS).map(region).collect::<Result<_, _>>()?;
        let command_before = config::read_command(fd.as_fd(), &config).map_err(failed("read the command register"))?;
        let address_space = Mutex::default();
        Ok(Self { fd, parent, bdf, driver, flags, config, bars, command_before, address_space })
    }

    /// Address of the function.
    pub fn bdf(&self) -> Bdf {
        self.bdf
    }

    /// Interface through which it was opened; never [`VfioInterface::Auto`].
    pub fn interface(&self) -> VfioInterface {
        match self.parent {
            Parent::Group { .. } => VfioInterface::Group,
            Parent::Cdev { .. } => VfioInterface::Cdev,
        }
    }

    /// Name of its VFIO driver.
    pub fn driver(&self) -> Option<&str> {
        self.driver.as_deref()
    }

    /// Whether all of a BAR can be mapped into this process; `None` if it has no such BAR.
    pub fn is_mappable(&self, bar: BarIndex) -> Option<bool> {
        let region = self.region(bar).filter(|region| region.size_bytes != 0)?;
        Some(region.mappable.iter().map(|area| area.end - area.start).sum::<u64>() == region.size_bytes)
    }

    /// Checks that kernel and driver can export BARs as dma-bufs at all.
    ///
    /// # Errors
    /// [`Error::ExportUnsupported`] with the kernel's answer.
    pub fn require_export(&self) -> Result<(), Error> {
        sys::probe_dma_buf(self.fd.as_fd()).map_err(|source| Error::ExportUnsupported {
            bdf: self.bdf,
            driver: self.driver.clone(),
            source,
        })
    }

    /// Exports ranges of a BAR, given by the index of its VFIO region, without checking them: the kernel does. [`crate::VfioExporter`] checks them first.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn export_ranges(&self, bar: u8, ranges: &[BarRange]) -> Result<OwnedFd, Error> {
        sys::export_dma_buf(self.fd.as_fd(), bar.into(), ranges).map_err(|source| Error::Export {
            bdf: self.bdf,
            bar,
            driver: self.driver.clone(),
            ranges: ranges.to_vec(),
            source,
        })
    }

    /// Resets the function. Its dma-bufs are revoked during the reset.
    ///
    /// # Errors
    /// It has no reset, or the reset failed.
    pub fn reset(&self) -> Result<(), Error> {
        if self.flags & uapi::VFIO_DEVICE_FLAGS_RESET == 0 {
            return Err(Error::NoReset { bdf: self.bdf });
        }
        sys::reset(self.fd.as_fd()).map_err(|source| Error::Reset { bdf: self.bdf, source })
    }

    /// The iommufd it is bound to.
    pub(crate) fn iommufd(&self) -> Result<Arc<Iommufd>, Error> {
        match &self.parent {
            Parent::Cdev { iommufd } => Ok(Arc::clone(iommufd)),
            Parent::Group { .. } => Err(Error::OtherVfioInterface { bdf: self.bdf, open: VfioInterface::Group }),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn config(&self) -> &Region {
        &self.config
    }

    pub(crate) fn region(&self, bar: BarIndex) -> Option<&Region> {
        self.bars.get(usize::from(bar.get()))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Best effort: the kernel initializes the function anew for the next user anyway.
        let _ = config::write_command(self.fd.as_fd(), &self.config, self.command_before);
    }
}

fn open_through(
    tree: &Tree,
    bdf: Bdf,
    group: IommuGroupId,
    interface: VfioInterface,
) -> Result<(OwnedFd, Parent), Error> {
    let cdev = match interface {
        VfioInterface::Cdev => true,
        VfioInterface::Group => false,
        VfioInterface::Auto => cdev::exists(tree, bdf),
    };
    if cdev {
        let (fd, iommufd) = cdev::open(tree, bdf)?;
        Ok((fd, Parent::Cdev { iommufd }))
    } else {
        let (fd, group) = group::open(tree, bdf, group)?;
        Ok((fd, Parent::Group { _group: group }))
    }
}

/// The driver of a function, which has to be one of the VFIO family. A variant driver may have a name of its own, and is known
/// by the character device that VFIO creates.
fn require_vfio_driver(tree: &Tree, bdf: Bdf) -> Result<Option<String>, Error> {
    let driver = tree.driver(bdf);
    if tree.has_vfio_driver(bdf) { Ok(driver) } else { Err(Error::NotVfioDriver { bdf, driver }) }
}
