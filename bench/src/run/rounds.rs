//! The order in which the repeats of a leg's cells run, and their records.
//!
//! A round runs each cell of the leg once, so that a drift of the host affects all cells alike. The order within a round is
//! random, so that no cell always follows the same other cell. A single round keeps the order of the plan.

use std::ops::ControlFlow;

use peerpath_paths::{Cause, PathName};

use super::log::Log;
use super::record;
use crate::failure::Failure;
use crate::pattern::Pattern;
use crate::plan::{CellSpec, Leg, Plan};
use crate::result::{Cell, Outcome};

/// One repeat of one cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeat<'a> {
    pub(super) spec: &'a CellSpec,
    /// Index of the repeat, from 0.
    pub(super) index: u32,
}

/// Runs all rounds of a leg. `run` runs one repeat of a cell, and returns `None` if it was interrupted. A cell that did not pass
/// is not repeated. Returns `Break` if a repeat was interrupted.
///
/// # Errors
/// The result cannot be saved.
pub(super) fn run(
    plan: &Plan,
    leg: Leg<'_>,
    log: &mut Log<'_>,
    mut run: impl FnMut(Repeat<'_>, &mut Log<'_>) -> Option<Cell>,
) -> Result<ControlFlow<()>, Failure> {
    let specs = log.cells(plan, leg);
    let mut records = Records { first: log.result.cells.len(), ranks: Vec::new() };
    for index in 0..plan.repeats() {
        let order = if plan.repeats() > 1 {
            shuffled(specs.len(), plan.seed ^ records.first as u64, index)
        } else {
            (0..specs.len()).collect()
        };
        for rank in order {
            if index > 0 && records.cell(log, rank).is_none_or(|cell| cell.outcome != Outcome::Passed) {
                continue;
            }
            let repeat = Repeat { spec: &specs[rank], index };
            log.progress.begin(&record::describe(leg, &specs[rank]), index);
            let Some(cell) = run(repeat, log) else { return Ok(ControlFlow::Break(())) };
            let at = records.add(log, rank, cell);
            log.save()?;
            let cell = &log.result.cells[at];
            let left = if cell.outcome == Outcome::Passed { plan.repeats() - index - 1 } else { 0 };
            log.progress.end(cell, left);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The records of the leg's cells. The result contains them in the order of the plan, not in the order in which they ran.
struct Records {
    /// Index of the leg's first cell in the result.
    first: usize,
    /// Rank in the plan of each recorded cell, sorted.
    ranks: Vec<usize>,
}

impl Records {
    fn cell<'a>(&self, log: &'a Log<'_>, rank: usize) -> Option<&'a Cell> {
        log.result.cells.get(self.first + self.ranks.binary_search(&rank).ok()?)
    }

    /// Adds one repeat to the result, and returns the index of its cell.
    fn add(&mut self, log: &mut Log<'_>, rank: usize, repeat: Cell) -> usize {
        if log.remove_earlier(&repeat) {
            self.first -= 1;
        }
        let cells = &mut log.result.cells;
        match self.ranks.binary_search(&rank) {
            Ok(at) => {
                let at = self.first + at;
                merge(&mut cells[at], repeat);
                at
            }
            Err(at) => {
                self.ranks.insert(at, rank);
                cells.insert(self.first + at, repeat);
                self.first + at
            }
        }
    }
}

/// Adds a repeat to its cell. A cell passes only if all repeats pass, over the same path. The figures of the repeats that
/// passed are kept.
fn merge(cell: &mut Cell, repeat: Cell) {
    let mut repeats = std::mem::take(&mut cell.repeats);
    let paths = |cell: &Cell| (cell.path.observed, cell.far.as_ref().map(|far| far.path.observed));
    let (before, now) = (paths(cell), paths(&repeat));
    let differ = |one: PathName, other: PathName| one != other && ![one, other].contains(&PathName::Unknown);
    let far_differs = before.1.zip(now.1).is_some_and(|(before, now)| differ(before, now));
    if repeat.outcome == Outcome::Passed && !differ(before.0, now.0) && !far_differs {
        repeats.extend(repeat.repeats);
        if let Some(median) = Cell::median_of(&repeats) {
            cell.measured = median.clone();
        }
        cell.repeats = repeats;
        return;
    }
    let number = repeats.len() + 1;
    *cell = Cell { repeats, measured: Default::default(), ..repeat };
    if cell.outcome == Outcome::Passed {
        let (before, now) =
            if far_differs { before.1.zip(now.1).unwrap_or((before.0, now.0)) } else { (before.0, now.0) };
        cell.outcome = Outcome::Failed;
        cell.cause = Some(Cause::PathMismatch);
        cell.reason = Some(format!(
            "the path was {before}, and is {now} in repeat {number}: the configuration of the host changed"
        ));
        cell.remedy = Some("Run again while no other program changes ACS, IOMMU domains or drivers.".to_owned());
    }
}

/// The ranks below `count` in random order. The same seed and round lead to the same order.
fn shuffled(count: usize, seed: u64, round: u32) -> Vec<usize> {
    let random = Pattern::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(round));
    let mut ranks: Vec<usize> = (0..count).collect();
    // Fisher and Yates. The bias of the remainder is below 1 in 10^14 for any number of cells.
    for last in (1..count).rev() {
        ranks.swap(last, (random.word(last as u64) % (last as u64 + 1)) as usize);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_round_runs_each_cell_once(count in 0_usize..200, seed: u64, round in 0_u32..10) {
            let mut ranks = shuffled(count, seed, round);
            prop_assert_eq!(&ranks, &shuffled(count, seed, round));
            ranks.sort_unstable();
            prop_assert_eq!(ranks, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_repeat_over_another_path_fails_its_cell() {
        let repeat = |path: &str| -> Cell {
            serde_json::from_value(serde_json::json!({
                "id": "a cell", "source": {"kind": "host", "bdf": null, "bar": null, "ranges": []},
                "target": {"kind": "verbs", "device": "mlx5_0", "bdf": null},
                "path": {"asked": null, "observed": path, "blockers": [], "evidence": []},
                "op": "write", "mode": "completion", "direction": null, "size_bytes": 4096, "depth": 1, "threads": 1, "qps": 1,
                "outcome": "passed", "iterations": 5, "repeats": [{"iterations": 5}]
            }))
            .unwrap()
        };
        let mut cell = repeat("bus-address");
        for same in ["bus-address", "unknown"] {
            merge(&mut cell, repeat(same));
        }
        assert_eq!((cell.outcome, cell.repeats.len()), (Outcome::Passed, 3));
        merge(&mut cell, repeat("host-bridge-translated"));
        assert_eq!((cell.outcome, cell.cause), (Outcome::Failed, Some(Cause::PathMismatch)));
        assert_eq!((cell.repeats.len(), cell.measured.iterations), (3, None));
        let reason = cell.reason.unwrap();
        assert!(reason.contains("was bus-address, and is host-bridge-translated in repeat 4"), "{reason}");
    }

    #[test]
    fn each_cell_runs_at_each_place_about_equally_often() {
        let mut places = [[0_u32; 6]; 6];
        for seed in 0..600 {
            for (place, rank) in shuffled(6, seed, 1).into_iter().enumerate() {
                places[rank][place] += 1;
            }
        }
        assert!(places.iter().flatten().all(|count| (60..=140).contains(count)), "{places:?}");
    }
}
