//! Checks of the pair of exporter and importer: the predicted path, and PCIe settings along it.

use std::collections::BTreeMap;

use super::hops::{common_bridges, pcie_hops};
use super::{Context, Verdict};
use crate::predict::multi_range_defect;
use crate::{Bdf, Capability, Cause, PathName, PathReport, Request, blockers};

/// The subject of a finding about the pair; `None` if no pair is selected.
fn pair(at: &Context<'_>) -> Option<String> {
    Some(format!("{} -> {}", at.exporter?.bdf, at.importer?.bdf))
}

pub(super) fn path(at: &Context<'_>) -> Vec<Verdict> {
    match (pair(at), &at.report) {
        (Some(pair), Some(report)) => vec![predicted(pair, report)],
        _ => every_pair(at),
    }
}

fn predicted(subject: String, report: &PathReport) -> Verdict {
    let PathReport { predicted, deciding, .. } = report;
    let change = report.would_change.first().map(|change| sentence(change));
    match (predicted, report.cause) {
        (PathName::Refused, cause) => Verdict {
            cause,
            ..Verdict::fail(
                subject,
                Cause::Topology,
                format!("The kernel refuses the mapping: {}.", deciding.fact),
                change.unwrap_or_else(|| {
                    "Use functions below one switch without ACS redirect, or another host.".to_owned()
                }),
            )
        },
        (PathName::Unknown, _) => Verdict::unknown(
            subject,
            format!("The path cannot be predicted: {}.", deciding.fact),
            format!("Provide the missing information: {}.", report.unknown.join("; ")),
        ),
        _ => Verdict::pass(subject, format!("{predicted}: {}.", deciding.fact)),
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

/// Summarizes the predictions of all pairs if no pair is selected. The exporters are the functions bound to vfio-pci, or every
/// possible exporter if none is bound.
fn every_pair(at: &Context<'_>) -> Vec<Verdict> {
    let predictor = at.inventory.predictor(Request { bar: at.bar, ..Request::default() });
    let exporters: Vec<Bdf> = match at.exporter {
        Some(exporter) => vec![exporter.bdf],
        None => {
            let bound = |bdf: &Bdf| {
                let driver = at.topology().function(*bdf).and_then(|function| function.driver.as_deref());
                driver.is_some_and(blockers::exports)
            };
            let all: Vec<_> = predictor.exporters().collect();
            let exporting: Vec<_> = all.iter().copied().filter(bound).collect();
            if exporting.is_empty() { all } else { exporting }
        }
    };
    let importers = at.importer.map_or_else(
        || at.rdma_functions().iter().map(|function| function.bdf).collect(),
        |importer| vec![importer.bdf],
    );
    let pairs = exporters.iter().flat_map(|from| importers.iter().map(move |to| (*from, *to)));
    let predictions: Vec<_> =
        pairs.filter(|(from, to)| from != to).filter_map(|(from, to)| predictor.predict(from, to)).collect();
    if predictions.is_empty() {
        return Vec::new();
    }
    let mut counts: BTreeMap<PathName, usize> = BTreeMap::new();
    for prediction in &predictions {
        *counts.entry(prediction.path).or_default() += 1;
    }
    let listed: Vec<_> = counts.iter().map(|(path, count)| format!("{count} {path}")).collect();
    let detail = format!("Pairs of exporter and RDMA device by predicted path: {}.", listed.join(", "));
    let of = |path| counts.get(&path).copied().unwrap_or(0);
    let cause = predictions.iter().find_map(|prediction| prediction.cause);
    const REMEDY: &str = "Run `peerpath paths` for the reason of each pair.";
    vec![if of(PathName::Refused) == predictions.len() {
        Verdict { cause, ..Verdict::fail("host", Cause::Topology, detail, REMEDY) }
    } else if of(PathName::Refused) > 0 {
        Verdict { cause, ..Verdict::warn("host", detail, REMEDY) }
    } else if of(PathName::Unknown) > 0 {
        Verdict::unknown("host", detail, REMEDY)
    } else {
        Verdict::pass("host", detail)
    }]
}

/// The fact that decides the path, as a sentence.
fn refused_by_mask(at: &Context<'_>) -> String {
    at.report.as_ref().map_or_else(String::new, |report| sentence(&report.deciding.fact))
}

pub(super) fn dma_mask(at: &Context<'_>) -> Vec<Verdict> {
    let (Some(subject), Some(importer), Some(facts)) = (pair(at), at.importer, &at.facts) else { return Vec::new() };
    let refused = at.report.as_ref().is_some_and(|report| report.cause == Some(Cause::DmaMask));
    let bits = importer.dma_mask_bits.unwrap_or_default();
    vec![match facts.mask_reaches_bar {
        _ if refused => Verdict::fail(
            subject,
            Cause::DmaMask,
            refused_by_mask(at),
            match facts.translated {
                Some(true) => "Export a smaller BAR or a part of it, or use an importer with a larger DMA mask.",
                _ => "Set the domain type of the importer's group to DMA, or place the BAR lower (firmware: no decoding above 4 GiB).",
            },
        ),
        _ if at.takes(PathName::BusAddress) => Verdict::pass(subject, "A bus-address path does not depend on the DMA mask."),
        Some(false) if facts.translated == Some(true) => {
            Verdict::pass(subject, format!("The DMA mask has {bits} bits, and the translating domain allocates addresses below the mask."))
        }
        Some(false) => Verdict::warn(
            subject,
            format!(
                "The BAR's address exceeds the importer's DMA mask of {bits} bits, so the kernel refuses a direct mapping."
            ),
            "Set the domain type of the importer's group to DMA.",
        )
        .because(Cause::DmaMask),
        Some(true) => Verdict::pass(subject, format!("The importer's DMA mask of {bits} bits covers the BAR.")),
        None => Verdict::unknown(
            subject,
            "The importer's DMA mask is unknown: no driver of the device has set it.",
            "Bind the importer to its own driver.",
        ),
    }]
}

pub(super) fn multi_range(at: &Context<'_>) -> Vec<Verdict> {
    let host = at.host();
    // A kernel without the dma-buf export of vfio-pci cannot have the multi-range defect.
    if host.dma_buf_export().is_none_or(|(present, _)| !present) {
        return Vec::new();
    }
    let unaffected =
        at.facts.as_ref().is_some_and(|facts| facts.translated == Some(false)) || at.takes(PathName::BusAddress);
    vec![match multi_range_defect(host) {
        Some(false) => Verdict::pass("host", "The kernel maps every range of a buffer."),
        _ if unaffected => Verdict::pass("host", "On this path the kernel maps every range of a buffer."),
        Some(true) => Verdict::warn(
            "host",
            "This kernel cannot map more than one range in a translated domain (Linux 6.19 to 7.3); a BAR exported as one range is unaffected.",
            "Export one range, or each range separately.",
        )
        .because(Cause::MultiRangeDefect),
        None => Verdict::unknown(
            "host",
            "It is unknown whether this kernel maps more than one range in a translated domain.",
            "Export one range, or try several ranges: a kernel with the defect returns EADDRINUSE.",
        ),
    }]
}

/// Returns the finding for a function whose config space is not readable.
fn unreadable(subject: String) -> Vec<Verdict> {
    vec![Verdict::unknown(
        subject,
        "The config space of a function on the path is not readable.",
        "Run as root, or take the snapshot as root.",
    )]
}

pub(super) fn max_payload(at: &Context<'_>) -> Vec<Verdict> {
    let Some(subject) = pair(at) else { return Vec::new() };
    let Some(hops) = pcie_hops(at) else { return unreadable(subject) };
    let Some(smallest) = hops.iter().min_by_key(|(_, pcie)| pcie.max_payload_bytes) else {
        return vec![Verdict::pass(subject, "The path contains no PCIe link.")];
    };
    let bytes = smallest.1.max_payload_bytes;
    let larger: Vec<_> = hops.iter().filter(|(_, pcie)| pcie.max_payload_bytes > bytes).collect();
    let Some((bdf, pcie)) = larger.first() else {
        return vec![Verdict::pass(
            subject,
            format!("The maximum payload size is {bytes} bytes along the whole path."),
        )];
    };
    vec![Verdict::warn(
        subject,
        format!(
            "Maximum payload sizes differ: {bytes} bytes at {}, {} at {bdf}; a port may reject a longer payload as a malformed TLP.",
            smallest.0, pcie.max_payload_bytes
        ),
        "Boot with pci=pcie_bus_safe (one size below each root port) or pci=pcie_bus_peer2peer (128 bytes everywhere).",
    )]
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
            "Enable it in the firmware, or with setpci (CAP_EXP+8.w, bit 4), if the device supports it.",
        )],
    }
}

