//! Identifies a cell by its measured properties.

use std::fmt::Write as _;

use peerpath_paths::PathName;

use crate::saved::{SavedCell, SavedSource, SavedTarget};

/// Maximum number of ranges in the name of a cell.
const MAX_NAMED_RANGES: usize = 4;

/// Properties that identify a measurement. The path is the requested path: a cell that passed took it, and another cell would
/// have taken it. Without a request it is the observed path, or else the predicted one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) source: SavedSource,
    target: SavedTarget,
    peer: Option<String>,
    pub(super) path: PathName,
    pub(super) op: String,
    direction: Option<String>,
    bidirectional: bool,
    mode: String,
    pub(super) size_bytes: Option<u64>,
    pub(super) depth: Option<u64>,
    threads: Option<u64>,
    qps: Option<u64>,
    offered_operations_per_s: Option<u64>,
    pub(super) mechanism: Option<String>,
}

impl Key {
    pub(super) fn of(cell: &SavedCell) -> Self {
        Self {
            source: cell.source.clone(),
            target: cell.target.clone(),
            peer: cell.peer.clone(),
            path: cell.path.asked.unwrap_or_else(|| cell.path.best_known()),
            op: cell.op.clone(),
            direction: cell.direction.clone(),
            bidirectional: cell.bidirectional,
            mode: cell.mode.clone(),
            size_bytes: cell.size_bytes,
            depth: cell.depth,
            // Versions that do not record the field always used one.
            threads: cell.threads.or(Some(1)),
            qps: cell.qps.or(Some(1)),
            offered_operations_per_s: cell.offered_operations_per_s,
            mechanism: cell.mechanism.clone(),
        }
    }

    /// Removes the properties that a cell records only if it passed, except the path.
    pub(super) fn remove_what_only_passed_cells_record(&mut self) {
        self.mechanism = None;
        self.source.ranges.clear();
    }

    /// The key of a cell without the properties that it records only if it passed. A cell that did not ask for a path may not
    /// record one.
    pub(super) fn bare(cell: &SavedCell) -> Self {
        let mut key = Self::of(cell);
        key.remove_what_only_passed_cells_record();
        if cell.path.asked.is_none() {
            key.path = PathName::Unknown;
        }
        key
    }

    pub(super) fn name(&self) -> String {
        let mut name = source(&self.source);
        let _ = write!(name, "/{}:{}/{}/{}", self.target.kind, self.target.device, self.path, self.op);
        let size = self.size_bytes.map(|size| size.to_string());
        for part in
            [&self.direction, &Some(self.mode.clone()), &size, &self.mechanism, &self.peer].into_iter().flatten()
        {
            let _ = write!(name, "/{part}");
        }
        let counts = [
            ("depth", self.depth),
            ("threads", self.threads),
            ("qps", self.qps),
            ("offered", self.offered_operations_per_s),
        ];
        for (what, count) in counts.iter().filter_map(|(what, count)| count.map(|count| (what, count))) {
            if count != 1 {
                let _ = write!(name, "/{what} {count}");
            }
        }
        if self.bidirectional {
            name += "/bidirectional";
        }
        name
    }
}

fn source(source: &SavedSource) -> String {
    let mut name = match (&source.bdf, source.bar) {
        (Some(bdf), Some(bar)) => format!("{bdf}:{bar}"),
        _ => source.kind.clone(),
    };
    let ranges = &source.ranges;
    if ranges.len() > 1 || ranges.first().is_some_and(|range| range.0 != 0) {
        let named: Vec<_> =
            ranges.iter().take(MAX_NAMED_RANGES).map(|(from, length)| format!("{from:#x}+{length:#x}")).collect();
        let _ = write!(name, "@{}", named.join(","));
        if ranges.len() > MAX_NAMED_RANGES {
            let _ = write!(name, ",... ({} ranges)", ranges.len());
        }
    }
    name
}
