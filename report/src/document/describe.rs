//! Names of paths, sources, targets and operations, for readers who do not know this program.

use peerpath_paths::PathName;

use crate::saved::{SavedCell, SavedSource, SavedTarget};
use crate::units;

/// Description of a path for the page.
pub(crate) struct PathDescription {
    pub(crate) path: PathName,
    /// A phrase for use in a sentence.
    pub(crate) short: &'static str,
    /// An explanation in sentences.
    pub(crate) meaning: &'static str,
}

/// Every path, in the order in which the page explains them.
pub(crate) const PATHS: [PathDescription; 7] = [
    PathDescription {
        path: PathName::BusAddress,
        short: "peer to peer below a common PCI bridge",
        meaning: "Source and target are below one PCI bridge, usually a switch, which forwards the data between them. Neither the IOMMU \
            nor the host bridge is involved.",
    },
    PathDescription {
        path: PathName::HostBridgeBypass,
        short: "through the host bridge, not translated by an IOMMU",
        meaning: "The data passes through the root complex. The target uses physical addresses: its IOMMU domain has type identity, \
            or there is no IOMMU.",
    },
    PathDescription {
        path: PathName::HostBridgeTranslated,
        short: "through the host bridge, translated by the IOMMU",
        meaning: "The data passes through the root complex, where the IOMMU translates the addresses that the \
            target uses.",
    },
    PathDescription {
        path: PathName::Refused,
        short: "the kernel refuses to map this source for this target",
        meaning: "The kernel refuses to map this source for this target, so no data can be transferred. \
            The result names the cause.",
    },
    PathDescription {
        path: PathName::HostMemory,
        short: "host memory",
        meaning: "Baseline: the same operation on host memory instead of a BAR.",
    },
    PathDescription {
        path: PathName::Staged,
        short: "copied through host memory by the CPU",
        meaning: "Baseline: the target accesses host memory, and the CPU copies between host memory and the BAR.",
    },
    PathDescription {
        path: PathName::Unknown,
        short: "unknown path",
        meaning: "The path was neither observed nor predicted.",
    },
];

pub(crate) fn path(path: PathName) -> &'static PathDescription {
    PATHS.iter().find(|description| description.path == path).unwrap_or(&PATHS[PATHS.len() - 1])
}

/// Whether data moves from device to device, so that a comparison with host memory makes sense.
pub(crate) fn is_peer_to_peer(path: PathName) -> bool {
    matches!(path, PathName::BusAddress | PathName::HostBridgeBypass | PathName::HostBridgeTranslated)
}

/// Source in a sentence, e.g. `BAR 2 of 0000:01:00.0`.
pub(crate) fn source(source: &SavedSource) -> String {
    match (&source.bdf, source.bar) {
        (Some(bdf), Some(bar)) => format!("BAR {bar} of {bdf}"),
        (Some(bdf), None) => format!("memory of {bdf}"),
        _ => match source.kind.as_str() {
            "host" => "host memory".to_owned(),
            "udmabuf" => "host memory as a dma-buf (udmabuf)".to_owned(),
            "heap" => "host memory as a dma-buf (heap)".to_owned(),
            "cuda" => "memory of a GPU".to_owned(),
            other => format!("memory ({other})"),
        },
    }
}

/// Short name of a source: the BAR, e.g. `0000:01:00.0:2`, or the kind of memory.
pub(crate) fn short_source(source: &SavedSource) -> String {
    match (&source.bdf, source.bar) {
        (Some(bdf), Some(bar)) => format!("{bdf}:{bar}"),
        (Some(bdf), None) => bdf.clone(),
        _ => source.kind.clone(),
    }
}

/// Target in a sentence, e.g. `rxe0 on 0000:02:00.0`.
pub(crate) fn target(target: &SavedTarget) -> String {
    // The name of a GPU is only its number.
    let is_number = target.device.bytes().all(|byte| byte.is_ascii_digit());
    let device = if is_number { short_target(target) } else { target.device.clone() };
    match &target.bdf {
        Some(bdf) if !target.device.contains(bdf.as_str()) => format!("{device} on {bdf}"),
        _ => device,
    }
}

pub(crate) fn short_target(target: &SavedTarget) -> String {
    format!("{}:{}", target.kind, target.device)
}

/// Size, operation and direction, e.g. `64 KiB write into source`.
pub(crate) fn operation(cell: &SavedCell) -> String {
    let size = cell.size_bytes.map_or_else(String::new, |size| units::bytes(size) + " ");
    format!("{size}{}{}", cell.op, direction(cell))
}

/// Operation followed by its settings, e.g. `64 KiB write into source, depth 16`.
pub(crate) fn operation_with_settings(cell: &SavedCell) -> String {
    let settings = settings(cell);
    if settings.is_empty() { operation(cell) } else { format!("{}, {settings}", operation(cell)) }
}

/// Direction of the data, with a leading space: ` into source` or ` out of source`.
fn direction(cell: &SavedCell) -> &'static str {
    match cell.direction.as_deref() {
        _ if cell.bidirectional => " both ways (sum of both directions)",
        Some("into_source") => " into source",
        Some("out_of_source") => " out of source",
        _ => "",
    }
}

/// The settings of a cell that differ from 1 or from the default, e.g. `depth 16, queue pairs 4, ranges 8`.
pub(crate) fn settings(cell: &SavedCell) -> String {
    let mut parts = Vec::new();
    let mut note = |what: &str, count: Option<u64>| {
        if let Some(count) = count.filter(|count| *count != 1) {
            parts.push(format!("{what} {count}"));
        }
    };
    note("depth", cell.depth);
    note("threads", cell.threads);
    note("queue pairs", cell.qps);
    note("offered operations per second", cell.offered_operations_per_s);
    note("ranges", Some(range_count(cell)));
    parts.extend(cell.mechanism.iter().filter(|mechanism| mechanism.contains("range")).cloned());
    parts.extend(cell.peer.iter().map(|peer| format!("client: {peer}")));
    parts.join(", ")
}

/// Maximum number of disturbances in the text of a cell.
const MAX_DISTURBANCES: usize = 8;

/// What disturbed the repeats of a cell, e.g. `repeat 2: the hypervisor took 12 % of the CPU time`. `None` if nothing did.
pub(crate) fn disturbances(cell: &SavedCell) -> Option<String> {
    let all = cell.disturbances().map(|(repeat, why)| format!("repeat {repeat}: {why}"));
    let text = all.take(MAX_DISTURBANCES).collect::<Vec<_>>().join("; ");
    (!text.is_empty()).then_some(text)
}

pub(crate) fn range_count(cell: &SavedCell) -> u64 {
    (cell.source.ranges.len() as u64).max(1)
}

/// Number with a noun in singular or plural: `1 cell`, `2 cells`.
pub(crate) fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
