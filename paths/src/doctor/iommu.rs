//! Checks of the IOMMU, which VFIO requires.

use std::collections::BTreeMap;

use super::{Context, Verdict};
use crate::{Cause, GroupMembership, Host, KernelRules};

pub(super) fn in_use(at: &Context<'_>) -> Vec<Verdict> {
    // Without an exporter, check every function.
    if let Some(exporter) = at.exporter {
        return vec![match exporter.membership {
            GroupMembership::None => off(at.host(), exporter.bdf.to_string()),
            GroupMembership::Unknown => unknown(exporter.bdf.to_string()),
            GroupMembership::Group(number) => {
                let kind = at.topology().group_of(exporter).and_then(|group| group.domain_type.as_deref());
                let kind = kind.map_or(String::new(), |kind| format!(" with domain type {kind}"));
                Verdict::pass(exporter.bdf, format!("The function is in IOMMU group {number}{kind}."))
            }
        }];
    }
    let functions = at.topology().functions();
    if functions.is_empty() {
        return vec![Verdict::unknown(
            "host",
            "No PCI function shows whether an IOMMU is enabled.",
            "Check a host with PCI, or a snapshot that contains sys/bus/pci/devices.",
        )];
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for group in at.topology().groups().values().filter(|group| !group.noiommu) {
        *kinds.entry(group.domain_type.as_deref().unwrap_or("unknown")).or_default() += 1;
    }
    let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    vec![if !kinds.is_empty() {
        Verdict::pass("host", format!("An IOMMU is enabled; groups per domain type: {}.", kinds.join(", ")))
    } else if functions.iter().any(|function| function.membership == GroupMembership::Unknown) {
        unknown("host".to_owned())
    } else {
        off(at.host(), "host".to_owned())
    }]
}

fn unknown(subject: String) -> Verdict {
    Verdict::unknown(
        subject,
        "The IOMMU groups are not in the snapshot.",
        "Take the snapshot with `peerpath snapshot`.",
    )
}

fn off(host: &Host, subject: String) -> Verdict {
    Verdict::fail(subject, Cause::NoIommu, "No IOMMU is enabled, and VFIO requires one.", how_to_enable(host))
}

fn how_to_enable(host: &Host) -> String {
    let line = host.command_line.as_ref();
    let off = |name: &'static str| {
        line.is_some_and(|line| line.values(name).any(|value| value.split(',').any(|option| option == "off")))
    };
    if let Some(name) = ["intel_iommu", "amd_iommu", "iommu"].into_iter().find(|name| off(name)) {
        return format!("Boot without {name}=off.");
    }
    let Some(cpu) = &host.cpu else { return "Enable the IOMMU in the firmware and in the kernel.".to_owned() };
    match cpu.vendor.as_deref() {
        _ if cpu.has("hypervisor") => {
            "Add a virtual IOMMU to this virtual machine (QEMU: -device intel-iommu, with intel_iommu=on in the guest), or use the physical host.".to_owned()
        }
        Some("GenuineIntel") => "Enable VT-d in the firmware and boot with intel_iommu=on.".to_owned(),
        Some("AuthenticAMD" | "HygonGenuine") => "Enable the IOMMU (AMD-Vi) in the firmware.".to_owned(),
        _ => "Enable the IOMMU (SMMU) in the firmware, and boot a kernel with its driver.".to_owned(),
    }
}

/// Describes a function in a no-IOMMU group. The kernel's export has no check against such a group.
fn no_protection(host: &Host) -> String {
    let cdev = match KernelRules::fact(host.kernel, |rules| rules.noiommu_cdev) {
        Some(true) if host.facts.option("IOMMUFD_NOIOMMU") != Some(false) => {
            " Linux 7.3 and newer serve it through the group and the cdev (noiommu-vfioN)."
        }
        _ => "",
    };
    format!(
        "The function is in a no-IOMMU group of VFIO, so nothing limits its DMA, and peerpath does not open it.{cdev}"
    )
}

pub(super) fn noiommu_mode(at: &Context<'_>) -> Vec<Verdict> {
    let group = at.exporter.and_then(|exporter| Some((exporter, at.topology().group_of(exporter)?)));
    if let Some((exporter, _)) = group.filter(|(_, group)| group.noiommu) {
        return vec![Verdict::fail(
            exporter.bdf,
            Cause::Noiommu,
            no_protection(at.host()),
            "Enable an IOMMU, and bind the function to vfio-pci again.",
        )];
    }
    vec![match at.host().noiommu_mode {
        Some(true) => Verdict::warn(
            "host",
            "The no-IOMMU mode of VFIO is on: VFIO serves functions without an IOMMU, and peerpath does not open them.",
            "Write N to /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, and enable an IOMMU.",
        )
        .because(Cause::Noiommu),
        Some(false) => Verdict::pass("host", "The no-IOMMU mode of VFIO is off."),
        None if at.modules_known() => Verdict::pass("host", "This kernel is built without the no-IOMMU mode of VFIO."),
        None => Verdict::unknown(
            "host",
            "The snapshot does not show whether the no-IOMMU mode of VFIO is on.",
            "Take the snapshot with `peerpath snapshot`.",
        ),
    }]
}
