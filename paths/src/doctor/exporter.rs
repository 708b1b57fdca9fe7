//! The function whose BAR is exported.

use super::context::few;
use super::{Context, Verdict};
use crate::{Bar, BarKind, Cause, Function, blockers};

pub(super) fn exists(at: &Context<'_>) -> Vec<Verdict> {
    let page_bytes = at.host().page_bytes();
    if let Some(exporter) = at.exporter {
        return vec![if exporter.is_bridge() {
            Verdict::fail(
                exporter.bdf,
                Cause::BarNotExportable,
                format!("It is a {}; VFIO takes endpoints only.", exporter.class_name()),
                "Name a function that `peerpath list` shows.",
            )
        } else {
            Verdict::pass(exporter.bdf, format!("A {} ({}).", exporter.class_name(), exporter.ids()))
        }];
    }
    let able = |function: &&Function| !function.is_bridge() && function.main_bar(page_bytes).is_some();
    let able: Vec<_> = at.topology().functions().iter().filter(able).collect();
    let bound = able.iter().filter(|function| function.driver.as_deref().is_some_and(blockers::exports)).count();
    vec![match (able.len(), bound) {
        (0, _) => Verdict::fail(
            "host",
            Cause::NoDevice,
            "No function has a memory BAR of at least a page.",
            "Add a device with such a BAR (in QEMU: -device ivshmem-plain).",
        ),
        (count, 0) => Verdict::warn(
            "host",
            format!("{count} functions have a BAR that could be exported, and vfio-pci has none of them."),
            "Choose one with `peerpath list` and hand it over with `peerpath bind`; `run` takes a function that has no driver by itself.",
        )
        .because(Cause::DriverNotVfio),
        (count, bound) => {
            Verdict::pass("host", format!("{count} functions have a BAR to export, and vfio-pci has {bound} of them."))
        }
    }]
}

pub(super) fn bar(at: &Context<'_>) -> Vec<Verdict> {
    let Some(exporter) = at.exporter.filter(|exporter| !exporter.is_bridge()) else { return Vec::new() };
    let page_bytes = at.host().page_bytes();
    let wanted = match at.bar {
        Some(index) => exporter.bars.iter().find(|bar| bar.index == index),
        None => exporter.main_bar(page_bytes).or_else(|| exporter.bars.iter().max_by_key(|bar| bar.size_bytes)),
    };
    let refused = |subject: String, why: String| {
        let able = exporter.bars.iter().filter(|bar| bar.why_not_exportable(page_bytes).is_none());
        let able: Vec<_> = able.map(|bar| bar.index.to_string()).collect();
        let remedy = if able.is_empty() {
            "Name another function: this one has no BAR that can be exported.".to_owned()
        } else {
            format!("Name a BAR that can be exported: {}.", able.join(", "))
        };
        vec![Verdict::fail(subject, Cause::BarNotExportable, why, remedy)]
    };
    let Some(bar) = wanted else {
        return match at.bar {
            Some(index) => refused(format!("{}:{index}", exporter.bdf), format!("There is no BAR {index}.")),
            None => refused(exporter.bdf.to_string(), "It has no BAR at all.".to_owned()),
        };
    };
    let subject = format!("{}:{}", exporter.bdf, bar.index);
    match bar.why_not_exportable(page_bytes) {
        Some(why) => refused(subject, format!("BAR {} cannot be exported: {why}.", bar.index)),
        None => vec![Verdict::pass(subject, describe(bar))],
    }
}

fn describe(bar: &Bar) -> String {
    let width = match bar.kind {
        BarKind::Memory { wide: true, .. } => "64-bit",
        _ => "32-bit",
    };
    let place = if bar.last() > u64::from(u32::MAX) { "above" } else { "below" };
    format!("{} KiB at {:#x}, {place} 4 GiB, {width} ({}).", bar.size_bytes / 1024, bar.start, bar.kind)
}