pub(super) fn ats(at: &Context<'_>) -> Vec<Verdict> {
    let (Some(_), Some(importer)) = (at.exporter, at.importer) else { return Vec::new() };
    let subject = importer.bdf;
    let enabled = match importer.ats {
        Capability::Unknown => return unreadable(subject.to_string()),
        Capability::Absent => {
            return vec![Verdict::pass(subject, "The importer has no ATS, so all its requests are untranslated.")];
        }
        Capability::Present(ats) => ats.enabled,
    };
    if !enabled {
        return vec![Verdict::pass(subject, "ATS of the importer is off, so all its requests are untranslated.")];
    }
    let bridges = common_bridges(at);
    if bridges.iter().any(|bridge| bridge.redirects() == Capability::Unknown) {
        return unreadable(subject.to_string());
    }
    let redirecting = bridges.iter().filter_map(|bridge| Some((bridge.bdf, bridge.redirects().present()?)));
    let without_dt: Vec<_> =
        redirecting.clone().filter(|(_, acs)| !acs.direct_translated()).map(|(bdf, _)| bdf.to_string()).collect();
    vec![if bridges.is_empty() {
        Verdict::pass(
            subject,
            "The importer uses ATS, and translated requests take the same path through the root complex as untranslated requests.",
        )
    } else if redirecting.count() == 0 {
        Verdict::pass(subject, "The importer uses ATS, and no port redirects, so all requests stay below the switch.")
    } else if without_dt.is_empty() {
        Verdict::pass(
            subject,
            "The importer uses ATS, and the ports route translated requests directly (ACS DT): translated \
             requests stay below the switch, and untranslated requests go through the root complex.",
        )
    } else {
        Verdict::warn(
            subject,
            format!(
                "The importer uses ATS, but {} redirect translated requests to the root complex (ACS redirect without DT).",
                super::context::few(&without_dt)
            ),
            "Set direct translated P2P (bit 6 of the ACS Control register) on those ports with setpci.",
        )
    }]
}
