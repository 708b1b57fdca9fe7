//! Checks of the exporter: the function whose BAR is exported.

use super::context::few;
use super::{Context, Verdict};
use crate::vfio::is_vfio_driver;
use crate::{Bar, BarKind, Cause, Function, blockers};

pub(super) fn exists(at: &Context<'_>) -> Vec<Verdict> {
    let page_bytes = at.host().page_bytes();
    if let Some(exporter) = at.exporter {
        return vec![if exporter.is_bridge() {
            Verdict::fail(
                exporter.bdf,
                Cause::BarNotExportable,
                format!("The function is a {}, and VFIO supports endpoints only.", exporter.class_name()),
                "Choose a function that `peerpath list` shows.",
            )
        } else {
            Verdict::pass(exporter.bdf, format!("The function is a {} ({}).", exporter.class_name(), exporter.ids()))
        }];
    }
    let can_export = |function: &&Function| !function.is_bridge() && function.main_bar(page_bytes).is_some();
    let exporters: Vec<_> = at.topology().functions().iter().filter(can_export).collect();
    let bound = exporters.iter().filter(|function| function.driver.as_deref().is_some_and(blockers::exports)).count();
    vec![match (exporters.len(), bound) {
        (0, _) => Verdict::fail(
            "host",
            Cause::NoDevice,
            "No function has a memory BAR of at least a page.",
            "Add a device with such a BAR (QEMU: -device ivshmem-plain).",
        ),
        (count, 0) => Verdict::warn(
            "host",
            format!("{count} functions have an exportable BAR, and none of them is bound to vfio-pci."),
            "Choose one with `peerpath list` and bind it with `peerpath bind`; `peerpath run` binds only a function without a driver.",
        )
        .because(Cause::DriverNotVfio),
        (count, bound) => {
            Verdict::pass("host", format!("{count} functions have an exportable BAR, and {bound} of them are bound to vfio-pci."))
        }
    }]
}

pub(super) fn bar(at: &Context<'_>) -> Vec<Verdict> {
    let Some(exporter) = at.exporter.filter(|exporter| !exporter.is_bridge()) else { return Vec::new() };
    let page_bytes = at.host().page_bytes();
    let selected = match at.bar {
        Some(index) => exporter.bars.iter().find(|bar| bar.index == index),
        None => exporter.main_bar(page_bytes).or_else(|| exporter.bars.iter().max_by_key(|bar| bar.size_bytes)),
    };
    let refused = |subject: String, why: String| {
        let exportable = exporter.bars.iter().filter(|bar| bar.why_not_exportable(page_bytes).is_none());
        let exportable: Vec<_> = exportable.map(|bar| bar.index.to_string()).collect();
        let remedy = if exportable.is_empty() {
            "Choose another function: this one has no exportable BAR.".to_owned()
        } else {
            format!("Choose an exportable BAR: {}.", exportable.join(", "))
        };
        vec![Verdict::fail(subject, Cause::BarNotExportable, why, remedy)]
    };
    let Some(bar) = selected else {
        return match at.bar {
            Some(index) => refused(format!("{}:{index}", exporter.bdf), format!("The function has no BAR {index}.")),
            None => refused(exporter.bdf.to_string(), "The function has no BAR.".to_owned()),
        };
    };
    let subject = format!("{}:{}", exporter.bdf, bar.index);
    match bar.why_not_exportable(page_bytes) {
        Some(why) => refused(subject, format!("BAR {} is not exportable: {why}.", bar.index)),
        None => vec![Verdict::pass(subject, describe(bar))],
    }
}

fn describe(bar: &Bar) -> String {
    let width = match bar.kind {
        BarKind::Memory { wide: true, .. } => "64-bit",
        _ => "32-bit",
    };
    let position = if bar.last() > u64::from(u32::MAX) { "above" } else { "below" };
    format!("The BAR is {} KiB at {:#x}, {position} 4 GiB, {width} ({}).", bar.size_bytes / 1024, bar.start, bar.kind)
}