pub(super) fn group(at: &Context<'_>) -> Vec<Verdict> {
    let named = at.exporter.into_iter();
    let taken =
        |function: &&Function| at.exporter.is_none() && function.driver.as_deref().is_some_and(blockers::exports);
    let exporters = named.chain(at.topology().functions().iter().filter(taken));
    // Without a group there is nothing to share, and the missing IOMMU has been told.
    exporters
        .filter_map(|exporter| Some((exporter, at.topology().group_of(exporter)?)))
        .map(|(exporter, group)| {
            let others = blockers::other_drivers(at.topology(), exporter);
            let others: Vec<_> = others.iter().map(|(other, driver)| format!("{} ({driver})", other.bdf)).collect();
            if others.is_empty() {
                return Verdict::pass(exporter.bdf, format!("Nothing in IOMMU group {} keeps VFIO out.", group.number));
            }
            Verdict::fail(
                exporter.bdf,
                Cause::GroupNotViable,
                format!("IOMMU group {} has functions with other drivers: {}.", group.number, few(&others)),
                "Hand them to vfio-pci too (`peerpath bind`), unless one of them shall import; or move the card to a slot with a group \
                 of its own.",
            )
        })
        .collect()
}

pub(super) fn driver(at: &Context<'_>) -> Vec<Verdict> {
    let Some(exporter) = at.exporter.filter(|exporter| !exporter.is_bridge()) else { return Vec::new() };
    vec![match exporter.driver.as_deref() {
        Some(driver) if blockers::exports(driver) => Verdict::pass(exporter.bdf, format!("{driver} has it.")),
        Some(driver) if blockers::is_vfio(driver) => Verdict::fail(
            exporter.bdf,
            Cause::DriverNotVfio,
            format!("{driver} has it, a VFIO driver that exports no dma-buf."),
            "Bind the function to vfio-pci itself.",
        ),
        Some(driver) => Verdict::fail(
            exporter.bdf,
            Cause::DriverNotVfio,
            format!("{driver} has it, and only vfio-pci exports BARs."),
            format!("Hand it over: peerpath bind {}.", exporter.bdf),
        ),
        None => Verdict::warn(
            exporter.bdf,
            "No driver has it; `peerpath run` and `export` take it and give it back.",
            format!("To hand it over for good: peerpath bind {}.", exporter.bdf),
        )
        .because(Cause::DriverNotVfio),
    }]
}

pub(super) fn in_use(at: &Context<'_>) -> Vec<Verdict> {
    let Some(exporter) = at.exporter else { return Vec::new() };
    let Some(live) = at.live else { return vec![Verdict::live_only(exporter.bdf)] };
    vec![match &live.exporter_uses {
        None => Verdict::unknown(exporter.bdf, "Nobody asked what uses it.", "Look for it in `lspci -v` and `fuser`."),
        Some(Err(why)) => Verdict::explained(super::Status::Unknown, exporter.bdf, why),
        Some(Ok(uses)) if uses.is_empty() => Verdict::pass(exporter.bdf, "Nothing uses it."),
        Some(Ok(uses)) => {
            let details: Vec<_> = uses.iter().map(|one| one.detail.clone()).collect();
            let remedy = if uses.iter().all(|one| one.forceable) {
                "End that use, or take the function all the same with --force-in-use."
            } else {
                "Use another function: taking this one could cost this host a disk or its network."
            };
            Verdict::fail(exporter.bdf, Cause::InUse, format!("It is in use: {}.", few(&details)), remedy)
        }
    }]
}

pub(super) fn memory_decode(at: &Context<'_>) -> Vec<Verdict> {
    let Some(exporter) = at.exporter.filter(|exporter| !exporter.is_bridge()) else { return Vec::new() };
    if exporter.physical_function.is_some() {
        return vec![Verdict::pass(exporter.bdf, "A virtual function answers memory accesses with its physical one.")];
    }
    vec![match exporter.memory_decode() {
        Some(true) => Verdict::pass(exporter.bdf, "It answers memory accesses."),
        // vfio-pci enables the function when it is opened, so this is normal for one that nobody has open.
        Some(false) => Verdict::warn(
            exporter.bdf,
            "Its memory-decode bit is off; VFIO sets it when the function is opened, and while it is off a dma-buf stays revoked.",
            "Nothing, unless registering fails with ENODEV: then enable memory in its PCI command register.",
        )
        .because(Cause::MemoryDecodeOff),
        None => Verdict::unknown(
            exporter.bdf,
            "Its config space cannot be read.",
            "Read it as root; a function that shows only ones is gone or without power.",
        ),
    }]
}
