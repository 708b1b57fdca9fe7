//! Matches the cells of two results.

use std::collections::{HashMap, HashSet};

use peerpath_paths::PathName;

use super::Matched;
use super::key::Key;
use crate::saved::{Outcome, SavedCell};

/// A property in which two matched cells may differ: its name, and a function that removes it from a key.
type Relaxation = (&'static str, fn(&mut Key));

const RELAXATIONS: [Relaxation; 5] = [
    ("path", |key| key.path = PathName::Unknown),
    ("mechanism", |key| key.mechanism = None),
    ("depth", |key| key.depth = None),
    ("size", |key| {
        key.size_bytes = None;
        key.source.ranges.clear();
    }),
    ("op", |key| key.op.clear()),
];

/// Matches equal cells first, in the order of `new`; then cells that differ in one property; then lists cells without a
/// counterpart.
pub(super) fn pair<'a>(base: &'a [SavedCell], new: &'a [SavedCell]) -> Vec<Matched<'a>> {
    let mut matched = Vec::new();
    let mut waiting: HashMap<Key, Vec<usize>> = HashMap::new();
    for (at, cell) in base.iter().enumerate().rev() {
        waiting.entry(Key::of(cell)).or_default().push(at);
    }
    let mut left: Vec<&SavedCell> = Vec::new();
    for cell in new {
        match waiting.get_mut(&Key::of(cell)).and_then(Vec::pop) {
            Some(at) => matched.push(Matched { base: Some(&base[at]), new: Some(cell), differ_in: None }),
            None => left.push(cell),
        }
    }
    let mut gone: Vec<usize> = waiting.into_values().flatten().collect();
    gone.sort_unstable();
    let mut gone: Vec<&SavedCell> = gone.into_iter().map(|at| &base[at]).collect();
    // A cell that did not pass records neither mechanism nor ranges, and may record no path.
    let did_not_run =
        |pair: (&SavedCell, &SavedCell)| pair.0.outcome != Outcome::Passed || pair.1.outcome != Outcome::Passed;
    let bare = |key: &mut Key| {
        key.path = PathName::Unknown;
        key.mechanism = None;
        key.source.ranges.clear();
    };
    match_relaxed(&mut gone, &mut left, None, bare, did_not_run, &mut matched);
    for (what, relax) in RELAXATIONS {
        match_relaxed(&mut gone, &mut left, Some(what), relax, |_| true, &mut matched);
    }
    let only = |base, new| Matched { base, new, differ_in: None };
    matched.extend(gone.into_iter().map(|cell| only(Some(cell), None)));
    matched.extend(left.into_iter().map(|cell| only(None, Some(cell))));
    matched
}

/// Matches cells that are equal after `relax` if each list has exactly one such cell, and removes them from both lists.
fn match_relaxed<'a>(
    gone: &mut Vec<&'a SavedCell>,
    left: &mut Vec<&'a SavedCell>,
    differ_in: Option<&'static str>,
    relax: impl Fn(&mut Key),
    fit: impl Fn((&SavedCell, &SavedCell)) -> bool,
    matched: &mut Vec<Matched<'a>>,
) {
    let loose = |cell: &SavedCell| {
        let mut key = Key::of(cell);
        relax(&mut key);
        key
    };
    let mut candidates: HashMap<Key, (Vec<usize>, Vec<usize>)> = HashMap::new();
    for (at, cell) in gone.iter().enumerate() {
        candidates.entry(loose(cell)).or_default().0.push(at);
    }
    for (at, cell) in left.iter().enumerate() {
        candidates.entry(loose(cell)).or_default().1.push(at);
    }
    let clear = candidates.into_values().filter_map(|(before, now)| match (before.as_slice(), now.as_slice()) {
        (&[before], &[now]) if fit((gone[before], left[now])) => Some((before, now)),
        _ => None,
    });
    let mut pairs: Vec<(usize, usize)> = clear.collect();
    pairs.sort_unstable_by_key(|pair| pair.1);
    matched.extend(pairs.iter().map(|&(before, now)| Matched {
        base: Some(gone[before]),
        new: Some(left[now]),
        differ_in,
    }));
    let (before, now): (HashSet<usize>, HashSet<usize>) = pairs.into_iter().unzip();
    let keep = |list: &mut Vec<&'a SavedCell>, remove: HashSet<usize>| {
        let mut at = 0..;
        list.retain(|_| at.next().is_some_and(|at| !remove.contains(&at)));
    };
    keep(gone, before);
    keep(left, now);
}
