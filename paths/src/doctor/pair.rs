//! Checks of the pair of exporter and importer: the predicted path, and PCIe settings along it.

use std::collections::BTreeMap;
use std::fmt;

use super::context::unreadable;
use super::{Context, Verdict};
use crate::route_facts::{Meaning, Packets, RouteFact};
use crate::{Bdf, Capability, Cause, ExporterRule, PathName, PathReport, Request, blockers, sentence};

/// The subject of a finding about the pair; `None` if no pair is selected.
pub(super) fn pair(at: &Context<'_>) -> Option<String> {
    Some(format!("{} -> {}", at.exporter?.bdf, at.importer?.bdf))
}

pub(super) fn path(at: &Context<'_>) -> Vec<Verdict> {
    match (pair(at), &at.report) {
        (Some(pair), Some(report)) => {
            vec![by_gpu_driver(at, &pair, report).unwrap_or_else(|| predicted(at, pair, report))]
        }
        _ => every_pair(at),
    }
}

/// The finding for a pair whose outcome differs from the P2PDMA decision because of a GPU driver; `None` if the decision applies.
fn by_gpu_driver(at: &Context<'_>, subject: &str, report: &PathReport) -> Option<Verdict> {
    const VERIFY: &str =
        "Verify the data of a transfer. If it fails or is slow, stage the transfers through host memory.";
    let PathReport { rule, deciding, .. } = report;
    let translated = at.facts.as_ref().and_then(|facts| facts.translated);
    let imports_io_memory =
        at.importer.is_some_and(|importer| ExporterRule::of(importer, None) == ExporterRule::Nvidia);
    let by_topology = report.predicted == PathName::Refused && report.cause == Some(Cause::Topology);
    Some(match (rule, report.predicted) {
        (ExporterRule::Vfio, _) if by_topology && imports_io_memory => Verdict::warn(
            subject,
            format!(
                "The P2PDMA check refuses a dma-buf for this pair ({}), but CUDA registers the BAR's CPU mapping, and \
                 NVIDIA's driver maps it without the check. It is unknown whether the root complex forwards the data.",
                deciding.fact
            ),
            VERIFY,
        ),
        (ExporterRule::Vfio, _) => return None,
        (rule, _) if rule.exports_host_memory_only() => {
            Verdict::pass(subject, format!("host-memory: {rule} moves the buffer to the host before the import."))
        }
        (ExporterRule::Nvidia, _) if by_topology => Verdict::warn(
            subject,
            format!(
                "The P2PDMA check would refuse this pair ({}), but NVIDIA's driver maps the memory without the check. It \
                 is unknown whether the root complex forwards the data.",
                deciding.fact
            ),
            VERIFY,
        ),
        (rule, _) if by_topology => Verdict::fail(
            subject,
            Cause::Topology,
            format!(
                "The P2PDMA check refuses the pair ({}), so {rule} silently exports host memory instead of GPU memory.",
                deciding.fact
            ),
            first_change(at, report)
                .unwrap_or_else(|| "Use functions below one switch without ACS redirect, or another host.".to_owned()),
        ),
        (rule, PathName::BusAddress) if translated == Some(true) => Verdict::warn(
            subject,
            format!(
                "The P2PDMA check selects the path {}, but {rule} maps through the importer's IOMMU domain, so the data \
                 goes through the root complex ({}).",
                PathName::BusAddress,
                PathName::HostBridgeTranslated
            ),
            "Set the domain type of the importer's group to identity (boot with iommu=pt), so that the data stays below the switch.",
        ),
        _ => return None,
    })
}

/// The first change that gives another path, as sentences. If the command line already clears the ACS redirect of the pair, a
/// reference to the check `boot-options` instead.
fn first_change(at: &Context<'_>, report: &PathReport) -> Option<String> {
    let named = super::acs_redirect::already_named(at, report.from, report.to);
    named.map(str::to_owned).or_else(|| report.would_change.first().map(|change| sentence(change)))
}

fn predicted(at: &Context<'_>, subject: String, report: &PathReport) -> Verdict {
    let PathReport { predicted, deciding, .. } = report;
    let change = first_change(at, report);
    match (predicted, report.cause) {
        (PathName::Refused, cause) => {
            let remedy = match (change, cause) {
                (Some(change), Some(Cause::Topology)) => format!("{change} Otherwise transfer through host memory."),
                (Some(change), _) => change,
                (None, _) => {
                    at.placement().map_or_else(|| "Use another host.".to_owned(), crate::placement::Placement::instead)
                }
            };
            let detail = format!("The kernel refuses the mapping: {}.", deciding.fact);
            Verdict { cause, ..Verdict::fail(subject, Cause::Topology, detail, remedy) }
        }
        (PathName::Unknown, _) => Verdict::unknown(
            subject,
            format!("The path cannot be predicted: {}.", deciding.fact),
            how_to_supply(at, report),
        ),
        _ => Verdict::pass(subject, format!("{predicted}: {}.", deciding.fact)),
    }
}

/// How to supply the information that a prediction lacks.
fn how_to_supply(at: &Context<'_>, report: &PathReport) -> String {
    let missing = report.unknown.join("; ");
    if at.tree.is_live() {
        return format!("Find out on this host: {missing}.");
    }
    let is_domain = |text: &String| text.contains("the domain type of") || text.contains("the IOMMU group of");
    let option = match at.host().command_line {
        None if report.unknown.iter().any(is_domain) => {
            " If the host booted with iommu=pt or iommu.passthrough=1, give the kernel command line instead."
        }
        _ => "",
    };
    format!("Take a snapshot with `peerpath snapshot` on the host. It contains what is missing: {missing}.{option}")
}

