//! Checks of the PCIe links: speed and width, the maximum payload size (MPS) between senders and receivers, and the importer's
//! maximum read request size and relaxed ordering.

use std::collections::BTreeSet;

use super::context::unreadable;
use super::devices_of_interest::{is_of_interest, selected};
use super::hops::pcie_hops;
use super::{Context, Verdict};
use crate::ceiling::gigabytes_per_s;
use crate::{Bdf, Capability, Function, Link, PathName, Pcie, PortType};

/// Speed and width of the link above a function, and the maximum that both ends support.
struct Compared {
    now: Link,
    possible: Link,
}

pub(super) fn speed_and_width(at: &Context<'_>) -> Vec<Verdict> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut compared = 0;
    for function in selected(at) {
        let chain = [function.bdf].into_iter().chain(at.topology().bridges_above(function.bdf));
        for bdf in chain.filter(|bdf| seen.insert(*bdf)).collect::<Vec<_>>() {
            let Some(lower) = at.topology().function(bdf) else { continue };
            if let Some(link) = link_above(at, lower) {
                compared += 1;
                found.extend(verdict(lower, &link));
            }
        }
    }
    if found.is_empty() && compared > 0 && at.exporter.or(at.importer).is_some() {
        found.push(Verdict::pass(
            "host",
            "Every link of the selected functions has the speed and width that both ends support.",
        ));
    }
    found
}

/// The link between a function and the port above it; `None` if there is none, or if it is not readable.
fn link_above(at: &Context<'_>, lower: &Function) -> Option<Compared> {
    let below = lower
        .pcie
        .present()
        .filter(|pcie| !matches!(pcie.port_type, PortType::RootPort | PortType::SwitchDownstream))?;
    let port = at.topology().function(*at.topology().bridges_above(lower.bdf).first()?)?;
    let above =
        port.pcie.present().filter(|pcie| matches!(pcie.port_type, PortType::RootPort | PortType::SwitchDownstream))?;
    let (now, limits) = (below.link?, [below.link_limit?, above.link_limit?]);
    // Virtual functions, and ports without a link, report zeros.
    let is_real = |link: &Link| link.generation > 0 && link.lanes > 0;
    if !is_real(&now) || !limits.iter().all(is_real) || lower.physical_function.is_some() {
        return None;
    }
    let [a, b] = limits;
    Some(Compared { now, possible: Link { generation: a.generation.min(b.generation), lanes: a.lanes.min(b.lanes) } })
}

fn verdict(lower: &Function, link: &Compared) -> Option<Verdict> {
    let Compared { now, possible } = link;
    let narrow = now.lanes < possible.lanes;
    if !narrow && now.generation >= possible.generation {
        return None;
    }
    let loss = now.raw_bytes_per_s().zip(possible.raw_bytes_per_s()).map_or_else(String::new, |(now, possible)| {
        let [now, lost, possible] = [now, possible - now, possible].map(gigabytes_per_s);
        format!(" It loses {lost} of {possible} per direction, and {now} remain.")
    });
    let detail = format!("The link runs at {now}; both ends support {possible}.{loss}");
    let may_idle = lower.is_accelerator() || !is_of_interest(lower);
    Some(if narrow {
        Verdict::warn(
            lower.bdf,
            detail,
            "Reseat the card and check riser and cable; check in the firmware that the slot is not split (bifurcation).",
        )
    } else if may_idle {
        Verdict::unknown(
            lower.bdf,
            format!("{detail} GPUs and some switches lower the speed when idle."),
            "Check the speed again under load (`lspci -vv`, LnkSta).",
        )
    } else {
        Verdict::warn(
            lower.bdf,
            detail,
            "Check the speed again under load, then the speed limit of the slot in the firmware, and riser and cable.",
        )
    })
}

/// A sender of TLPs whose MPS exceeds that of a receiver on the path. A switch forwards a TLP whole, so the receiver rejects a
/// payload above its own MPS as a malformed TLP (PCIe Base Specification, 2.2.2). A root complex may split a TLP between two root
/// ports.
struct Mismatch {
    sender: (Bdf, u16),
    receiver: (Bdf, u16),
}

