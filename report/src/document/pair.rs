//! Pairs: the cells of a run that share source, target and path. A report summarizes each pair.

use std::collections::HashMap;

use peerpath_paths::PathName;

use crate::saved::{Outcome, Saved, SavedCell, SavedSource, SavedTarget};

/// All cells of one run with one source, one target and one path.
pub(crate) struct Pair<'a> {
    /// Index of the run.
    pub(crate) run: usize,
    /// Index among all pairs of the report.
    pub(crate) number: usize,
    /// The observed path if it is known, otherwise the predicted path.
    pub(crate) path: PathName,
    /// Path of `--path`; `None` if the run requested none.
    pub(crate) asked: Option<PathName>,
    /// Whether the devices are emulated: values are then not shown next to those of hardware.
    pub(crate) emulated: bool,
    /// Cells in the order in which they ran; never empty.
    pub(crate) cells: Vec<&'a SavedCell>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    kind: &'a str,
    bdf: Option<&'a str>,
    bar: Option<u64>,
    target: &'a SavedTarget,
    peer: Option<&'a str>,
    asked: Option<PathName>,
    path: PathName,
    cause: Option<&'a str>,
}

impl<'a> Key<'a> {
    fn of(cell: &'a SavedCell) -> Self {
        let path = cell.path.best_known();
        Self {
            kind: &cell.source.kind,
            bdf: cell.source.bdf.as_deref(),
            bar: cell.source.bar,
            target: &cell.target,
            peer: cell.peer.as_deref(),
            asked: cell.path.asked,
            path,
            cause: cell.cause.as_deref().filter(|_| path == PathName::Refused),
        }
    }
}

/// The pairs of all runs, in the order of their first cells.
pub(crate) fn pairs(saved: &[Saved]) -> Vec<Pair<'_>> {
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    for (run, saved) in saved.iter().enumerate() {
        let mut known: HashMap<Key<'_>, usize> = HashMap::new();
        let emulated = saved.environment.emulated == Some(true);
        for cell in &saved.cells {
            let key = Key::of(cell);
            let (path, asked) = (key.path, key.asked);
            let at = *known.entry(key).or_insert_with(|| {
                pairs.push(Pair { run, number: 0, path, asked, emulated, cells: Vec::new() });
                pairs.len() - 1
            });
            pairs[at].cells.push(cell);
        }
    }
    for (number, pair) in pairs.iter_mut().enumerate() {
        pair.number = number;
    }
    pairs
}

impl<'a> Pair<'a> {
    pub(crate) fn source(&self) -> &'a SavedSource {
        &self.cells[0].source
    }

    pub(crate) fn target(&self) -> &'a SavedTarget {
        &self.cells[0].target
    }

    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.cells.iter().filter(|cell| cell.outcome == outcome).count()
    }

    /// The largest cell with an observed path, otherwise the first cell.
    pub(crate) fn example(&self) -> &'a SavedCell {
        let seen = self.cells.iter().filter(|cell| cell.path.observed_path().is_some());
        seen.max_by_key(|cell| cell.size_bytes).unwrap_or(&self.cells[0])
    }

    /// Whether no cell passed and no path is known.
    pub(crate) fn never_began(&self) -> bool {
        self.path == PathName::Unknown && self.count(Outcome::Passed) == 0
    }

    /// Whether the run requested the path `refused`, and the kernel refused the mapping.
    pub(crate) fn refused_as_asked(&self) -> bool {
        self.path == PathName::Refused && self.cells.iter().all(|cell| cell.outcome == Outcome::Passed)
    }

    /// Whether a CPU moved the data. The speed then does not describe the path between the devices.
    pub(crate) fn by_cpu(&self) -> bool {
        self.cells.iter().any(|cell| cell.engine.as_deref() == Some("cpu"))
    }
}

/// Cells on host memory, by their measured properties.
pub(crate) struct Baselines<'a>(HashMap<Measured<'a>, &'a SavedCell>);

type Measured<'a> =
    (usize, &'a SavedTarget, Option<&'a str>, (&'a str, Option<&'a str>, bool), &'a str, Option<u64>, [Option<u64>; 4]);

fn measured(run: usize, cell: &SavedCell) -> Measured<'_> {
    let operation = (cell.op.as_str(), cell.direction.as_deref(), cell.bidirectional);
    let counts = [cell.depth, cell.threads, cell.qps, cell.offered_operations_per_s];
    (run, &cell.target, cell.peer.as_deref(), operation, &cell.mode, cell.size_bytes, counts)
}

impl<'a> Baselines<'a> {
    pub(crate) fn of(saved: &'a [Saved]) -> Self {
        let mut known = HashMap::new();
        for (run, saved) in saved.iter().enumerate() {
            let on_host_memory =
                |cell: &&SavedCell| cell.path.best_known() == PathName::HostMemory && cell.outcome == Outcome::Passed;
            for cell in saved.cells.iter().filter(on_host_memory) {
                let entry = known.entry(measured(run, cell)).or_insert(cell);
                // Host memory without a dma-buf is the simpler baseline.
                if cell.source.kind == "host" {
                    *entry = cell;
                }
            }
        }
        Self(known)
    }

    /// The cell with the same operation and settings on host memory. `None` for host memory itself.
    pub(crate) fn of_cell(&self, run: usize, cell: &'a SavedCell) -> Option<&'a SavedCell> {
        if cell.path.best_known() == PathName::HostMemory {
            return None;
        }
        self.0.get(&measured(run, cell)).copied()
    }

    /// Speed of a cell relative to the same operation on host memory: 1.0 is equal.
    pub(crate) fn share(&self, run: usize, cell: &'a SavedCell) -> Option<f64> {
        let baseline = self.of_cell(run, cell)?;
        let share = match (cell.throughput, baseline.throughput, cell.p50(), baseline.p50()) {
            (Some(own), Some(theirs), ..) if theirs > 0.0 => own / theirs,
            (.., Some(own), Some(theirs)) => theirs / own,
            _ => return None,
        };
        share.is_finite().then_some(share)
    }
}
