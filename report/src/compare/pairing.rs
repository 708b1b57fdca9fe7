//! Matches the cells of two sides.

use std::collections::{HashMap, HashSet};

use peerpath_paths::PathName;

use super::key::Key;
use super::side::Group;
use crate::saved::Outcome;

/// Two matched cells, one of each side, or one cell without a counterpart.
#[derive(Clone, Copy)]
pub(super) struct Matched<'a> {
    pub(super) base: Option<&'a Group<'a>>,
    pub(super) new: Option<&'a Group<'a>>,
    /// Property in which the cells differ; `None` if all properties are equal.
    pub(super) differ_in: Option<&'static str>,
}

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
pub(super) fn pair<'a>(base: &'a [Group<'a>], new: &'a [Group<'a>]) -> Vec<Matched<'a>> {
    let mut matched = Vec::new();
    let mut waiting: HashMap<Key, Vec<usize>> = HashMap::new();
    for (at, group) in base.iter().enumerate().rev() {
        waiting.entry(Key::of(group.example())).or_default().push(at);
    }
    let mut left: Vec<&Group<'a>> = Vec::new();
    for group in new {
        match waiting.get_mut(&Key::of(group.example())).and_then(Vec::pop) {
            Some(at) => matched.push(Matched { base: Some(&base[at]), new: Some(group), differ_in: None }),
            None => left.push(group),
        }
    }
    let mut gone: Vec<usize> = waiting.into_values().flatten().collect();
    gone.sort_unstable();
    let mut gone: Vec<&Group<'a>> = gone.into_iter().map(|at| &base[at]).collect();
    let did_not_run = |pair: (&Group<'_>, &Group<'_>)| {
        let did_not_pass = |group: &Group<'_>| group.example().outcome != Outcome::Passed;
        did_not_pass(pair.0) || did_not_pass(pair.1)
    };
    match_relaxed(&mut gone, &mut left, None, Key::remove_what_only_passed_cells_record, did_not_run, &mut matched);
    let without_path = |key: &mut Key| {
        key.remove_what_only_passed_cells_record();
        key.path = PathName::Unknown;
    };
    match_relaxed(&mut gone, &mut left, None, without_path, did_not_run, &mut matched);
    for (what, relax) in RELAXATIONS {
        match_relaxed(&mut gone, &mut left, Some(what), relax, |_| true, &mut matched);
    }
    let only = |base, new| Matched { base, new, differ_in: None };
    matched.extend(gone.into_iter().map(|group| only(Some(group), None)));
    matched.extend(left.into_iter().map(|group| only(None, Some(group))));
    other_paths(base, &mut matched);
    matched
}

/// Matches a new cell without a counterpart with the cell of `base` that differs only in its path, although that has another
/// counterpart: the new results with the lone cell took another path than the other new results.
fn other_paths<'a>(base: &'a [Group<'a>], matched: &mut [Matched<'a>]) {
    let without_path = |group: &Group<'_>| {
        let mut key = Key::of(group.example());
        key.path = PathName::Unknown;
        key
    };
    let mut all: HashMap<Key, Option<&'a Group<'a>>> = HashMap::new();
    for group in base {
        all.entry(without_path(group)).and_modify(|only| *only = None).or_insert(Some(group));
    }
    let counterparts: HashMap<Key, &'a Group<'a>> = matched
        .iter()
        .filter_map(|matched| matched.base.zip(matched.new))
        .map(|(base, new)| (without_path(base), new))
        .collect();
    for lone in matched.iter_mut().filter(|matched| matched.base.is_none()) {
        let Some(group) = lone.new.filter(|group| group.example().outcome == Outcome::Passed) else { continue };
        let key = without_path(group);
        if counterparts.get(&key).is_some_and(|counterpart| !counterpart.shares_a_result_with(group))
            && let Some(Some(other)) = all.get(&key).copied()
        {
            (lone.base, lone.differ_in) = (Some(other), Some("path"));
        }
    }
}

/// Matches cells that are equal after `relax` if each list has exactly one such cell, and removes them from both lists.
fn match_relaxed<'a>(
    gone: &mut Vec<&'a Group<'a>>,
    left: &mut Vec<&'a Group<'a>>,
    differ_in: Option<&'static str>,
    relax: impl Fn(&mut Key),
    fit: impl Fn((&Group<'_>, &Group<'_>)) -> bool,
    matched: &mut Vec<Matched<'a>>,
) {
    let loose = |group: &Group<'_>| {
        let mut key = Key::of(group.example());
        relax(&mut key);
        key
    };
    let mut candidates: HashMap<Key, (Vec<usize>, Vec<usize>)> = HashMap::new();
    for (at, group) in gone.iter().enumerate() {
        candidates.entry(loose(group)).or_default().0.push(at);
    }
    for (at, group) in left.iter().enumerate() {
        candidates.entry(loose(group)).or_default().1.push(at);
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
    let keep = |list: &mut Vec<&'a Group<'a>>, remove: HashSet<usize>| {
        let mut at = 0..;
        list.retain(|_| at.next().is_some_and(|at| !remove.contains(&at)));
    };
    keep(gone, before);
    keep(left, now);
}
