//! The kind of the importer, which decides what it needs to import.

use super::Context;
use super::context::rdma_devices;
use crate::vfio::is_vfio_driver;
use crate::{ExporterRule, Function};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ImporterKind {
    /// A function with an RDMA device.
    Rdma,
    /// A GPU, which imports through its own driver.
    Gpu,
    /// A function that user space drives: iommufd maps the buffer for it.
    Iommufd,
    /// An NVMe drive with its kernel driver, which does not import.
    Nvme,
    /// A network controller without an RDMA device.
    Nic,
    /// Any other function.
    Other,
}

impl ImporterKind {
    /// The kind of a function as the selected importer.
    pub(super) fn of(at: &Context<'_>, function: &Function) -> Self {
        let driver = function.driver.as_deref();
        let class = function.class.map(|class| class >> 8);
        if at.own_address_space || driver.is_some_and(is_vfio_driver) {
            Self::Iommufd
        } else if !rdma_devices(function).is_empty() {
            Self::Rdma
        } else if at.device.is_some_and(|device| device.starts_with("cuda:"))
            || ExporterRule::of(function, None).is_gpu()
            || function.is_gpu()
        {
            Self::Gpu
        } else if driver == Some("nvme") || class == Some(0x0108) {
            Self::Nvme
        } else if class.is_some_and(|class| class >> 8 == 0x02) {
            Self::Nic
        } else {
            Self::Other
        }
    }

    /// Whether the selected importer is, or may become, an RDMA device.
    pub(super) fn possibly_rdma(at: &Context<'_>) -> bool {
        match at.importer {
            Some(importer) => matches!(Self::of(at, importer), Self::Rdma | Self::Nic),
            None => !at.device.is_some_and(|device| device.starts_with("cuda:")),
        }
    }
}
