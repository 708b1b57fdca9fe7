//! The newer door: the device's own character device under an iommufd.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use peerpath_paths::Bdf;

use super::owned_or;
use crate::host_tree::{HostTree, names};
use crate::sys::{iommufd, vfio as sys};
use crate::{Door, Error};

/// An iommufd with one empty address space. All devices of this process share it: the kernel gives the functions of a
/// group to one iommufd only.
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

/// The character device of a function, where this kernel has one.
pub(crate) fn path(host: &HostTree, bdf: Bdf) -> Result<Option<PathBuf>, Error> {
    let name = names(&host.function(bdf).join("vfio-dev"))?.into_iter().find(|name| name.starts_with("vfio"));
    Ok(name.map(|name| host.path("dev/vfio/devices").join(name)).filter(|path| path.exists()))
}

/// Whether this door can be tried.
pub(crate) fn is_there(host: &HostTree, bdf: Bdf) -> Result<bool, Error> {
    Ok(host.path("dev/iommu").exists() && path(host, bdf)?.is_some())
}

/// Opens the device of a function.
pub(crate) fn open(host: &HostTree, bdf: Bdf) -> Result<(OwnedFd, Arc<Iommufd>), Error> {
    let path =
        path(host, bdf)?.ok_or_else(|| Error::NoDoor { bdf, door: Door::Cdev, path: host.path("dev/vfio/devices") })?;
    let iommufd = share(host, bdf)?;
    let device = sys::open(&path)
        .map_err(|source| owned_or(host, bdf, source, |source| Error::OpenVfio { bdf, path, source }))?;
    let failed = |operation| move |source| Error::AttachIommufd { bdf, operation, source };
    sys::bind_iommufd(device.as_fd(), iommufd.fd.as_fd())
        .map_err(|source| owned_or(host, bdf, source, failed("binding to the iommufd")))?;
    sys::attach_ioas(device.as_fd(), iommufd.ioas_id).map_err(failed("attaching to an address space"))?;
    Ok((device, iommufd))
}

fn share(host: &HostTree, bdf: Bdf) -> Result<Arc<Iommufd>, Error> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(iommufd) = open.upgrade() {
        return Ok(iommufd);
    }
    let path = host.path("dev/iommu");
    if !path.exists() {
        return Err(Error::NoDoor { bdf, door: Door::Cdev, path });
    }
    let fd = sys::open(&path).map_err(|source| Error::OpenIommu { path, source })?;
    let ioas_id = iommufd::allocate_ioas(fd.as_fd()).map_err(|source| Error::AttachIommufd {
        bdf,
        operation: "making an address space",
        source,
    })?;
    let iommufd = Arc::new(Iommufd { fd, ioas_id });
    *open = Arc::downgrade(&iommufd);
    Ok(iommufd)
}
