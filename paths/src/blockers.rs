//! Causes other than the path that prevent binding a function, exporting its BAR or importing a dma-buf.

use crate::{Cause, DmaBufSupport, Function, GroupMembership, Host, KernelVersion, RdmaDriver, Topology};

/// Drivers that start no DMA, so VFIO accepts them on other functions of a group that user space owns.
const TOLERATED: [&str; 2] = ["pcieport", "pci-stub"];
/// Drivers that support the dma-buf export.
const EXPORTING: [&str; 2] = ["vfio-pci", "nvgrace_gpu_vfio_pci"];

/// Lists the causes that prevent the export of a BAR. `bar` is its index; `None` means any exportable BAR.
pub fn of_exporter(host: &Host, topology: &Topology, exporter: &Function, bar: Option<u8>) -> Vec<Cause> {
    let group = topology.group_of(exporter);
    let checks = [
        (exporter.membership == GroupMembership::None, Cause::NoIommu),
        (group.is_some_and(|group| group.noiommu), Cause::Noiommu),
        (!other_drivers(topology, exporter).is_empty(), Cause::GroupNotViable),
        (!exporter.driver.as_deref().is_some_and(exports), Cause::DriverNotVfio),
        (!has_exportable(host, exporter, bar), Cause::BarNotExportable),
        (host.kernel.is_some_and(|kernel| kernel < KernelVersion::VFIO_DMA_BUF), Cause::KernelTooOld),
        (host.confidential_guest.is_some() || exporter.tdisp.is_some(), Cause::ConfidentialGuest),
    ];
    checks.into_iter().filter(|(blocks, _)| *blocks).map(|(_, cause)| cause).collect()
}

/// Finds the cause that prevents the importer's driver from importing; `None` if the driver can import or is unknown.
pub fn of_importer(importer: &Function) -> Option<Cause> {
    // Drivers import dma-bufs only for RDMA devices.
    importer.devices.iter().find(|device| device.starts_with("verbs:"))?;
    match RdmaDriver::named(importer.driver.as_deref()?)?.support {
        DmaBufSupport::PinnedForever => Some(Cause::ImporterNotRevocable),
        DmaBufSupport::None => Some(Cause::ImporterNoDmabuf),
        DmaBufSupport::Dynamic | DmaBufSupport::PinnedRevocable => None,
    }
}

/// Lists the functions of the exporter's group that prevent VFIO from owning the group, with their drivers.
pub fn other_drivers<'host>(topology: &'host Topology, exporter: &Function) -> Vec<(&'host Function, &'host str)> {
    let Some(group) = topology.group_of(exporter) else { return Vec::new() };
    let others = group.members.iter().filter(|bdf| **bdf != exporter.bdf).filter_map(|bdf| topology.function(*bdf));
    others
        .filter_map(|other| Some((other, other.driver.as_deref()?)))
        .filter(|(_, driver)| !is_tolerated(driver))
        .collect()
}

fn is_tolerated(driver: &str) -> bool {
    TOLERATED.contains(&driver) || is_vfio(driver)
}

/// Whether a driver exports BARs as dma-bufs.
pub(crate) fn exports(driver: &str) -> bool {
    EXPORTING.contains(&driver)
}

/// Whether the driver is vfio-pci or a variant driver of it.
pub(crate) fn is_vfio(driver: &str) -> bool {
    // Variant drivers are named after their device: mlx5_vfio_pci, hisi_acc_vfio_pci, xe-vfio-pci.
    driver.replace('_', "-").ends_with("vfio-pci")
}

fn has_exportable(host: &Host, exporter: &Function, bar: Option<u8>) -> bool {
    match bar {
        Some(index) => {
            exporter.bars.iter().any(|bar| bar.index == index && bar.why_not_exportable(host.page_bytes()).is_none())
        }
        None => exporter.main_bar(host.page_bytes()).is_some(),
    }
}
