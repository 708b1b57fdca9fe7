//! The older door: a group in a type 1 container.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use peerpath_paths::Bdf;
use vfio_bindings::bindings::vfio as uapi;

use super::owned_or;
use crate::host_tree::HostTree;
use crate::sys::vfio as sys;
use crate::viability;
use crate::{Door, Error};

/// An opened group under an IOMMU. The kernel lets a group be opened once, so all devices of it share this.
#[derive(Debug)]
pub(crate) struct Group {
    // Declared before the container: leaving it is the group's closing.
    fd: OwnedFd,
    _container: OwnedFd,
}

static OPEN: Mutex<Option<HashMap<u32, Weak<Group>>>> = Mutex::new(None);

/// Opens the device of a function through its group.
pub(crate) fn open(host: &HostTree, bdf: Bdf, number: u32) -> Result<(OwnedFd, Arc<Group>), Error> {
    let group = share(host, bdf, number)?;
    let device = sys::group_device(group.fd.as_fd(), &bdf.to_string()).map_err(|source| Error::OpenDevice {
        bdf,
        operation: "getting the device from its group",
        source,
    })?;
    Ok((device, group))
}

fn share(host: &HostTree, bdf: Bdf, number: u32) -> Result<Arc<Group>, Error> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let open = open.get_or_insert_default();
    if let Some(group) = open.get(&number).and_then(Weak::upgrade) {
        return Ok(group);
    }
    let group = Arc::new(Group::open(host, bdf, number)?);
    open.insert(number, Arc::downgrade(&group));
    Ok(group)
}

impl Group {
    fn open(host: &HostTree, bdf: Bdf, number: u32) -> Result<Self, Error> {
        let container_path = host.path("dev/vfio/vfio");
        let group_path = host.path(format!("dev/vfio/{number}"));
        if !group_path.exists() {
            return Err(Error::NoDoor { bdf, door: Door::Group, path: group_path });
        }
        let container =
            sys::open(&container_path).map_err(|source| Error::OpenIommu { path: container_path, source })?;
        let kind = iommu_kind(&container)?;
        let fd = sys::open(&group_path).map_err(|source| {
            owned_or(host, bdf, source, |source| Error::OpenVfio { bdf, path: group_path, source })
        })?;
        let failed = |operation| move |source| Error::AttachGroup { bdf, group: number, operation, source };
        let flags = sys::group_flags(fd.as_fd()).map_err(failed("reading the state"))?;
        if flags & uapi::VFIO_GROUP_FLAGS_VIABLE == 0 {
            let offenders = viability::offenders(host, number, &[])?;
            return Err(Error::GroupNotViable { bdf, group: number, offenders });
        }
        sys::group_set_container(fd.as_fd(), container.as_fd()).map_err(failed("joining the container"))?;
        sys::set_iommu(container.as_fd(), kind)
            .map_err(|source| owned_or(host, bdf, source, failed("switching translation on")))?;
        Ok(Self { fd, _container: container })
    }
}

/// The newest type 1 IOMMU on offer. Nothing is ever mapped through it here: an export needs an IOMMU, not its tables.
fn iommu_kind(container: &OwnedFd) -> Result<u32, Error> {
    [uapi::VFIO_TYPE1v2_IOMMU, uapi::VFIO_TYPE1_IOMMU]
        .into_iter()
        .find(|&kind| sys::container_offers(container.as_fd(), kind).unwrap_or(false))
        .ok_or(Error::NoType1)
}
