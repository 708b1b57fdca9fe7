//! Open PCI functions.

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
use crate::removal::{Removal, RequestWatch};
use crate::sys::vfio as sys;
use crate::{BarRange, Error, VfioInterface};

/// A PCI function, opened through VFIO.
///
/// The kernel allows only one process at a time to open a device, so all users in this process share the open device. Closing
/// the device revokes its dma-bufs; a [`Buffer`](crate::Buffer) keeps it open.
#[derive(Debug)]
pub struct Device {
    removal: Removal,
    // Fields are dropped in this order: the device must be closed before the interface.
    /// `None` if the driver has no request interrupt.
    _watch: Option<RequestWatch>,
    fd: OwnedFd,
    parent: Parent,
    bdf: Bdf,
    driver: Option<String>,
    flags: u32,
    config: Region,
    bars: Vec<Region>,
    /// Value of the PCI command register when this process opened the function. Closing the device restores it.
    command_before: u16,
    /// I/O address space of the device, as long as an [`AddressSpace`] exists.
    pub(super) address_space: Mutex<Weak<AddressSpace>>,
}

/// Group or iommufd through which the device was opened. Stays open as long as the device.
#[derive(Debug)]
pub(super) enum Parent {
    Group { group: Arc<Group> },
    Cdev { iommufd: Arc<Iommufd> },
}

const BARS: u32 = uapi::VFIO_PCI_ROM_REGION_INDEX;

impl Device {
    /// Opens a function that is bound to a VFIO driver, through the cdev interface if the kernel offers it and otherwise
    /// through the group. If this process has the function open already, returns the same device.
    ///
    /// # Errors
    /// - [`Error::Group`]: the function does not exist, or VFIO cannot open it (e.g. it has no IOMMU group).
    /// - [`Error::NotVfioDriver`]: no VFIO driver is bound to the function.
    /// - [`Error::NoVfioInterface`]: the kernel has no VFIO interface.
    /// - [`Error::OpenElsewhere`]: another process has the function open.
    /// - Other errors of the kernel, each as a variant of [`Error`].
    pub fn open(bdf: Bdf) -> Result<Arc<Self>, Error> {
        Self::open_through(bdf, VfioInterface::Auto)
    }

    /// Like [`Device::open`], through the given VFIO interface.
    ///
    /// # Errors
    /// Same as [`Device::open`], and [`Error::OtherVfioInterface`] if this process has the function open through the other
    /// interface.
    pub fn open_through(bdf: Bdf, interface: VfioInterface) -> Result<Arc<Self>, Error> {
        open_devices::share(bdf, interface, || Self::open_new(bdf, interface))
    }

    /// Checks the conditions of [`Device::open_through`], without opening the function.
    ///
    /// # Errors
    /// Same as [`Device::open`].
    pub fn probe(bdf: Bdf, interface: VfioInterface) -> Result<(), Error> {
        let tree = Tree::live();
        let group = tree.vfio_group(bdf)?;
        tree.require_viable(bdf, group, &[bdf])?;
        let path = Path::new(match interface {
            VfioInterface::Cdev => cdev::IOMMUFD,
            VfioInterface::Auto | VfioInterface::Group => group::CONTAINER,
        });
        if !path.exists() {
            return Err(Error::NoVfioInterface { bdf, interface, path: path.to_owned() });
        }
        require_vfio_driver(&tree, bdf)?;
        // If the open files of a process are unreadable, continue: opening the device fails with EBUSY if a process has it open.
        match tree.vfio_users(bdf).unwrap_or_default() {
            pids if pids.is_empty() => Ok(()),
            pids => Err(Error::OpenElsewhere { bdf, pids, source: io::ErrorKind::ResourceBusy.into() }),
        }
    }

    fn open_new(bdf: Bdf, interface: VfioInterface) -> Result<Self, Error> {
        let tree = Tree::live();
        let group = tree.vfio_group(bdf)?;
        let driver = require_vfio_driver(&tree, bdf)?;
        tree.require_viable(bdf, group, &[])?;
        let (fd, parent) = open_fd(&tree, bdf, group, interface)?;
        Self::describe(parent, fd, bdf, driver)
    }

    /// On failure, parameters are dropped from the last to the first, so `parent` must come before `fd`: the device must be
    /// closed before the interface.
    fn describe(parent: Parent, fd: OwnedFd, bdf: Bdf, driver: Option<String>) -> Result<Self, Error> {
        let failed = |operation| move |source| Error::OpenDevice { bdf, operation, source };
        let (flags, _) = sys::device_info(fd.as_fd()).map_err(failed("read the VFIO description"))?;
        let region = |index| {
            sys::region_info(fd.as_fd(), index).map(|info| Region::new(&info)).map_err(failed("read the regions"))
        };
        let config = region(uapi::VFIO_PCI_CONFIG_REGION_INDEX)?;
        let bars = (0..BARS).map(region).collect::<Result<_, _>>()?;
        let command_before = config::read_command(fd.as_fd(), &config).map_err(failed("read the command register"))?;
        let address_space = Mutex::default();
        let removal = Removal::of(bdf.to_string());
        let watch = RequestWatch::start(&removal, |event| sys::signal_requests(fd.as_fd(), event.as_fd()));
        let _watch = watch.map_err(failed("start the thread that waits for a removal"))?;
        Ok(Self { removal, _watch, fd, parent, bdf, driver, flags, config, bars, command_before, address_space })
    }

