//! The IOMMU, without which VFIO opens nothing.

use std::collections::BTreeMap;

use super::{Context, Verdict};
use crate::{Cause, GroupMembership, Host};

pub(super) fn in_use(at: &Context<'_>) -> Vec<Verdict> {
    // A named exporter is what it is about; otherwise all that could be one.
    if let Some(exporter) = at.exporter {
        return vec![match exporter.membership {
            GroupMembership::None => off(at.host(), exporter.bdf.to_string()),
            GroupMembership::Unknown => unknown(exporter.bdf.to_string()),
            GroupMembership::Group(number) => {
                let kind = at.topology().group_of(exporter).and_then(|group| group.domain_type.as_deref());
                let kind = kind.map_or(String::new(), |kind| format!(", whose domain is {kind}"));
                Verdict::pass(exporter.bdf, format!("It is in IOMMU group {number}{kind}."))
            }
        }];
    }
    let functions = at.topology().functions();
    if functions.is_empty() {
        return vec![Verdict::unknown(
            "host",
            "There are no PCI functions, so whether an IOMMU is in use cannot be told.",
            "Look at a host with PCI, or at a snapshot that has sys/bus/pci/devices.",
        )];
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for group in at.topology().groups().values().filter(|group| !group.noiommu) {
        *kinds.entry(group.domain_type.as_deref().unwrap_or("unknown")).or_default() += 1;
    }
    let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    vec![if !kinds.is_empty() {
        Verdict::pass("host", format!("An IOMMU is in use; groups by type of domain: {}.", kinds.join(", ")))
    } else if functions.iter().any(|function| function.membership == GroupMembership::Unknown) {
        unknown("host".to_owned())
    } else {
        off(at.host(), "host".to_owned())
    }]
}

fn unknown(subject: String) -> Verdict {
    Verdict::unknown(subject, "The IOMMU groups cannot be seen.", "Take the snapshot with `peerpath snapshot`.")
}

fn off(host: &Host, subject: String) -> Verdict {
    Verdict::fail(
        subject,
        Cause::NoIommu,
        "No IOMMU is in use, and VFIO opens nothing without one.",
        how_to_switch_on(host),
    )
}

fn how_to_switch_on(host: &Host) -> String {
    let line = host.command_line.as_ref();
    let off = |name: &'static str| {
        line.is_some_and(|line| line.values(name).any(|value| value.split(',').any(|word| word == "off")))
    };
    if let Some(name) = ["intel_iommu", "amd_iommu", "iommu"].into_iter().find(|name| off(name)) {
        return format!("Boot without {name}=off.");
    }
    let Some(cpu) = &host.cpu else { return "Switch the IOMMU on in the firmware and in the kernel.".to_owned() };
    match cpu.vendor.as_deref() {
        _ if cpu.has("hypervisor") => {
            "This is a virtual machine: give it a virtual IOMMU (QEMU: -device intel-iommu, with intel_iommu=on in the guest), or use the bare host.".to_owned()
        }
        Some("GenuineIntel") => "Switch VT-d on in the firmware and boot with intel_iommu=on.".to_owned(),
        Some("AuthenticAMD" | "HygonGenuine") => "Switch the IOMMU (AMD-Vi) on in the firmware.".to_owned(),
        _ => "Switch the IOMMU (SMMU) on in the firmware, and boot a kernel with its driver.".to_owned(),
    }
}

pub(super) fn noiommu_mode(at: &Context<'_>) -> Vec<Verdict> {
    let group = at.exporter.and_then(|exporter| Some((exporter, at.topology().group_of(exporter)?)));
    if let Some((exporter, _)) = group.filter(|(_, group)| group.noiommu) {
        return vec![Verdict::fail(
            exporter.bdf,
            Cause::Noiommu,
            "VFIO has it without an IOMMU (vfio-noiommu); such a function exports nothing, and nothing would stop stray DMA.",
            "Switch an IOMMU on, and give the function to vfio-pci again.",
        )];
    }
    vec![match at.host().noiommu_mode {
        Some(true) => Verdict::warn(
            "host",
            "VFIO's mode without IOMMU is on; functions that it takes that way export nothing.",
            "Write N to /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, and use an IOMMU.",
        )
        .because(Cause::Noiommu),
        Some(false) => Verdict::pass("host", "VFIO's mode without IOMMU is off."),
        None if at.modules_known() => Verdict::pass("host", "VFIO has no mode without IOMMU here."),
        None => Verdict::unknown(
            "host",
            "Whether VFIO's mode without IOMMU is on cannot be seen.",
            "Take the snapshot with `peerpath snapshot`.",
        ),
    }]
}
