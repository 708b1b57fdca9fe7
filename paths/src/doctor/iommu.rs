//! Checks of the IOMMU, which VFIO requires.

use std::collections::BTreeMap;

use super::context::few;
use super::{Context, Verdict};
use crate::function::printable_name;
use crate::{
    Architecture, Cause, Cpu, Function, GroupMembership, Host, IommuGroup, KernelRules, KernelVersion, LegacyDma,
    Platform,
};

const GROUPS_PATH: &str = "sys/kernel/iommu_groups";

pub(super) fn in_use(at: &Context<'_>) -> Vec<Verdict> {
    if let Some(kernel) = at.host().kernel.filter(|kernel| *kernel < KernelVersion::IOMMU_GROUPS) {
        return vec![Verdict::unknown(
            "host",
            format!("Linux {kernel} shows no IOMMU groups, so it is unknown whether an IOMMU is enabled."),
            format!("Boot a newer kernel: IOMMU groups and VFIO exist since Linux {}.", KernelVersion::IOMMU_GROUPS),
        )];
    }
    // Without an exporter, check every function.
    if let Some(exporter) = at.exporter {
        return vec![match exporter.membership {
            GroupMembership::None => uncovered(at, exporter),
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
            "No PCI functions are known, so it is unknown whether an IOMMU is enabled.",
            "Check a host with PCI, or a snapshot that contains sys/bus/pci/devices.",
        )];
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for group in at.topology().groups().values().filter(|group| holds_function(at, group)) {
        *kinds.entry(group.domain_type.as_deref().unwrap_or("of unknown type")).or_default() += 1;
    }
    let power = at.host().cpu.as_ref().and_then(|cpu| cpu.legacy_dma) == Some(LegacyDma::PowerTce);
    let kinds: Vec<_> = kinds
        .iter()
        .map(|(kind, count)| match *kind {
            "of unknown type" if power => format!("{count} without a type (TCE tables)"),
            kind => format!("{count} {kind}"),
        })
        .collect();
    if kinds.is_empty() {
        let is_unknown = |function: &Function| function.membership == GroupMembership::Unknown;
        return vec![match other_groups(at) {
            None if functions.iter().any(is_unknown) => unknown("host".to_owned()),
            others => off(at, "host".to_owned(), others),
        }];
    }
    let detail = format!("An IOMMU is enabled; groups per domain type: {}.", kinds.join(", "));
    let uncovered: Vec<_> = functions
        .iter()
        .filter(|function| function.membership == GroupMembership::None && function.may_export(at.host().page_bytes()))
        .map(|function| function.bdf.to_string())
        .collect();
    vec![if uncovered.is_empty() {
        Verdict::pass("host", detail)
    } else {
        Verdict::warn(
            "host",
            format!("{detail} It does not cover {}, so VFIO cannot export BARs of these functions.", few(&uncovered)),
            "Export a BAR of another function.",
        )
        .because(Cause::NoIommu)
    }]
}

/// The finding for an exporter without a group. If other functions have a group, the enabled IOMMU does not cover this one.
fn uncovered(at: &Context<'_>, exporter: &Function) -> Verdict {
    if !at.topology().groups().values().any(|group| holds_function(at, group)) {
        return off(at, exporter.bdf.to_string(), other_groups(at));
    }
    let remedy = match at.platform {
        Some(platform) if platform.is_soldered() || platform.is_guest() => {
            "Export a BAR of a function that has an IOMMU group."
        }
        _ => {
            "Export a BAR of a function that has an IOMMU group, or move the card to a slot whose host bridge an IOMMU covers."
        }
    };
    Verdict::fail(
        exporter.bdf,
        Cause::NoIommu,
        "The function has no IOMMU group although others have one: no IOMMU covers its host bridge, and VFIO requires one.",
        remedy,
    )
}

/// Whether an IOMMU translates for the group, and a PCI function is in it.
fn holds_function(at: &Context<'_>, group: &IommuGroup) -> bool {
    !group.noiommu && group.members.iter().any(|bdf| at.topology().function(*bdf).is_some())
}

/// The number of IOMMU groups on a host without a PCI function in any group, e.g. with an IOMMU for platform devices only. `None`
/// without groups, or if the snapshot lacks the device list of a group.
fn other_groups(at: &Context<'_>) -> Option<usize> {
    let others: Vec<&IommuGroup> = at.topology().groups().values().filter(|group| !group.noiommu).collect();
    let is_listed = |group: &&IommuGroup| !devices_of(at, group.number).is_empty();
    let is_known = !others.is_empty() && others.iter().all(is_listed);
    is_known.then_some(others.len())
}

fn devices_of(at: &Context<'_>, group: u32) -> Vec<String> {
    at.tree.names(&format!("{GROUPS_PATH}/{group}/devices"))
}

fn unknown(subject: String) -> Verdict {
    Verdict::unknown(
        subject,
        "The snapshot or lspci output does not show the IOMMU groups.",
        "Take the snapshot with `peerpath snapshot`.",
    )
}

/// The finding for a function without an IOMMU, or for a host whose PCI functions no IOMMU covers. `other_groups` is the number
/// of IOMMU groups without a PCI function.
fn off(at: &Context<'_>, subject: String, other_groups: Option<usize>) -> Verdict {
    let (why, remedy) = match boot_options_that_disable(at.host()) {
        disabling if !disabling.is_empty() => {
            let each = if disabling.len() > 1 { ": each of them switches the IOMMU off" } else { "" };
            (
                "No IOMMU is enabled, and VFIO requires one.".to_owned(),
                format!("Boot without {}{each}.", disabling.join(" and ")),
            )
        }
        _ => match at.platform.and_then(Platform::without_iommu) {
            Some((why, remedy)) if other_groups.is_some() => (why.to_owned(), remedy.to_owned()),
            Some((why, remedy)) => (format!("No IOMMU is enabled, and VFIO requires one. {why}"), remedy.to_owned()),
            None => ("No IOMMU is enabled, and VFIO requires one.".to_owned(), how_to_enable(at)),
        },
    };
    let why = match other_groups {
        Some(count) => format!(
            "No PCI function is in an IOMMU group: the {count} groups hold devices of the SoC{}. {why}",
            examples(at)
        ),
        None => why,
    };
    Verdict::fail(subject, Cause::NoIommu, why, remedy)
}

/// Devices in the groups without a PCI function, in parentheses.
fn examples(at: &Context<'_>) -> String {
    const SHOWN: usize = 3;
    let groups = at.topology().groups().keys().take(SHOWN);
    let names = groups.flat_map(|number| devices_of(at, *number));
    let names: Vec<_> = names.take(SHOWN).map(|name| printable_name(&name)).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

/// The boot options that switch the IOMMU of this processor off. The last of `intel_iommu=on` and `off` applies; nothing reverts
/// `amd_iommu=off` and `iommu=off` (`intel_iommu_setup`, `parse_amd_iommu_options`, and `iommu_setup` of x86).
fn boot_options_that_disable(host: &Host) -> Vec<&'static str> {
    let Some(line) = &host.command_line else { return Vec::new() };
    let cpu = host.cpu.as_ref();
    if cpu.is_some_and(|cpu| cpu.architecture.is_some_and(|architecture| architecture != Architecture::X86)) {
        return Vec::new();
    }
    let vendor = cpu.and_then(|cpu| cpu.vendor.as_deref());
    let words = |name: &'static str| line.values(name).flat_map(|value| value.split(','));
    let switched = |word: &&str| word.starts_with("off") || word.starts_with("on");
    let intel = words("intel_iommu").filter(switched).last().is_some_and(|word| word.starts_with("off"));
    // The virtual IOMMU of a guest can be from another vendor than its processor.
    let is_guest = cpu.is_some_and(Cpu::is_guest);
    let of_vendor = |vendors: [&str; 2]| is_guest || vendor.is_none_or(|vendor| vendors.contains(&vendor));
    let options = [
        ("intel_iommu=off", intel && of_vendor(["GenuineIntel", "CentaurHauls"])),
        (
            "amd_iommu=off",
            words("amd_iommu").any(|word| word.starts_with("off")) && of_vendor(["AuthenticAMD", "HygonGenuine"]),
        ),
        ("iommu=off", words("iommu").any(|word| word.starts_with("off"))),
        ("acpi=off", line.values("acpi").any(|value| value == "off")),
    ];
    options.into_iter().filter(|(_, disables)| *disables).map(|(option, _)| option).collect()
}

fn how_to_enable(at: &Context<'_>) -> String {
    let host = at.host();
    let Some(cpu) = &host.cpu else { return "Enable the IOMMU in the firmware and in the kernel.".to_owned() };
    let asked = |name: &str| {
        let line = host.command_line.as_ref();
        line.is_some_and(|line| line.values(name).any(|value| value.split(',').any(|word| word.starts_with("on"))))
    };
    match (cpu.vendor.as_deref(), cpu.architecture) {
        (Some("GenuineIntel"), _) if asked("intel_iommu") => {
            "Enable VT-d in the firmware: intel_iommu=on is set, and the kernel still found no IOMMU.".to_owned()
        }
        (Some("GenuineIntel"), _) => "Enable VT-d in the firmware and boot with intel_iommu=on.".to_owned(),
        (Some("AuthenticAMD" | "HygonGenuine"), _) => {
            "Enable the IOMMU (AMD-Vi) in the firmware; the kernel uses it without a boot option.".to_owned()
        }
        (_, Some(Architecture::Arm64)) => {
            "Enable the SMMU in the firmware, and boot a kernel with its driver (ARM_SMMU_V3).".to_owned()
        }
        _ => "Enable the IOMMU in the firmware, and boot a kernel with its driver.".to_owned(),
    }
}

/// Describes a function in a no-IOMMU group. The dma-buf export of vfio-pci does not reject such a group.
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
        None if at.modules_known() && !at.tree.is_directory("sys/module/vfio") => {
            Verdict::pass("host", "vfio is not loaded, so its no-IOMMU mode is off.")
        }
        None if at.modules_known() => Verdict::pass("host", "This kernel is built without the no-IOMMU mode of VFIO."),
        None => Verdict::unknown(
            "host",
            "The snapshot or lspci output does not show whether the no-IOMMU mode of VFIO is on.",
            "Take the snapshot with `peerpath snapshot`.",
        ),
    }]
}