pub(super) fn max_payload(at: &Context<'_>) -> Vec<Verdict> {
    let (Some(from), Some(to)) = (at.exporter, at.importer) else { return Vec::new() };
    let subject = format!("{} -> {}", from.bdf, to.bdf);
    let Some(hops) = pcie_hops(at) else {
        return vec![Verdict::unknown(
            subject,
            "The config space of a function on the path is not readable.",
            "Run as root, or take the snapshot as root.",
        )];
    };
    let Some(smallest) = hops.iter().map(|(_, pcie)| pcie.max_payload_bytes).min() else {
        return vec![Verdict::pass(subject, "The path contains no PCIe link.")];
    };
    let largest = hops.iter().map(|(_, pcie)| pcie.max_payload_bytes).max().unwrap_or(smallest);
    if smallest == largest {
        return vec![Verdict::pass(
            subject,
            format!("The maximum payload size is {smallest} bytes along the whole path."),
        )];
    }
    let parts = if at.takes(PathName::BusAddress) { vec![hops] } else { at_the_root(at, &hops) };
    let Some(Mismatch { sender, receiver }) = parts.iter().find_map(|part| mismatch(part)) else {
        return vec![Verdict::pass(
            subject,
            format!(
                "Maximum payload sizes differ ({smallest} to {largest} bytes), but no sender exceeds the size of a \
                 receiver of its TLPs."
            ),
        )];
    };
    vec![Verdict::warn(
        subject,
        format!(
            "{} sends payloads of up to {} bytes, but {} accepts only {}: it may reject longer payloads as malformed TLPs.",
            sender.0, sender.1, receiver.0, receiver.1
        ),
        format!(
            "Boot with pci=pcie_bus_safe (one size below each root port) or pci=pcie_bus_peer2peer (128 bytes everywhere){}.",
            if boots_with_perf(at) { " instead of pci=pcie_bus_perf" } else { "" }
        ),
    )]
}

/// Whether pci=pcie_bus_perf is set: the kernel then sets the MPS of each function to the largest size that the port above it
/// accepts, without regard to peers.
fn boots_with_perf(at: &Context<'_>) -> bool {
    let line = at.host().command_line.as_ref();
    line.is_some_and(|line| line.values("pci").flat_map(|value| value.split(',')).any(|word| word == "pcie_bus_perf"))
}

/// Splits a path through the root complex into the hierarchies of its root ports.
fn at_the_root(at: &Context<'_>, hops: &[(Bdf, Pcie)]) -> Vec<Vec<(Bdf, Pcie)>> {
    let (Some(from), Some(to)) = (at.exporter, at.importer) else { return Vec::new() };
    let part = |function: &Function| -> Vec<_> {
        let chain: Vec<_> = [function.bdf].into_iter().chain(at.topology().bridges_above(function.bdf)).collect();
        let mut part: Vec<_> = hops.iter().filter(|(bdf, _)| chain.contains(bdf)).copied().collect();
        part.dedup_by_key(|(bdf, _)| *bdf);
        part
    };
    vec![part(from), part(to)]
}

/// The first sender in a part of the path whose MPS exceeds that of another function in this part. Endpoints and root ports send;
/// switch ports and bridges only forward.
fn mismatch(part: &[(Bdf, Pcie)]) -> Option<Mismatch> {
    let smallest = part.iter().min_by_key(|(_, pcie)| pcie.max_payload_bytes)?;
    let sends = |port_type: PortType| {
        !matches!(port_type, PortType::SwitchUpstream | PortType::SwitchDownstream | PortType::PciBridge)
    };
    let sender =
        part.iter().find(|(_, pcie)| sends(pcie.port_type) && pcie.max_payload_bytes > smallest.1.max_payload_bytes)?;
    Some(Mismatch {
        sender: (sender.0, sender.1.max_payload_bytes),
        receiver: (smallest.0, smallest.1.max_payload_bytes),
    })
}

pub(super) fn max_read_request(at: &Context<'_>) -> Vec<Verdict> {
    let (Some(_), Some(importer)) = (at.exporter, at.importer) else { return Vec::new() };
    match importer.pcie {
        Capability::Unknown => unreadable(importer.bdf.to_string()),
        Capability::Absent => Vec::new(),
        Capability::Present(pcie) if pcie.max_read_request_bytes < pcie.max_payload_bytes => vec![Verdict::warn(
            importer.bdf,
            format!(
                "The maximum read request size of {} bytes is less than the maximum payload size of {}.",
                pcie.max_read_request_bytes, pcie.max_payload_bytes
            ),
            "Raise the MRRS: boot with pci=pcie_bus_perf, or set it with setpci (CAP_EXP+8.w).",
        )],
        Capability::Present(pcie) => {
            vec![Verdict::pass(
                importer.bdf,
                format!("The maximum read request size is {} bytes.", pcie.max_read_request_bytes),
            )]
        }
    }
}

pub(super) fn relaxed_ordering(at: &Context<'_>) -> Vec<Verdict> {
    let (Some(_), Some(importer)) = (at.exporter, at.importer) else { return Vec::new() };
    match importer.pcie {
        Capability::Unknown => unreadable(importer.bdf.to_string()),
        Capability::Absent => Vec::new(),
        Capability::Present(pcie) if pcie.relaxed_ordering => {
            vec![Verdict::pass(importer.bdf, "Relaxed ordering is enabled.")]
        }
        Capability::Present(_) => vec![Verdict::warn(
            importer.bdf,
            "Relaxed ordering is off, which makes peer-to-peer writes slow on some root complexes.",
            format!(
                "Enable it in the firmware, or with `setpci -s {} CAP_EXP+8.w=0x10:0x10`, if the device supports it.",
                importer.bdf
            ),
        )],
    }
}
