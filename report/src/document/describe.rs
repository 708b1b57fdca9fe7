//! What paths, memories and devices are called on a page that somebody reads who has never seen this program.

use peerpath_paths::PathName;

use crate::saved::{SavedCell, SavedSource, SavedTarget};
use crate::units;

/// A path as the page shows it: its name, a class for its colour, and what it means.
pub(crate) struct PathWords {
    pub(crate) path: PathName,
    /// A few words, to stand in a sentence.
    pub(crate) short: &'static str,
    /// A sentence for who asks what that is.
    pub(crate) meaning: &'static str,
}

/// Every path, in the order in which the page explains them.
pub(crate) const PATHS: [PathWords; 7] = [
    PathWords {
        path: PathName::BusAddress,
        short: "peer to peer below a common PCI bridge",
        meaning: "Both devices sit below one PCI bridge (a switch, as a rule), and it passes the data straight from one to the other. \
            Neither the IOMMU nor the host bridge is on the way.",
    },
    PathWords {
        path: PathName::HostBridgeBypass,
        short: "through the host bridge, not translated by an IOMMU",
        meaning: "The data go up to the root complex and down again. The device that imports uses physical addresses: its IOMMU \
            domain is an identity domain, or there is no IOMMU.",
    },
    PathWords {
        path: PathName::HostBridgeTranslated,
        short: "through the host bridge, translated by the IOMMU",
        meaning: "The data go up to the root complex, where the IOMMU translates every address that the importing device uses, and \
            down again.",
    },
    PathWords {
        path: PathName::Refused,
        short: "the kernel will not map this memory for this device",
        meaning: "The kernel will not map this memory for this device, so no data can move. The cause stands beside it.",
    },
    PathWords {
        path: PathName::HostMemory,
        short: "ordinary memory of the host",
        meaning: "Baseline: the same operation on ordinary memory instead of a BAR.",
    },
    PathWords {
        path: PathName::Staged,
        short: "copied through host memory by the CPU",
        meaning: "Baseline: the device works on host memory, and the CPU copies between that and the BAR.",
    },
    PathWords {
        path: PathName::Unknown,
        short: "a way that is not known",
        meaning: "It could neither be observed nor predicted.",
    },
];

pub(crate) fn path(path: PathName) -> &'static PathWords {
    PATHS.iter().find(|words| words.path == path).unwrap_or(&PATHS[PATHS.len() - 1])
}

/// Whether a way runs from device to device, so that it can be held against host memory.
pub(crate) fn is_peer_to_peer(path: PathName) -> bool {
    matches!(path, PathName::BusAddress | PathName::HostBridgeBypass | PathName::HostBridgeTranslated)
}

/// `BAR 2 of 0000:01:00.0`.
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

/// `0000:01:00.0:2`, or the kind of memory.
pub(crate) fn short_source(source: &SavedSource) -> String {
    match (&source.bdf, source.bar) {
        (Some(bdf), Some(bar)) => format!("{bdf}:{bar}"),
        (Some(bdf), None) => bdf.clone(),
        _ => source.kind.clone(),
    }
}

/// `rxe0 on 0000:02:00.0`.
pub(crate) fn target(target: &SavedTarget) -> String {
    match &target.bdf {
        Some(bdf) if !target.device.contains(bdf.as_str()) => format!("{} on {bdf}", target.device),
        _ => target.device.clone(),
    }
}

pub(crate) fn short_target(target: &SavedTarget) -> String {
    format!("{}:{}", target.kind, target.device)
}

/// `64 KiB write into it`.
pub(crate) fn operation(cell: &SavedCell) -> String {
    let size = cell.size_bytes.map_or_else(String::new, |size| units::bytes(size) + " ");
    format!("{size}{}{}", cell.op, way(cell))
}

/// `64 KiB write into it, depth 16`: with all that a figure depends on.
pub(crate) fn operation_with_settings(cell: &SavedCell) -> String {
    let settings = settings(cell);
    if settings.is_empty() { operation(cell) } else { format!("{}, {settings}", operation(cell)) }
}

/// ` into it`, ` out of it`.
fn way(cell: &SavedCell) -> &'static str {
    match cell.direction.as_deref() {
        _ if cell.bidirectional => " both ways",
        Some("into_source") => " into it",
        Some("out_of_source") => " out of it",
        _ => "",
    }
}

/// The settings of a cell that are out of the ordinary: `depth 16, 4 queue pairs, 8 ranges`.
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
    note("ranges", Some(range_count(cell)));
    parts.extend(cell.mechanism.iter().filter(|mechanism| mechanism.contains("range")).cloned());
    parts.extend(cell.peer.iter().map(|peer| format!("other host: {peer}")));
    parts.join(", ")
}

pub(crate) fn range_count(cell: &SavedCell) -> u64 {
    (cell.source.ranges.len() as u64).max(1)
}

/// `2 cells`, `1 cell`.
pub(crate) fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
