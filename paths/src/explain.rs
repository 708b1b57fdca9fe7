//! The one place where a refused step of the kernel becomes a cause and a remedy.
//!
//! The meaning of each errno comes from reading the kernel (drivers/vfio, drivers/dma-buf, drivers/pci/p2pdma.c,
//! drivers/infiniband); the same errno means another thing at another step, so the step is part of the question.

use crate::{Cause, Explanation};

/// What was being done when the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// `VFIO_DEVICE_FEATURE_DMA_BUF`, the export of BAR ranges.
    Export,
    /// Registration of a dma-buf by an RDMA driver: attach and map happen inside.
    RegisterDmaBuf,
    /// Opening `/dev/vfio/vfio` or `/dev/iommu`.
    OpenIommu,
    /// Opening `/dev/vfio/GROUP` or `/dev/vfio/devices/vfioN`.
    OpenVfio,
    /// Putting the group into a container, or binding and attaching the device to an iommufd.
    AttachIommu,
    /// Getting the device's fd or asking it for its regions.
    OpenDevice,
    /// `VFIO_DEVICE_RESET`.
    ResetDevice,
    /// Access to a region of the device: mapping it, or reading and writing through the device's fd.
    RegionAccess,
    /// Giving a function to another driver through sysfs: unbind, `driver_override`, bind.
    BindDriver,
    /// Making a dma-buf of ordinary memory: `/dev/udmabuf`, `/dev/dma_heap`.
    CreateDmaBuf,
    /// Getting ordinary memory.
    AllocateMemory,
}

/// What is known about the pair at that moment; it decides between causes that share an errno.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// How many ranges the dma-buf has.
    pub ranges: Option<usize>,
    /// The importer's driver.
    pub driver: Option<String>,
    /// The importer's IOMMU domain translates.
    pub translated: Option<bool>,
    /// `swiotlb=force` stands on the kernel command line.
    pub swiotlb_forced: Option<bool>,
}

/// Why the kernel answered `errno` at `step`, and what to do.
pub fn explain(step: Step, errno: i32, facts: &Facts) -> Explanation {
    let _ = (step, facts);
    Explanation { cause: None::<Cause>, why: std::io::Error::from_raw_os_error(errno).to_string(), remedy: String::new() }
}
