//! VFIO group interface: an IOMMU group in a type 1 container.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use peerpath_paths::{Bdf, GroupError, IommuGroupId, Tree};
use vfio_bindings::bindings::vfio as uapi;

use super::busy_or;
use crate::sys::vfio as sys;
use crate::{Error, VfioInterface};

/// Device file that is opened to create a VFIO container.
pub(crate) const CONTAINER: &str = "/dev/vfio/vfio";

/// Open IOMMU group in a container. The kernel allows a group to be opened only once, so all devices of the group share it.
#[derive(Debug)]
pub(crate) struct Group {
    // Dropped before the container: closing the group removes it from the container.
    fd: OwnedFd,
    _container: OwnedFd,
}

static OPEN: Mutex<Option<HashMap<IommuGroupId, Weak<Group>>>> = Mutex::new(None);

/// Opens a function through its group.
pub(crate) fn open(tree: &Tree, bdf: Bdf, number: IommuGroupId) -> Result<(OwnedFd, Arc<Group>), Error> {
    let group = share(tree, bdf, number)?;
    let device = sys::group_device(group.fd.as_fd(), &bdf.to_string()).map_err(|source| Error::OpenDevice {
        bdf,
        operation: "open the device",
        source,
    })?;
    Ok((device, group))
}

fn share(tree: &Tree, bdf: Bdf, number: IommuGroupId) -> Result<Arc<Group>, Error> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let open = open.get_or_insert_default();
    if let Some(group) = open.get(&number).and_then(Weak::upgrade) {
        return Ok(group);
    }
    let group = Arc::new(Group::open(tree, bdf, number)?);
    open.insert(number, Arc::downgrade(&group));
    Ok(group)
}

impl Group {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn open(tree: &Tree, bdf: Bdf, number: IommuGroupId) -> Result<Self, Error> {
        let container_path = Path::new(CONTAINER);
        let group_path = PathBuf::from(format!("/dev/vfio/{number}"));
        if !group_path.exists() {
            return Err(Error::NoVfioInterface { bdf, interface: VfioInterface::Group, path: group_path });
        }
        let container =
            sys::open(container_path).map_err(|source| Error::OpenIommu { path: container_path.to_owned(), source })?;
        let kind = iommu_kind(&container)?;
        let fd = sys::open(&group_path)
            .map_err(|source| busy_or(tree, bdf, source, |source| Error::OpenVfio { bdf, path: group_path, source }))?;
        let failed = |operation| move |source| Error::AttachGroup { bdf, group: number, operation, source };
        let flags = sys::group_flags(fd.as_fd()).map_err(failed("read the state"))?;
        if flags & uapi::VFIO_GROUP_FLAGS_VIABLE == 0 {
            tree.require_viable(bdf, number, &[])?;
            return Err(GroupError::NotViable { bdf, group: number, offenders: Vec::new() }.into());
        }
        sys::group_set_container(fd.as_fd(), container.as_fd()).map_err(failed("set the container"))?;
        sys::set_iommu(container.as_fd(), kind)
            .map_err(|source| busy_or(tree, bdf, source, failed("set the IOMMU")))?;
        Ok(Self { fd, _container: container })
    }
}

/// Returns the newest type 1 IOMMU type that the kernel offers. The container gets no mappings, because an export needs only
/// an attached group.
fn iommu_kind(container: &OwnedFd) -> Result<u32, Error> {
    [uapi::VFIO_TYPE1v2_IOMMU, uapi::VFIO_TYPE1_IOMMU]
        .into_iter()
        .find(|&kind| sys::container_offers(container.as_fd(), kind).unwrap_or(false))
        .ok_or(Error::NoType1)
}
