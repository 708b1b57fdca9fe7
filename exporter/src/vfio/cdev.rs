//! VFIO cdev interface: one character device per PCI function, bound to an iommufd.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use peerpath_paths::{Bdf, Tree};

use super::busy_or;
use crate::sys::{iommufd, vfio as sys};
use crate::{Error, VfioInterface};

/// Device file that is opened to create an iommufd.
pub(crate) const IOMMUFD: &str = "/dev/iommu";
/// Directory of the VFIO character devices.
const DEVICES: &str = "/dev/vfio/devices";

/// An iommufd with one empty address space. All devices of this process share it, because the kernel requires one iommufd for
/// all functions of a group.
#[derive(Debug)]
pub(crate) struct Iommufd {
    fd: OwnedFd,
    ioas_id: u32,
}

impl Iommufd {
    #[inline]
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

static OPEN: Mutex<Weak<Iommufd>> = Mutex::new(Weak::new());

/// Returns the path of a function's character device. `None` if the kernel created none.
fn path(tree: &Tree, bdf: Bdf) -> Option<PathBuf> {
    tree.vfio_cdev(bdf).map(|name| Path::new(DEVICES).join(name)).filter(|path| path.exists())
}

/// Whether the kernel offers this interface for the function.
pub(crate) fn exists(tree: &Tree, bdf: Bdf) -> bool {
    Path::new(IOMMUFD).exists() && path(tree, bdf).is_some()
}

/// Opens a function and attaches it to the shared, empty address space.
pub(crate) fn open(tree: &Tree, bdf: Bdf) -> Result<(OwnedFd, Arc<Iommufd>), Error> {
    let path = path(tree, bdf).ok_or_else(|| missing(bdf, DEVICES))?;
    let iommufd = share(bdf)?;
    let device = sys::open(&path)
        .map_err(|source| busy_or(tree, bdf, source, |source| Error::OpenVfio { bdf, path, source }))?;
    let failed = |operation| move |source| Error::AttachIommufd { bdf, operation, source };
    sys::bind_iommufd(device.as_fd(), iommufd.fd.as_fd())
        .map_err(|source| busy_or(tree, bdf, source, failed("bind the device to the iommufd")))?;
    sys::attach_ioas(device.as_fd(), iommufd.ioas_id).map_err(failed("attach the device to an address space"))?;
    Ok((device, iommufd))
}

fn share(bdf: Bdf) -> Result<Arc<Iommufd>, Error> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(iommufd) = open.upgrade() {
        return Ok(iommufd);
    }
    let path = Path::new(IOMMUFD);
    if !path.exists() {
        return Err(missing(bdf, IOMMUFD));
    }
    let fd = sys::open(path).map_err(|source| Error::OpenIommu { path: path.to_owned(), source })?;
    let ioas_id = iommufd::allocate_ioas(fd.as_fd()).map_err(|source| Error::AttachIommufd {
        bdf,
        operation: "allocate an address space",
        source,
    })?;
    let iommufd = Arc::new(Iommufd { fd, ioas_id });
    *open = Arc::downgrade(&iommufd);
    Ok(iommufd)
}

fn missing(bdf: Bdf, path: &str) -> Error {
    Error::NoVfioInterface { bdf, interface: VfioInterface::Cdev, path: path.into() }
}
