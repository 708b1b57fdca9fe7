//! Checks of the platform: DMA operations, memory encryption, readable config space.

use super::context::few;
use super::{Context, Verdict};
use crate::kernel_rules::EncryptedMmio;
use crate::link_security::LinkSecurity;
use crate::{Bounce, Capability, Cause, ConfidentialGuest, KernelRules, PathName, Request, RootBus, sentence};

pub(super) fn legacy_dma(at: &Context<'_>) -> Vec<Verdict> {
    let Some(cpu) = &at.host().cpu else {
        return vec![Verdict::unknown(
            "host",
            "The snapshot or lspci output does not show the processor.",
            "Add proc/cpuinfo to the snapshot, or give the processor.",
        )];
    };
    vec![match cpu.legacy_dma {
        None => Verdict::pass("host", "The platform uses the generic DMA mapping code."),
        Some(_) if at.takes(PathName::BusAddress) => {
            Verdict::pass("host", "A bus-address path does not use the platform's DMA operations.")
        }
        Some(_) if refused_before_mapping(at) == Some(true) => Verdict::pass(
            "host",
            "The kernel does not trust the host bridges, so the P2PDMA check refuses every pair without a common bridge \
             before the kernel calls the platform's DMA operations.",
        ),
        Some(legacy) if legacy.rejects_mmio() && refused_before_mapping(at).is_none() => Verdict::unknown(
            "host",
            format!(
                "It is unknown whether a mapping reaches {}, because the snapshot or lspci output does not show which host bridges the kernel trusts.",
                legacy.as_str()
            ),
            "Take the snapshot with `peerpath snapshot`.",
        ),
        Some(legacy) if !legacy.rejects_mmio() => Verdict::pass("host", format!("{} accept MMIO.", legacy.as_str())),
        Some(legacy) => Verdict::fail(
            "host",
            Cause::LegacyDmaOps,
            format!("{} rejects MMIO, so the kernel maps no BAR through the root complex.", legacy.as_str()),
            "Use functions below one switch without ACS redirect, or another platform.",
        ),
    }]
}

/// Whether the P2PDMA check refuses the selected pair or, without a selected pair, every pair that would need the DMA API. `None`
/// if that is unknown.
fn refused_before_mapping(at: &Context<'_>) -> Option<bool> {
    match &at.report {
        Some(report) if report.predicted == PathName::Unknown => None,
        Some(report) => Some(report.cause == Some(Cause::Topology)),
        None => at.inventory.predictor(Request::default()).trusts_no_host_bridge(),
    }
}

pub(super) fn confidential_guest(at: &Context<'_>) -> Vec<Verdict> {
    vec![match at.host().confidential_guest {
        Some(guest) => Verdict::fail(
            "host",
            Cause::ConfidentialGuest,
            confidential(at, guest),
            "Run on the host, or in a guest without memory encryption.",
        ),
        None if at.host().cpu.is_none() => Verdict::unknown(
            "host",
            "The snapshot or lspci output does not show the processor.",
            "Add proc/cpuinfo to the snapshot, or give the processor.",
        ),
        None => Verdict::pass("host", "The host is not a confidential guest."),
    }]
}

fn confidential(at: &Context<'_>, guest: ConfidentialGuest) -> String {
    if at.takes(PathName::HostBridgeTranslated) {
        return format!(
            "The IOMMU of a {guest} guest maps the BAR, but the memory of the device is not shared with the hypervisor, so the \
             importer may not reach it."
        );
    }
    match KernelRules::fact(at.host().kernel, |rules| rules.encrypted_mmio) {
        Some(EncryptedMmio::Bounced) => {
            format!(
                "A {guest} guest bounces untranslated mappings through shared pages, and the DMA API cannot bounce a BAR."
            )
        }
        Some(EncryptedMmio::NotCapable) => format!(
            "In a {guest} guest the kernel refuses untranslated mappings of memory that is not shared with the hypervisor. A BAR \
             is not shared (dma_capable; the kernel log warns of a DMA address overflow)."
        ),
        None => format!("In a {guest} guest the kernel refuses untranslated mappings of a BAR."),
    }
}

pub(super) fn tdisp(at: &Context<'_>) -> Vec<Verdict> {
    let pair = [at.exporter, at.importer].into_iter().flatten();
    pair.map(|function| match &function.tdisp {
        Some(state) => Verdict::fail(
            function.bdf,
            Cause::ConfidentialGuest,
            format!(
                "The TEE device interface (TDISP) of the function is {state}, and a locked function exchanges data only with its confidential guest."
            ),
            "Remove the device from the confidential guest to unlock it.",
        ),
        None => Verdict::pass(function.bdf, "The function is not locked by TDISP."),
    })
    .collect()
}

pub(super) fn link_security(at: &Context<'_>) -> Vec<Verdict> {
    let pair = [at.exporter, at.importer].into_iter().flatten();
    pair.map(|function| {
        let Some(security) = LinkSecurity::of(at.topology(), function) else {
            return match function.ide {
                Capability::Unknown => Verdict::unknown(
                    function.bdf,
                    "The extended config space, which shows link encryption (IDE), is not readable.",
                    "Run as root, or take the snapshot as root.",
                ),
                _ => Verdict::pass(function.bdf, "No TSM is connected to the function, and no IDE stream is secure."),
            };
        };
        let detail = sentence(&security.clause(function.bdf));
        match security.connection {
            Some((holder, tsm)) => Verdict::warn(
                function.bdf,
                detail,
                format!(
                    "If no confidential guest uses the device, disconnect it: write {tsm} to \
                     /sys/bus/pci/devices/{holder}/tsm/disconnect."
                ),
            ),
            None => Verdict::pass(function.bdf, detail),
        }
    })
    .collect()
}

