//! Causes other than the path that prevent binding a function, exporting its BAR or importing a dma-buf.

use crate::vfio::is_tolerated_driver;
use crate::{Cause, DmaBufSupport, Function, GroupMembership, Host, RdmaDriver, Topology};

/// Drivers that support the dma-buf export.
const EXPORTING: [&str; 2] = ["vfio-pci", "nvgrace_gpu_vfio_pci"];

/// Lists the causes that prevent the export of a BAR. `bar` is its index; `None` means any exportable BAR.
pub(crate) fn of_exporter(host: &Host, topology: &Topology, exporter: &Function, bar: Option<u8>) -> Vec<Cause> {
    let group = topology.group_of(exporter);
    let checks = [
        (exporter.membership == GroupMembership::None, Cause::NoIommu),
        (group.is_some_and(|group| group.noiommu), Cause::Noiommu),
        (!other_drivers(topology, exporter).is_empty(), Cause::GroupNotViable),
        (!exporter.driver.as_deref().is_some_and(exports), Cause::DriverNotVfio),
        (!has_exportable(host, exporter, bar), Cause::BarNotExportable),
        (host.dma_buf_export().is_some_and(|(present, _)| !present), Cause::KernelTooOld),
        (host.confidential_guest.is_some() || exporter.tdisp.is_some(), Cause::ConfidentialGuest),
    ];
    checks.into_iter().filter(|(blocks, _)| *blocks).map(|(_, cause)| cause).collect()
}

/// Finds the cause that prevents the importer's driver from importing; `None` if the driver can import or is unknown.
pub(crate) fn of_importer(host: &Host, importer: &Function) -> Option<Cause> {
    // Without an RDMA device, the driver does not import.
    importer.devices.iter().find(|device| device.starts_with("verbs:"))?;
    match RdmaDriver::named(importer.driver.as_deref()?)?.support_in(host.kernel) {
        DmaBufSupport::PinnedForever => Some(Cause::ImporterNotRevocable),
        DmaBufSupport::None => Some(Cause::ImporterNoDmabuf),
        DmaBufSupport::Dynamic | DmaBufSupport::PinnedRevocable => None,
    }
}

/// Lists the functions of the exporter's group that prevent VFIO from owning the group, with their drivers.
pub(crate) fn other_drivers<'host>(
    topology: &'host Topology,
    exporter: &Function,
) -> Vec<(&'host Function, &'host str)> {
    let Some(group) = topology.group_of(exporter) else { return Vec::new() };
    let others = group.members.iter().filter(|bdf| **bdf != exporter.bdf).filter_map(|bdf| topology.function(*bdf));
    others
        .filter_map(|other| Some((other, other.driver.as_deref()?)))
        .filter(|(_, driver)| !is_tolerated_driver(driver))
        .collect()
}

/// Whether a driver exports BARs as dma-bufs.
pub(crate) fn exports(driver: &str) -> bool {
    EXPORTING.contains(&driver)
}

fn has_exportable(host: &Host, exporter: &Function, bar: Option<u8>) -> bool {
    match bar {
        Some(index) => {
            exporter.bars.iter().any(|bar| bar.index == index && bar.why_not_exportable(host.page_bytes()).is_none())
        }
        None => exporter.main_bar(host.page_bytes()).is_some(),
    }
}
