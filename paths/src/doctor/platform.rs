//! The platform: how it maps DMA, whether it encrypts memory, what of config space can be seen.

use super::context::few;
use super::{Context, Verdict};
use crate::{Bounce, Capability, Cause, PathName, RootBus};

pub(super) fn legacy_dma(at: &Context<'_>) -> Vec<Verdict> {
    let Some(cpu) = &at.host().cpu else {
        return vec![Verdict::unknown("host", "The processor is not known.", "Add proc/cpuinfo to the snapshot.")];
    };
    vec![match cpu.legacy_dma {
        None => Verdict::pass("host", "The platform maps DMA through the common layer."),
        Some(_) if at.goes(PathName::BusAddress) => {
            Verdict::pass("host", "The platform's own DMA operations are not asked on this way.")
        }
        Some(legacy) => Verdict::fail(
            "host",
            Cause::LegacyDmaOps,
            format!("{} map DMA for memory that has pages, and a BAR has none.", legacy.as_str()),
            "Use functions below one switch without ACS redirect, or another platform.",
        ),
    }]
}

pub(super) fn confidential_guest(at: &Context<'_>) -> Vec<Verdict> {
    vec![match at.host().confidential_guest {
        Some(guest) => Verdict::fail(
            "host",
            Cause::ConfidentialGuest,
            format!(
                "This is a {guest} guest: its direct mappings bounce through shared pages, and a BAR cannot be bounced."
            ),
            "Run on the host, or in a guest whose memory is not encrypted.",
        ),
        None if at.host().cpu.is_none() => {
            Verdict::unknown("host", "The processor is not known.", "Add proc/cpuinfo to the snapshot.")
        }
        None => Verdict::pass("host", "No confidential guest."),
    }]
}

pub(super) fn tdisp(at: &Context<'_>) -> Vec<Verdict> {
    let ends = [at.exporter, at.importer].into_iter().flatten();
    ends.map(|function| match &function.tdisp {
        Some(state) => Verdict::fail(
            function.bdf,
            Cause::ConfidentialGuest,
            format!(
                "Its TEE device interface (TDISP) is {state}: memory of a locked device is not shared with others."
            ),
            "Unlock it: undo its assignment to the confidential guest.",
        ),
        None => Verdict::pass(function.bdf, "No TEE device interface (TDISP) is locked."),
    })
    .collect()
}

pub(super) fn swiotlb(at: &Context<'_>) -> Vec<Verdict> {
    const REMEDY: &str = "Boot without swiotlb=force, or give the importer's group a DMA domain.";
    vec![match at.host().bounce() {
        // Encryption bounces as well, and has been told.
        Some(Bounce::No | Bounce::Encryption) => Verdict::pass("host", "swiotlb=force is not set."),
        Some(Bounce::Forced) if at.maps_indirectly() => {
            Verdict::pass("host", "swiotlb=force is set, and does not concern this way.")
        }
        Some(Bounce::Forced) if at.report.is_some() => Verdict::fail(
            "host",
            Cause::SwiotlbForced,
            "swiotlb=force bounces every direct mapping, and a BAR cannot be bounced.",
            REMEDY,
        ),
        Some(Bounce::Forced) => {
            Verdict::warn("host", "swiotlb=force is set: importers without a translating domain are refused.", REMEDY)
                .because(Cause::SwiotlbForced)
        }
        None => Verdict::unknown(
            "host",
            "Whether swiotlb=force is set cannot be seen.",
            "Add proc/cmdline to the snapshot.",
        ),
    }]
}

pub(super) fn config_space(at: &Context<'_>) -> Vec<Verdict> {
    let cut = at.topology().functions().iter().filter(|function| function.pcie == Capability::Unknown);
    let cut: Vec<_> = cut.map(|function| function.bdf.to_string()).collect();
    if !cut.is_empty() {
        return vec![
            Verdict::warn(
                "host",
                format!(
                    "Config space is cut short (of {}), so ACS, ATS and payload sizes are not known there.",
                    few(&cut)
                ),
                "Run as root, or take the snapshot as root.",
            )
            .because(Cause::NoPermission),
        ];
    }
    let line = at.host().command_line.as_ref();
    if line.is_some_and(|line| line.values("pci").any(|value| value.split(',').any(|word| word == "nommconf"))) {
        return vec![Verdict::warn(
            "host",
            "pci=nommconf hides extended config space, from the kernel too: it sees no ACS and no ATS.",
            "Boot without pci=nommconf.",
        )];
    }
    vec![Verdict::pass("host", "Config space can be read whole.")]
}

pub(super) fn address_offset(at: &Context<'_>) -> Vec<Verdict> {
    let ends: Vec<_> = [at.exporter, at.importer].into_iter().flatten().collect();
    let mut roots: Vec<&RootBus> = if ends.is_empty() {
        at.topology().roots().iter().collect()
    } else {
        ends.iter().filter_map(|function| at.topology().root_above(function.bdf)).collect()
    };
    roots.dedup();
    let name = |root: &RootBus| format!("{:04x}:{:02x}", root.segment, root.bus);
    let shifting = roots.iter().filter(|root| root.offset.is_some_and(|offset| offset != 0));
    let shifting: Vec<_> = shifting.map(|root| name(root)).collect();
    if !shifting.is_empty() {
        return vec![Verdict::warn(
            few(&shifting),
            "The host bridge shifts addresses: what stands in a BAR register is not the CPU's address.",
            "Read DMA addresses of bypass mappings as the CPU's; below a switch they are the bus's.",
        )];
    }
    if roots.iter().all(|root| root.offset.is_none()) {
        // A named pair deserves an answer; that a host without BARs has none interests nobody.
        let named: Vec<_> = ends.iter().map(|function| function.bdf.to_string()).collect();
        return if named.is_empty() {
            Vec::new()
        } else {
            vec![Verdict::unknown(
                named.join(", "),
                "No BAR shows whether the host bridge shifts addresses.",
                "Compare /proc/iomem with what lspci -b shows.",
            )]
        };
    }
    vec![Verdict::pass("host", "Bus addresses equal the CPU's.")]
}