pub(super) fn swiotlb(at: &Context<'_>) -> Vec<Verdict> {
    const REMEDY: &str = "Boot without swiotlb=force, or set the domain type of the importer's group to DMA.";
    vec![match at.host().bounce() {
        // The check `confidential-guest` reports bouncing because of encryption.
        Some(Bounce::No | Bounce::Encryption) => Verdict::pass("host", "swiotlb=force is not set."),
        Some(Bounce::Forced) if at.maps_indirectly() => {
            Verdict::pass("host", "swiotlb=force is set but does not affect this path.")
        }
        Some(Bounce::Forced) if at.report.is_some() => Verdict::fail(
            "host",
            Cause::SwiotlbForced,
            "swiotlb=force bounces every untranslated mapping, and the DMA API cannot bounce a BAR.",
            REMEDY,
        ),
        Some(Bounce::Forced) => Verdict::warn(
            "host",
            "swiotlb=force is set, so the kernel refuses importers without a translating domain.",
            REMEDY,
        )
        .because(Cause::SwiotlbForced),
        None => Verdict::unknown(
            "host",
            "The snapshot or lspci output does not show whether swiotlb=force is set.",
            "Add proc/cmdline to the snapshot, or give the kernel command line.",
        ),
    }]
}

pub(super) fn config_space(at: &Context<'_>) -> Vec<Verdict> {
    let uncopied = at.topology().functions().iter().filter(|function| function.config.readable_bytes() == 0);
    let uncopied: Vec<_> = uncopied.map(|function| function.bdf.to_string()).collect();
    if !uncopied.is_empty() && !at.tree.is_live() {
        return vec![Verdict::unknown(
            "host",
            format!(
                "The snapshot or lspci output does not contain the config space of {}, so ACS, ATS and payload sizes are unknown.",
                few(&uncopied)
            ),
            "Copy the file config of each function as root, or take the snapshot with `peerpath snapshot` as root.",
        )];
    }
    let truncated = at.topology().functions().iter().filter(|function| function.pcie == Capability::Unknown);
    let truncated: Vec<_> = truncated.map(|function| function.bdf.to_string()).collect();
    if !truncated.is_empty() && at.topology().functions().iter().any(|function| function.config.is_partial()) {
        return vec![Verdict::warn(
            "host",
            format!(
                "The lspci output does not show all capabilities of {}, so ACS, ATS or payload sizes are unknown.",
                few(&truncated)
            ),
            "Add the output of `lspci -vvvnn`, run as root.",
        )];
    }
    if !truncated.is_empty() {
        return vec![
            Verdict::warn(
                "host",
                format!(
                    "The config space of {} is only partly readable, so ACS, ATS and payload sizes are unknown.",
                    few(&truncated)
                ),
                "Run as root, or take the snapshot as root.",
            )
            .because(Cause::NoPermission),
        ];
    }
    let line = at.host().command_line.as_ref();
    if line.is_some_and(|line| line.values("pci").any(|value| value.split(',').any(|option| option == "nommconf"))) {
        return vec![Verdict::warn(
            "host",
            "pci=nommconf prevents the kernel from reading extended config space, which contains ACS and ATS.",
            "Boot without pci=nommconf.",
        )];
    }
    vec![Verdict::pass("host", "Config space is completely readable.")]
}

pub(super) fn address_offset(at: &Context<'_>) -> Vec<Verdict> {
    let selected: Vec<_> = [at.exporter, at.importer].into_iter().flatten().collect();
    let mut roots: Vec<&RootBus> = if selected.is_empty() {
        at.topology().roots().iter().collect()
    } else {
        selected.iter().filter_map(|function| at.topology().root_above(function.bdf)).collect()
    };
    roots.dedup();
    let name = |root: &RootBus| format!("{:04x}:{:02x}", root.segment, root.bus);
    let shifting = roots.iter().filter(|root| root.offset.is_some_and(|offset| offset != 0));
    let shifting: Vec<_> = shifting.map(|root| name(root)).collect();
    if !shifting.is_empty() {
        return vec![Verdict::warn(
            few(&shifting),
            "The host bridge shifts addresses: the address in a BAR register differs from the CPU address.",
            "In results, read DMA addresses of bypass paths as CPU addresses, and those of bus-address paths as bus addresses.",
        )];
    }
    if roots.iter().all(|root| root.offset.is_none()) {
        // Report this only if the user selected functions: for a whole host, the finding would not help.
        let names: Vec<_> = selected.iter().map(|function| function.bdf.to_string()).collect();
        return if names.is_empty() {
            Vec::new()
        } else {
            vec![Verdict::unknown(
                names.join(", "),
                "No BAR shows whether the host bridge shifts addresses.",
                "Compare /proc/iomem with `lspci -b`.",
            )]
        };
    }
    vec![Verdict::pass("host", "Bus addresses equal CPU addresses.")]
}
