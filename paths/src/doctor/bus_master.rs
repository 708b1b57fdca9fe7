//! Checks bus mastering. A function whose Bus Master Enable bit is cleared sends no DMA, and a bridge forwards none upward.

use super::{Context, Verdict};
use crate::Function;
use crate::vfio::is_vfio_driver;

pub(super) fn check(at: &Context<'_>) -> Vec<Verdict> {
    let importers = match at.importer {
        Some(importer) if !importer.is_bridge() => vec![importer],
        Some(_) => return Vec::new(),
        None => at.rdma_functions(),
    };
    let mut found = Vec::new();
    for importer in importers {
        found.extend(of_importer(at, importer));
    }
    // Without a selected importer, report only problems, because a host can have many devices.
    if at.importer.is_none() {
        found.retain(|verdict| verdict.status == super::Status::Warn);
    }
    found
}

fn of_importer(at: &Context<'_>, importer: &Function) -> Vec<Verdict> {
    // VFIO switches bus mastering off when a program opens the function, and the program switches it on. A run binds a function
    // that is selected as `iommufd:BDF` to vfio-pci.
    let through_vfio = at.own_address_space || importer.driver.as_deref().is_some_and(is_vfio_driver);
    let own = match importer.config.bus_master() {
        Some(true) => None,
        Some(false) if through_vfio => None,
        Some(false) => Some(Verdict::warn(
            importer.bdf,
            "Bus mastering of the importer is off (BusMaster- in lspci), so it sends no DMA at all.",
            match importer.driver.as_deref() {
                None => format!(
                    "Load the driver of the function, which switches bus mastering on, or set the bit with `setpci -s {} COMMAND=4:4`.",
                    importer.bdf
                ),
                Some(driver) => format!(
                    "Check why {driver} leaves it off (`dmesg`), or set the bit with `setpci -s {} COMMAND=4:4`.",
                    importer.bdf
                ),
            },
        )),
        None => {
            return vec![Verdict::unknown(
                importer.bdf,
                "The config space of the function is not readable.",
                "Run as root. If config space reads as all ones, the function was removed or has no power.",
            )];
        }
    };
    let bridges = at.topology().bridges_above(importer.bdf);
    let off = bridges
        .into_iter()
        .find(|bdf| at.topology().function(*bdf).is_some_and(|bridge| bridge.config.bus_master() == Some(false)));
    let bridge = off.map(|bdf| {
        Verdict::warn(
            bdf,
            format!(
                "Bus mastering of the bridge is off, so it forwards no DMA of {} toward the root complex.",
                importer.bdf
            ),
            format!(
                "Bind the driver of {}, which switches bus mastering on for the bridges above, or set the bit with \
                 `setpci -s {bdf} COMMAND=4:4`.",
                importer.bdf
            ),
        )
    });
    let found: Vec<_> = own.into_iter().chain(bridge).collect();
    if !found.is_empty() {
        return found;
    }
    let detail = match importer.config.bus_master() {
        Some(false) => {
            "Bus mastering is off until a program opens the function through VFIO and switches it on, as a run does."
        }
        _ => "Bus mastering is on.",
    };
    vec![Verdict::pass(importer.bdf, detail)]
}
