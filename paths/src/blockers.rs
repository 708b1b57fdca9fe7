//! Causes other than the path that prevent binding a function, exporting its BAR or importing a dma-buf.

use std::collections::HashMap;

use crate::vfio::is_tolerated_driver;
use crate::{Bdf, Cause, DmaBufSupport, ExporterRule, Function, GroupMembership, Host, RdmaDriver, Topology};

/// Drivers that support the dma-buf export.
const EXPORTING: [&str; 2] = ["vfio-pci", "nvgrace_gpu_vfio_pci"];

/// Lists the causes that prevent the export of a BAR, or of a GPU's memory if a GPU driver exports it. `bar` is the index of the
/// BAR; `None` means any exportable BAR.
pub(crate) fn of_exporter(
    host: &Host,
    topology: &Topology,
    drivers: &GroupDrivers<'_>,
    exporter: &Function,
    bar: Option<u8>,
) -> Vec<Cause> {
    let confidential = host.confidential_guest.is_some() || exporter.tdisp.is_some();
    // A GPU driver needs neither vfio-pci, nor an IOMMU, nor a kernel with VFIO's dma-buf export.
    if ExporterRule::of(exporter, bar).is_gpu() {
        return confidential.then_some(Cause::ConfidentialGuest).into_iter().collect();
    }
    let group = topology.group_of(exporter);
    let checks = [
        (exporter.membership == GroupMembership::None, Cause::NoIommu),
        (group.is_some_and(|group| group.noiommu), Cause::Noiommu),
        (drivers.others(exporter).next().is_some(), Cause::GroupNotViable),
        (exporter.driver_known && !exporter.driver.as_deref().is_some_and(exports), Cause::DriverNotVfio),
        (exporter.bars_known && !has_exportable(host, exporter, bar), Cause::BarNotExportable),
        (host.dma_buf_export().is_some_and(|(present, _)| !present), Cause::KernelTooOld),
        (confidential, Cause::ConfidentialGuest),
    ];
    checks.into_iter().filter(|(blocks, _)| *blocks).map(|(_, cause)| cause).collect()
}

/// Finds the cause that prevents the importer's driver from importing; `None` if the driver can import or is unknown.
pub(crate) fn of_importer(host: &Host, importer: &Function, exporter: ExporterRule) -> Option<Cause> {
    // The table covers RDMA drivers only, so a function without an RDMA device is unknown.
    importer.devices.iter().find(|device| device.starts_with("verbs:"))?;
    match RdmaDriver::named(importer.driver.as_deref()?)?.support_in(host.kernel) {
        // VFIO rejects importers that pin without support for revocation; GPU drivers accept them.
        DmaBufSupport::PinnedForever if exporter.is_gpu() => None,
        DmaBufSupport::PinnedForever => Some(Cause::ImporterNotRevocable),
        DmaBufSupport::None => Some(Cause::ImporterNoDmabuf),
        DmaBufSupport::Dynamic | DmaBufSupport::PinnedRevocable => None,
    }
}

/// The blocker of a function that TDISP locked: it accepts and sends only packets of the confidential guest that owns it.
pub(crate) fn of_tdisp(function: &Function) -> Option<Cause> {
    function.tdisp.as_ref().map(|_| Cause::ConfidentialGuest)
}

/// The functions of each IOMMU group that prevent VFIO from owning the group, with their drivers. A group can contain every
/// function of a host, so the groups are read once for all exporters.
#[derive(Debug)]
pub(crate) struct GroupDrivers<'host> {
    of_group: HashMap<u32, Vec<(&'host Function, &'host str)>>,
}

impl<'host> GroupDrivers<'host> {
    pub(crate) fn of(topology: &'host Topology) -> Self {
        let driver = |bdf: &Bdf| {
            let function = topology.function(*bdf)?;
            function.driver.as_deref().filter(|driver| !is_tolerated_driver(driver)).map(|driver| (function, driver))
        };
        let groups = topology.groups().values();
        Self {
            of_group: groups.map(|group| (group.number, group.members.iter().filter_map(driver).collect())).collect(),
        }
    }

    /// The functions in the exporter's group, other than the exporter, that prevent VFIO from owning the group.
    pub(crate) fn others(&self, exporter: &Function) -> impl Iterator<Item = (&'host Function, &'host str)> {
        let members = match exporter.membership {
            GroupMembership::Group(number) => self.of_group.get(&number).map(Vec::as_slice).unwrap_or_default(),
            GroupMembership::None | GroupMembership::Unknown => &[],
        };
        let exporter = exporter.bdf;
        members.iter().copied().filter(move |(other, _)| other.bdf != exporter)
    }
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