pub(super) fn group(at: &Context<'_>) -> Vec<Verdict> {
    let selected = at.exporter.into_iter();
    let bound =
        |function: &&Function| at.exporter.is_none() && function.driver.as_deref().is_some_and(blockers::exports);
    let exporters = selected.chain(at.topology().functions().iter().filter(bound));
    // The check `iommu` reports a function without a group.
    exporters
        .filter_map(|exporter| Some((exporter, at.topology().group_of(exporter)?)))
        .map(|(exporter, group)| {
            let others = blockers::other_drivers(at.topology(), exporter);
            let others: Vec<_> = others.iter().map(|(other, driver)| format!("{} ({driver})", other.bdf)).collect();
            if others.is_empty() {
                return Verdict::pass(exporter.bdf, format!("VFIO can own IOMMU group {}.", group.number));
            }
            Verdict::fail(
                exporter.bdf,
                Cause::GroupNotViable,
                format!(
                    "VFIO cannot own IOMMU group {}, because other functions of the group have kernel drivers: {}.",
                    group.number,
                    few(&others)
                ),
                "Bind them to vfio-pci too (`peerpath bind`). If one of them is the importer, move the card to a slot \
                 with its own IOMMU group.",
            )
        })
        .collect()
}

pub(super) fn driver(at: &Context<'_>) -> Vec<Verdict> {
    let Some(exporter) = at.exporter.filter(|exporter| !exporter.is_bridge()) else { return Vec::new() };
    vec![match exporter.driver.as_deref() {
        Some(driver) if blockers::exports(driver) => {
            Verdict::pass(exporter.bdf, format!("The function is bound to {driver}."))
        }
        Some(driver) if is_vfio_driver(driver) => Verdict::fail(
            exporter.bdf,
            Cause::DriverNotVfio,
            format!("The function is bound to {driver}, a VFIO driver that cannot export dma-bufs."),
            "Bind the function to vfio-pci.",
        ),
        Some(driver) => Verdict::fail(
            exporter.bdf,
            Cause::DriverNotVfio,
            format!("The function is bound to {driver}, and only vfio-pci exports BARs."),
            format!("Bind it with `peerpath bind {}`.", exporter.bdf),
        ),
        None if !exporter.driver_known => Verdict::unknown(
            exporter.bdf,
            "The driver of the function is unknown: the copy of sysfs or the text does not show it.",
            "Take the snapshot with `peerpath snapshot`, or add the output of `lspci -k`.",
        ),
        None => Verdict::warn(
            exporter.bdf,
            "The function has no driver; `peerpath run` and `peerpath export` bind it to vfio-pci and revert the binding at the end.",
            format!("Bind it permanently with `peerpath bind {}`.", exporter.bdf),
        )
        .because(Cause::DriverNotVfio),
    }]
}

pub(super) fn in_use(at: &Context<'_>) -> Vec<Verdict> {
    let Some(exporter) = at.exporter else { return Vec::new() };
    let Some(live) = at.live else { return vec![Verdict::live_only(exporter.bdf)] };
    vec![match &live.exporter_uses {
        None => Verdict::unknown(
            exporter.bdf,
            "It is unknown whether the function is in use.",
            "Check them with `lspci -v` and `fuser`.",
        ),
        Some(Err(why)) => Verdict::explained(super::Status::Unknown, exporter.bdf, why),
        Some(Ok(uses)) if uses.is_empty() => Verdict::pass(exporter.bdf, "The function is not in use."),
        Some(Ok(uses)) => {
            let details: Vec<_> = uses.iter().map(|one| one.detail.clone()).collect();
            let remedy = if uses.iter().all(|one| one.forceable) {
                "Stop this use, or bind the function anyway with `peerpath bind --force-in-use`."
            } else {
                "Use another function: without this one the host may lose a disk or its network."
            };
            Verdict::fail(exporter.bdf, Cause::InUse, format!("The function is in use: {}.", few(&details)), remedy)
        }
    }]
}

pub(super) fn memory_decode(at: &Context<'_>) -> Vec<Verdict> {
    let Some(exporter) = at.exporter.filter(|exporter| !exporter.is_bridge()) else { return Vec::new() };
    if exporter.physical_function.is_some() {
        return vec![Verdict::pass(
            exporter.bdf,
            "A virtual function uses the memory-decode setting of its physical function.",
        )];
    }
    vec![match exporter.memory_decode() {
        Some(true) => Verdict::pass(exporter.bdf, "Memory decoding is on."),
        // vfio-pci sets the bit when user space opens the function, so a cleared bit is normal before that.
        Some(false) => Verdict::warn(
            exporter.bdf,
            "The memory-decode bit is off; VFIO sets it when it opens the function, and a dma-buf stays revoked while the bit is off.",
            "Set the bit in the PCI command register if a registration fails with ENODEV.",
        )
        .because(Cause::MemoryDecodeOff),
        None => Verdict::unknown(
            exporter.bdf,
            "The config space of the function is not readable.",
            "Run as root. If config space reads as all ones, the function was removed or has no power.",
        ),
    }]
}
