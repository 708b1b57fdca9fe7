//! An open function, whichever door it came through.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};

use peerpath_paths::Bdf;
use vfio_bindings::bindings::vfio as uapi;

use super::cdev::{self, Iommufd};
use super::group::{self, Group};
use super::regions::Region;
use super::{AddressSpace, config, open_devices};
use crate::bind::Hold;
use crate::host_tree::HostTree;
use crate::sys::vfio as sys;
use crate::viability;
use crate::{BarRange, Door, Error, OpenOptions};

/// A function opened through VFIO. Sources on the same function share one.
///
/// The kernel gives a device to one process at a time, and closing it takes back every dma-buf exported from it: whoever
/// holds a dma-buf keeps the device alive as well.
#[derive(Debug)]
pub struct Device {
    // The order of the fields is the order of closing: the device, what it was opened through, then the function itself
    // (back to its driver, then free for other runs).
    fd: OwnedFd,
    parent: Parent,
    _hold: Hold,
    bdf: Bdf,
    driver: Option<String>,
    flags: u32,
    config: Region,
    bars: Vec<Region>,
    /// The command register as we found it.
    command_before: u16,
    /// The address space of its own, while there is one.
    pub(super) address_space: Mutex<Weak<AddressSpace>>,
}

/// What a device was opened through, kept open for it.
#[derive(Debug)]
enum Parent {
    Group { _group: Arc<Group> },
    Cdev { iommufd: Arc<Iommufd> },
}

const BARS: u32 = uapi::VFIO_PCI_ROM_REGION_INDEX;

impl Device {
    /// Opens a function that a VFIO driver has; one without a driver is given to vfio-pci for as long as it is open.
    ///
    /// # Errors
    /// Whatever stands in the way, typed and explained.
    pub fn open(bdf: Bdf, options: &OpenOptions) -> Result<Arc<Self>, Error> {
        open_devices::share(bdf, options.door, || Self::open_new(bdf, options))
    }

    /// Whether a function could be opened, as far as that can be told without changing or taking anything.
    ///
    /// # Errors
    /// What would stand in the way, typed and explained.
    pub fn probe(bdf: Bdf, options: &OpenOptions) -> Result<(), Error> {
        let host = &options.host;
        let group = viability::require_group(host, bdf)?;
        let offenders = viability::offenders(host, group, &[bdf])?;
        if !offenders.is_empty() {
            return Err(Error::GroupNotViable { bdf, group, offenders });
        }
        let door = match options.door {
            Door::Cdev => host.path("dev/iommu"),
            Door::Auto | Door::Group => host.path("dev/vfio/vfio"),
        };
        if !door.exists() {
            return Err(Error::NoDoor { bdf, door: options.door, path: door });
        }
        Hold::probe(bdf, options)
    }

    fn open_new(bdf: Bdf, options: &OpenOptions) -> Result<Self, Error> {
        let host = &options.host;
        let group = viability::require_group(host, bdf)?;
        let hold = Hold::take(bdf, options)?;
        let offenders = viability::offenders(host, group, &[])?;
        if !offenders.is_empty() {
            return Err(Error::GroupNotViable { bdf, group, offenders });
        }
        let driver = host.driver(bdf)?;
        let (fd, parent) = open_through(host, bdf, group, options.door)?;
        Self::describe(hold, parent, fd, bdf, driver)
    }

    /// The order of the first three matters where it fails: parameters are dropped from the last to the first, and giving
    /// the function back waits for whoever has it open.
    fn describe(hold: Hold, parent: Parent, fd: OwnedFd, bdf: Bdf, driver: Option<String>) -> Result<Self, Error> {
        let failed = |operation| move |source| Error::OpenDevice { bdf, operation, source };
        let (flags, _) = sys::device_info(fd.as_fd()).map_err(failed("asking for the device's description"))?;
        let region = |index| {
            sys::region_info(fd.as_fd(), index)
                .map(|info| Region::new(&info))
                .map_err(failed("asking for the device's regions"))
        };
        let config = region(uapi::VFIO_PCI_CONFIG_REGION_INDEX)?;
        let bars = (0..BARS).map(region).collect::<Result<_, _>>()?;
        let command_before =
            config::read_command(fd.as_fd(), &config).map_err(failed("reading the command register"))?;
        let address_space = Mutex::default();
        Ok(Self { fd, parent, _hold: hold, bdf, driver, flags, config, bars, command_before, address_space })
    }

    /// The function.
    pub fn bdf(&self) -> Bdf {
        self.bdf
    }

    /// The door through which it was opened; never [`Door::Auto`].
    pub fn door(&self) -> Door {
        match self.parent {
            Parent::Group { .. } => Door::Group,
            Parent::Cdev { .. } => Door::Cdev,
        }
    }

    /// Its VFIO driver.
    pub fn driver(&self) -> Option<&str> {
        self.driver.as_deref()
    }

    /// Whether all of a BAR can be mapped into this process; `None` where it has no such BAR.
    pub fn is_mappable(&self, bar: u8) -> Option<bool> {
        let region = self.region(bar).filter(|region| region.size_bytes != 0)?;
        Some(region.mappable.iter().map(|area| area.end - area.start).sum::<u64>() == region.size_bytes)
    }

    /// Whether kernel and driver can export BARs as dma-bufs at all.
    ///
    /// # Errors
    /// They cannot, with the kernel's answer.
    pub fn require_export(&self) -> Result<(), Error> {
        sys::probe_dma_buf(self.fd.as_fd()).map_err(|source| Error::ExportUnsupported {
            bdf: self.bdf,
            driver: self.driver.clone(),
            source,
        })
    }

    /// Exports ranges of a BAR just as given: the kernel judges them, not we. Sources go through
    /// [`crate::VfioExporter`], which says beforehand what is plainly wrong.
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

    /// Resets the function. Every dma-buf of it is revoked while that lasts.
    ///
    /// # Errors
    /// It has no reset, or the reset failed.
    pub fn reset(&self) -> Result<(), Error> {
        if self.flags & uapi::VFIO_DEVICE_FLAGS_RESET == 0 {
            return Err(Error::NoReset { bdf: self.bdf });
        }
        sys::reset(self.fd.as_fd()).map_err(|source| Error::Reset { bdf: self.bdf, source })
    }

    /// The iommufd that it is under.
    pub(crate) fn iommufd(&self) -> Result<Arc<Iommufd>, Error> {
        match &self.parent {
            Parent::Cdev { iommufd } => Ok(Arc::clone(iommufd)),
            Parent::Group { .. } => Err(Error::OtherDoor { bdf: self.bdf, open: Door::Group }),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn config(&self) -> &Region {
        &self.config
    }

    pub(crate) fn region(&self, bar: u8) -> Option<&Region> {
        self.bars.get(usize::from(bar))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Best effort: the kernel sets the function up anew for the next user anyway.
        let _ = config::write_command(self.fd.as_fd(), &self.config, self.command_before);
    }
}

fn open_through(host: &HostTree, bdf: Bdf, group: u32, door: Door) -> Result<(OwnedFd, Parent), Error> {
    let cdev = match door {
        Door::Cdev => true,
        Door::Group => false,
        Door::Auto => cdev::is_there(host, bdf)?,
    };
    if cdev {
        let (fd, iommufd) = cdev::open(host, bdf)?;
        Ok((fd, Parent::Cdev { iommufd }))
    } else {
        let (fd, group) = group::open(host, bdf, group)?;
        Ok((fd, Parent::Group { _group: group }))
    }
}