    /// Returns the PCI address of the function.
    pub fn bdf(&self) -> Bdf {
        self.bdf
    }

    /// Returns the VFIO interface through which the function is open, never [`VfioInterface::Auto`].
    pub fn interface(&self) -> VfioInterface {
        match self.parent {
            Parent::Group { .. } => VfioInterface::Group,
            Parent::Cdev { .. } => VfioInterface::Cdev,
        }
    }

    /// Returns the name of the VFIO driver in sysfs.
    pub fn driver(&self) -> Option<&str> {
        self.driver.as_deref()
    }

    /// Returns whether the whole BAR can be mapped into this process. `None` if the function has no such BAR.
    pub fn is_mappable(&self, bar: BarIndex) -> Option<bool> {
        let region = self.region(bar).filter(|region| region.size_bytes != 0)?;
        Some(region.mappable.iter().map(|area| area.end - area.start).sum::<u64>() == region.size_bytes)
    }

    /// Checks that the kernel and the driver support the export of BARs as dma-bufs (`VFIO_DEVICE_FEATURE_DMA_BUF`).
    ///
    /// # Errors
    /// [`Error::ExportUnsupported`].
    pub fn require_export(&self) -> Result<(), Error> {
        sys::probe_dma_buf(self.fd.as_fd()).map_err(|source| Error::ExportUnsupported {
            bdf: self.bdf,
            driver: self.driver.clone(),
            source,
        })
    }

    /// Exports ranges of a VFIO region as one dma-buf. Regions 0 to 5 are the BARs. Only the kernel checks the ranges;
    /// [`Device::export`] and [`VfioExporter`](crate::VfioExporter) check them first.
    ///
    /// # Errors
    /// [`Error::Export`].
    pub fn export_ranges(&self, bar: u8, ranges: &[BarRange]) -> Result<OwnedFd, Error> {
        sys::export_dma_buf(self.fd.as_fd(), bar.into(), ranges).map_err(|source| Error::Export {
            bdf: self.bdf,
            bar,
            driver: self.driver.clone(),
            ranges: ranges.to_vec(),
            source,
        })
    }

    /// Resets the function. During the reset, the kernel revokes the dma-bufs of the function.
    ///
    /// # Errors
    /// [`Error::NoReset`] or [`Error::Reset`].
    pub fn reset(&self) -> Result<(), Error> {
        self.require_reset()?;
        sys::reset(self.fd.as_fd()).map_err(|source| Error::Reset { bdf: self.bdf, source })
    }

    /// Returns the iommufd that the device is bound to. Fails if the device was opened through a group.
    pub(crate) fn iommufd(&self) -> Result<Arc<Iommufd>, Error> {
        match &self.parent {
            Parent::Cdev { iommufd } => Ok(Arc::clone(iommufd)),
            Parent::Group { .. } => Err(Error::OtherVfioInterface { bdf: self.bdf, open: VfioInterface::Group }),
        }
    }

    /// Returns the removal of the function, which the kernel can request while the device is open.
    pub fn removal(&self) -> &Removal {
        &self.removal
    }

    /// Whether VFIO knows a way to reset the function.
    pub(super) fn is_resettable(&self) -> bool {
        self.flags & uapi::VFIO_DEVICE_FLAGS_RESET != 0
    }

    pub(super) fn parent(&self) -> &Parent {
        &self.parent
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
        // Ignore errors, because the kernel initializes the function for its next user.
        let _ = config::write_command(self.fd.as_fd(), &self.config, self.command_before);
    }
}

fn open_fd(tree: &Tree, bdf: Bdf, group: IommuGroupId, interface: VfioInterface) -> Result<(OwnedFd, Parent), Error> {
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
        Ok((fd, Parent::Group { group }))
    }
}

/// Returns the driver of the function if it is a VFIO driver. VFIO variant drivers have different names, but VFIO creates a
/// character device for their functions.
fn require_vfio_driver(tree: &Tree, bdf: Bdf) -> Result<Option<String>, Error> {
    let driver = tree.driver(bdf);
    if tree.has_vfio_driver(bdf) { Ok(driver) } else { Err(Error::NotVfioDriver { bdf, driver }) }
}
