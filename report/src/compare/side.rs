//! One side of a comparison: the cells of its results, grouped by what they measured.

use std::collections::HashMap;

use super::key::Key;
use crate::saved::{Outcome, Saved, SavedCell};

/// The cells of one side with the same properties (source, target, path, op, size and so on), at most one per result.
#[derive(Debug)]
pub(super) struct Group<'a> {
    /// Index of the result, and its cell.
    cells: Vec<(usize, &'a SavedCell)>,
    /// Position of the first of the cells: index of its result, index in the result.
    place: (usize, usize),
}

impl<'a> Group<'a> {
    /// Cells that ran without an error.
    pub(super) fn passed(&self) -> impl Iterator<Item = &'a SavedCell> {
        self.cells.iter().map(|(_, cell)| *cell).filter(|cell| cell.outcome == Outcome::Passed)
    }

    /// The first cell that passed, otherwise the first cell.
    pub(super) fn example(&self) -> &'a SavedCell {
        self.passed().next().unwrap_or(self.cells[0].1)
    }

    /// The first cell that failed, otherwise the first one that passed, otherwise the first one.
    pub(super) fn decisive(&self) -> &'a SavedCell {
        let failed = self.cells.iter().map(|(_, cell)| *cell).find(|cell| cell.outcome == Outcome::Failed);
        failed.unwrap_or_else(|| self.example())
    }

    /// Number of cells with an outcome, if the group has several cells: ` in 1 of 3 results`.
    pub(super) fn share_of(&self, outcome: Outcome) -> String {
        let count = self.cells.iter().filter(|(_, cell)| cell.outcome == outcome).count();
        if self.cells.len() == 1 { String::new() } else { format!(" in {count} of {} results", self.cells.len()) }
    }

    pub(super) fn shares_a_result_with(&self, other: &Group<'_>) -> bool {
        self.cells.iter().any(|(result, _)| other.cells.iter().any(|(also, _)| also == result))
    }

    /// Number of disturbed repeats of the cells that passed, and the first disturbance.
    pub(super) fn disturbed(&self) -> Option<(usize, &'a str)> {
        let disturbed = || self.passed().flat_map(|cell| &cell.repeats).filter(|repeat| !repeat.disturbed.is_empty());
        let first = disturbed().next()?.disturbed.first()?;
        Some((disturbed().count(), first))
    }

    /// Whether every cell that passed compared its data with the expected data.
    pub(super) fn verified(&self) -> bool {
        self.passed().all(SavedCell::verified)
    }
}

/// Groups the cells of the results of a side, in the order of their first cells.
///
/// A cell that did not pass records neither mechanism nor ranges, and perhaps no path. It joins the cells of the other results
/// that are equal except for these, if there is one such group.
pub(super) fn groups<'a>(results: &[&'a Saved]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut by_key: HashMap<Key, Vec<usize>> = HashMap::new();
    let mut by_bare_key: HashMap<Key, Vec<usize>> = HashMap::new();
    for passed in [true, false] {
        for (result, saved) in results.iter().enumerate() {
            // The first cell with a key joins the first group with that key, the second one the second.
            let mut seen: HashMap<Key, usize> = HashMap::new();
            for (at, cell) in saved.cells.iter().enumerate() {
                if (cell.outcome == Outcome::Passed) != passed {
                    continue;
                }
                let (key, bare) = (Key::of(cell), Key::bare(cell));
                let before = seen.entry(key.clone()).or_default();
                let has_none_of = |&group: &usize| groups[group].cells.iter().all(|(other, _)| *other != result);
                let equal = by_key.get(&key).and_then(|list| list.get(*before)).copied();
                let equal = equal.filter(has_none_of);
                *before += 1;
                let similar = || match by_bare_key.get(&bare).map(Vec::as_slice) {
                    Some(&[only]) if !passed && has_none_of(&only) => Some(only),
                    _ => None,
                };
                match equal.or_else(similar) {
                    Some(group) => {
                        let group = &mut groups[group];
                        group.cells.push((result, cell));
                        group.place = group.place.min((result, at));
                    }
                    None => {
                        by_key.entry(key).or_default().push(groups.len());
                        by_bare_key.entry(bare).or_default().push(groups.len());
                        groups.push(Group { cells: vec![(result, cell)], place: (result, at) });
                    }
                }
            }
        }
    }
    groups.sort_by_key(|group| group.place);
    groups
}