/// Summarizes the predictions of all pairs if no pair is selected. The exporters are the functions whose driver exports memory
/// (vfio-pci, or a GPU driver), or every possible exporter if no function has such a driver.
fn every_pair(at: &Context<'_>) -> Vec<Verdict> {
    let predictor = at.inventory.predictor(Request { bar: at.bar, ..Request::default() });
    let exporters: Vec<Bdf> = match at.exporter {
        Some(exporter) => vec![exporter.bdf],
        None => {
            let bound = |bdf: &Bdf| {
                at.topology().function(*bdf).is_some_and(|function| {
                    function.driver.as_deref().is_some_and(blockers::exports)
                        || ExporterRule::of(function, None).is_gpu()
                })
            };
            let all: Vec<_> = predictor.exporters().collect();
            let exporting: Vec<_> = all.iter().copied().filter(bound).collect();
            if exporting.is_empty() { all } else { exporting }
        }
    };
    let importers: Vec<Bdf> = at.importer.map_or_else(
        || at.rdma_functions().iter().map(|function| function.bdf).collect(),
        |importer| vec![importer.bdf],
    );
    let rule = |bdf: &Bdf| {
        at.topology().function(*bdf).map_or(ExporterRule::Vfio, |function| ExporterRule::of(function, at.bar))
    };
    let (to_host_memory, exporters): (Vec<Bdf>, Vec<Bdf>) =
        exporters.into_iter().partition(|bdf| rule(bdf).exports_host_memory_only());
    let (asking, independent): (Vec<Bdf>, Vec<Bdf>) = exporters.into_iter().partition(|bdf| rule(bdf).asks_p2pdma());
    let mut predictions = predictor.count_paths(&asking, &importers);
    let mut unasked = 0;
    for ((path, cause), count) in predictor.count_paths(&independent, &importers) {
        if (path, cause) == (PathName::Refused, Some(Cause::Topology)) {
            unasked += count;
        }
        *predictions.entry((path, cause)).or_default() += count;
    }
    let through_host_memory: u64 = predictor.count_paths(&to_host_memory, &importers).into_values().sum();
    if through_host_memory > 0 {
        *predictions.entry((PathName::HostMemory, None)).or_default() += through_host_memory;
    }
    let pairs: u64 = predictions.values().sum();
    if pairs == 0 {
        return Vec::new();
    }
    let mut counts: BTreeMap<PathName, u64> = BTreeMap::new();
    for ((path, _), count) in &predictions {
        *counts.entry(*path).or_default() += count;
    }
    let refused = predictions.iter().filter_map(|((_, cause), count)| Some((count, (*cause)?)));
    let cause = refused.max_by_key(|(count, _)| **count).map(|(_, cause)| cause);
    let listed: Vec<_> = counts.iter().map(|(path, count)| format!("{count} {path}")).collect();
    let note = if unasked > 0 {
        format!(" {unasked} of the refused pairs can work: NVIDIA's driver maps GPU memory without the P2PDMA check.")
    } else {
        String::new()
    };
    let detail = format!("Pairs of exporter and RDMA device by predicted path: {}.{note}", listed.join(", "));
    let of = |path| counts.get(&path).copied().unwrap_or(0);
    let instead = at.platform.and_then(crate::Platform::instead_of_moving).filter(|_| of(PathName::Refused) > 0);
    let remedy =
        ["Run `peerpath paths` for the reason of each pair."].into_iter().chain(instead).collect::<Vec<_>>().join(" ");
    vec![if of(PathName::Refused) == pairs && unasked == 0 {
        Verdict { cause, ..Verdict::fail("host", Cause::Topology, detail, remedy) }
    } else if of(PathName::Refused) > 0 {
        Verdict { cause, ..Verdict::warn("host", detail, remedy) }
    } else if of(PathName::Unknown) > 0 {
        Verdict::unknown("host", detail, remedy)
    } else {
        Verdict::pass("host", detail)
    }]
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
    let facts = at.route_facts.iter();
    facts.filter(|fact| fact.packets == Packets::Translated).map(|fact| of_route(subject, fact)).collect()
}

/// Reports ports that send requests or completions on another route than the kernel's mapping assumes.
pub(super) fn acs_route(at: &Context<'_>) -> Vec<Verdict> {
    let (Some(subject), Some(report)) = (pair(at), &at.report) else { return Vec::new() };
    let facts = at.route_facts.iter().filter(|fact| fact.packets != Packets::Translated);
    let found: Vec<_> = facts.map(|fact| of_route(&subject, fact)).collect();
    if !found.is_empty() {
        return found;
    }
    vec![match report.predicted {
        PathName::Refused => Verdict::pass(subject, "The kernel refuses the mapping, so no requests are possible."),
        PathName::Unknown => Verdict::unknown(
            subject,
            "The path is unknown, so the route of the requests is unknown.",
            how_to_supply(at, report),
        ),
        _ => Verdict::pass(
            subject,
            "No port sends requests or completions on another route than the kernel's mapping assumes.",
        ),
    }]
}

fn of_route(subject: impl fmt::Display, fact: &RouteFact) -> Verdict {
    let detail = sentence(&fact.clause);
    match &fact.meaning {
        Meaning::Remark => Verdict::pass(subject, detail),
        Meaning::Problem { remedy } => Verdict::warn(subject, detail, remedy),
        Meaning::Unknown => Verdict::unknown(subject, detail, "Run as root, or take the snapshot as root."),
    }
}
