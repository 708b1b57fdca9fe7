//! Checks of the exporter: the function whose BAR is exported.

use std::collections::HashMap;

use super::context::few;
use super::{Context, Verdict};
use crate::vfio::is_vfio_driver;
use crate::{Bar, BarKind, Cause, ExporterRule, Function, Platform, PortType, blockers, sentence};

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
    let unread = at.topology().functions().iter().filter(|function| !function.is_bridge() && !function.bars_known);
    let unread: Vec<_> = unread.map(|function| function.bdf.to_string()).collect();
    let exporters: Vec<_> = at.topology().functions().iter().filter(can_export).collect();
    let gpus = exporters.iter().filter(|function| ExporterRule::of(function, None).is_gpu()).count();
    let bound = exporters.iter().filter(|function| function.driver.as_deref().is_some_and(blockers::exports)).count();
    vec![match (exporters.len(), bound) {
        (0, _) if !unread.is_empty() => Verdict::unknown(
            "host",
            format!("The BARs of {} are unknown: the sysfs copy lacks their file resource, or the lspci output does not \
                     show them.", few(&unread)),
            "Copy the file resource of each function, add the output of `lspci -vv`, or take the snapshot with `peerpath snapshot`.",
        ),
        (0, _) if at.topology().functions().is_empty() => Verdict::unknown(
            "host",
            "The snapshot or lspci output shows no PCI functions.",
            "Check a host with PCI, or a snapshot that contains sys/bus/pci/devices.",
        ),
        (0, _) => Verdict::fail(
            "host",
            Cause::NoDevice,
            "No function has a memory BAR of at least a page.",
            match at.platform {
                Some(Platform::Qemu) => "Add a device with such a BAR (QEMU: -device ivshmem-plain).",
                _ => "Add a device with such a BAR.",
            },
        ),
        (count, 0) if gpus > 0 => Verdict::pass(
            "host",
            format!(
                "{count} functions have an exportable BAR. The driver of {gpus} GPUs among them exports the GPU's memory; no function \
                 is bound to vfio-pci."
            ),
        ),
        (count, 0) => Verdict::warn(
            "host",
            format!("{count} functions have an exportable BAR, and none of them is bound to vfio-pci."),
            at.instead_of_vfio().unwrap_or(
                "Choose one with `peerpath list` and bind it with `peerpath bind`; `peerpath run` binds only a function without a driver.",
            ),
        )
        .because(Cause::DriverNotVfio),
        (count, bound) => {
            Verdict::pass("host", format!("{count} functions have an exportable BAR, and {bound} of them are bound to vfio-pci."))
        }
    }]
}

/// Default size of the BAR of a GPU's memory, which the firmware can raise (resizable BAR).
const NOT_RESIZED_BYTES: u64 = 256 << 20;

pub(super) fn rule(at: &Context<'_>) -> Vec<Verdict> {
    let subject = match (at.exporter.filter(|exporter| !exporter.is_bridge()), at.exporter_device) {
        (Some(exporter), _) => exporter.bdf.to_string(),
        (None, Some(device)) => device.to_owned(),
        (None, None) => return Vec::new(),
    };
    if at.rule_unknown() {
        return vec![Verdict::unknown(
            subject,
            "The driver of the GPU is unknown: a GPU driver exports the memory of the GPU by its own rule, and vfio-pci exports a BAR.",
            "Add the link driver of the function to the sysfs copy, take a snapshot with `peerpath snapshot`, or add the \
             output of `lspci -k`.",
        )];
    }
    let rule = at.rule();
    let detail = sentence(rule.describe());
    let verdict = if rule.exports_host_memory_only() {
        Verdict::warn(
            subject,
            detail,
            "Use a GPU whose driver exports the memory of the GPU (nvidia, amdgpu, xe), or bind the function to vfio-pci to \
             export its BAR.",
        )
    } else {
        Verdict::pass(subject, detail)
    };
    [verdict].into_iter().chain(super::gpu::numbered(at, at.exporter_device, at.exporter)).collect()
}

/// Checks the BAR through which other devices access the memory of a GPU.
fn memory_of_gpu(exporter: &Function, rule: ExporterRule) -> Vec<Verdict> {
    let bar = match rule {
        ExporterRule::Nvidia => super::gpu::memory_bar_of(&exporter.bars),
        _ => exporter.bars.iter().filter(|bar| bar.kind != BarKind::Io).max_by_key(|bar| bar.size_bytes),
    };
    let subject = |bar: &Bar| format!("{}:{}", exporter.bdf, bar.index);
    vec![match bar {
        // i915 and nouveau export host memory, which has no BAR.
        _ if rule.exports_host_memory_only() => return Vec::new(),
        _ if exporter.pcie.present().is_some_and(|pcie| pcie.port_type == PortType::IntegratedEndpoint) => {
            Verdict::pass(
                exporter.bdf,
                "The GPU is part of the processor and uses host memory, so its exports need no BAR and no peer-to-peer path.",
            )
        }
        Some(bar) if bar.size_bytes <= NOT_RESIZED_BYTES => Verdict::warn(
            subject(bar),
            format!(
                "The BAR of the GPU's memory has {} MiB, so other devices can access only that much of the memory at a time.",
                bar.size_bytes >> 20
            ),
            "Enable resizable BARs and decoding above 4 GiB in the firmware, if the GPU supports them.",
        ),
        Some(bar) => Verdict::pass(
            subject(bar),
            format!("Other devices access the GPU's memory through a BAR of {} MiB.", bar.size_bytes >> 20),
        ),
        None if !exporter.bars_known || exporter.bars.is_empty() => Verdict::unknown(
            exporter.bdf,
            "No BAR of the function is readable.",
            "Check `lspci -vv`, or take the snapshot with `peerpath snapshot`.",
        ),
        None => Verdict::fail(
            exporter.bdf,
            Cause::BarNotExportable,
            "The function has no BAR of GPU memory, so other devices cannot access GPU memory through PCI. A GPU that shares the \
             memory of the host has no such BAR.",
            "Register host memory with the importer and with the GPU (cudaHostAlloc).",
        ),
    }]
}

pub(super) fn bar(at: &Context<'_>) -> Vec<Verdict> {
    let Some(exporter) = at.exporter.filter(|exporter| !exporter.is_bridge()) else { return Vec::new() };
    if !exporter.bars_known {
        return vec![Verdict::unknown(
            exporter.bdf,
            "The BARs of the function are unknown: the sysfs copy lacks its file resource, or the lspci output does not show them.",
            "Copy the file resource of the function, add the output of `lspci -vv`, or take the snapshot with `peerpath snapshot`.",
        )];
    }
    if !at.through_vfio() {
        return memory_of_gpu(exporter, at.rule());
    }
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
    let drivers = blockers::GroupDrivers::of(at.topology());
    // The list contains no function that is bound to vfio-pci, so it is the same for every such exporter of the group.
    let mut lists: HashMap<u32, String> = HashMap::new();
    // The check `iommu` reports a function without a group.
    exporters
        .filter_map(|exporter| Some((exporter, at.topology().group_of(exporter)?)))
        .map(|(exporter, group)| {
            let others = lists.entry(group.number).or_insert_with(|| {
                let others = drivers.others(exporter).map(|(other, driver)| format!("{} ({driver})", other.bdf));
                few(&others.collect::<Vec<_>>())
            });
            if others.is_empty() {
                return Verdict::pass(exporter.bdf, format!("VFIO can own IOMMU group {}.", group.number));
            }
            Verdict::fail(
                exporter.bdf,
                Cause::GroupNotViable,
                format!(
                    "VFIO cannot own IOMMU group {}, because other functions of the group have kernel drivers: {others}.",
                    group.number
                ),
                group_remedy(at, exporter),
            )
        })
        .collect()
}

/// The remedy for a group that VFIO cannot own. Only a card in a slot can move to a slot with a group of its own.
fn group_remedy(at: &Context<'_>, exporter: &Function) -> String {
    if let Some(controller) = at.topology().vmd_above(exporter) {
        return format!(
            "Switch VMD ({controller}) off in the firmware: all functions behind the controller share its IOMMU group."
        );
    }
    let otherwise = match at.platform {
        Some(platform) if platform.is_soldered() || platform.is_guest() => "choose another exporter",
        _ => "move the card to a slot with its own IOMMU group",
    };
    format!("Bind them to vfio-pci too (`peerpath bind`). If one of them is the importer, {otherwise}.")
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
            at.instead_of_vfio()
                .map_or_else(|| format!("Bind it with `peerpath bind {}`.", exporter.bdf), str::to_owned),
        ),
        None if !exporter.driver_known => Verdict::unknown(
            exporter.bdf,
            "The driver of the function is unknown: the sysfs copy or the lspci output does not show it.",
            "Take the snapshot with `peerpath snapshot`, or add the output of `lspci -k`.",
        ),
        None if at.instead_of_vfio().is_some() => Verdict::warn(
            exporter.bdf,
            "The function has no driver, and only vfio-pci exports BARs.",
            at.instead_of_vfio().unwrap_or_default(),
        )
        .because(Cause::DriverNotVfio),
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
            "Check its driver with `lspci -k` and the processes that have it open with `fuser -v /dev/vfio/*`.",
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
        Some(false) if !at.through_vfio() => Verdict::warn(
            exporter.bdf,
            "The memory-decode bit is off, so the GPU does not respond to memory accesses; its driver may have suspended it.",
            "Use the GPU and check again. If the bit stays off, check the kernel log (dmesg) for the GPU driver.",
        )
        .because(Cause::MemoryDecodeOff),
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
