//! The summary at the top of a document: verdict, host, and the figures that matter.

use std::collections::BTreeSet;

use peerpath_paths::PathName;

use super::describe;
use super::pair::{Baselines, Pair};
use super::pair_summary::PairSummary;
use super::reasons::without_numbers;
use super::{Document, html};
use crate::compare;
use crate::saved::{Outcome, Saved, SavedCell};
use crate::units;

/// Maximum number of pairs in a summary that shows all of them.
const ALL_PAIRS: usize = 6;
/// Number of pairs in the summary of a document with more than [`ALL_PAIRS`]; the matrix has the others.
const SOME_PAIRS: usize = 3;
/// Maximum number of names of a fact, e.g. of host names.
const MAX_NAMES: usize = 4;
/// Maximum number of different disturbances.
const MAX_DISTURBANCES: usize = 5;

/// The summary of a document.
pub(crate) struct Summary {
    /// `passed`, `waived`, `failed`, or `unknown` without a cell that has an outcome.
    pub(crate) verdict: &'static str,
    /// The number of results and cells, by outcome.
    pub(crate) counts: String,
    /// Verdict and counts of a comparison.
    pub(crate) comparison: Option<Compared>,
    /// Host, kernel, date and devices, as name and value.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// How many pairs took the predicted path; `None` with fewer than two observed and predicted paths.
    pub(crate) predicted: Option<String>,
    pub(crate) pairs: Vec<PairFigures>,
    /// Number of pairs that only the matrix shows.
    pub(crate) more_pairs: usize,
    /// What disturbed repeats, with the number of cells. Each is a sentence without a full stop.
    pub(crate) disturbed: Vec<String>,
}

/// Verdict and counts of a comparison.
pub(crate) struct Compared {
    pub(crate) base: String,
    pub(crate) verdict: &'static str,
    pub(crate) counts: String,
}

/// A pair with its main figures.
pub(crate) struct PairFigures {
    /// Index among the pairs of the document.
    pub(crate) number: usize,
    /// Name of the result, if the document has several.
    pub(crate) result: Option<String>,
    pub(crate) subject: String,
    pub(crate) path: PathName,
    /// How certain the path is, e.g. `observed, as predicted`.
    pub(crate) certainty: String,
    /// Number of cells by outcome.
    pub(crate) counts: String,
    /// Outcome of the worst cell that ran.
    pub(crate) verdict: &'static str,
    pub(crate) figures: Vec<MainFigure>,
}

/// A main figure of a pair.
pub(crate) struct MainFigure {
    /// The operation with its settings, e.g. `1 MiB write into source, depth 16`.
    pub(crate) what: String,
    /// The value, e.g. `37.0 MB/s` or `85.6 us (p50)`.
    pub(crate) value: String,
    /// Ratio to the same cell on host memory, e.g. `91 % of host memory (40.6 MB/s)`. `None` without such a cell.
    pub(crate) baseline: Option<String>,
    /// Ratio to the ceiling of the path, e.g. `62 % of ceiling (15.8 GB/s)`.
    pub(crate) ceiling: Option<String>,
    /// The slowest hop of the path.
    pub(crate) limited_by: Option<String>,
    /// Whether the devices are emulated: value and ratio then do not describe hardware.
    pub(crate) emulated: bool,
    /// What disturbed the repeats of the cell.
    pub(crate) disturbed: Option<String>,
}

impl MainFigure {
    /// The figure in one line of text.
    pub(crate) fn text(&self) -> String {
        let emulated = self.emulated.then(|| "emulated".to_owned());
        let disturbed = self.disturbed.as_ref().map(|why| format!("disturbed: {why}"));
        let value = format!("{}: {}", self.what, self.value);
        let parts = [Some(value), self.baseline.clone(), self.ceiling.clone(), emulated, disturbed];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

pub(crate) fn summary<'a>(document: &Document, pairs: &[Pair<'a>], baselines: &Baselines<'a>) -> Summary {
    let compared = document.comparison.as_ref().map(|with_base| Compared {
        base: with_base.base.clone(),
        verdict: with_base.comparison.verdict.as_str(),
        counts: compare::summary(&with_base.comparison),
    });
    let (pairs_shown, more_pairs) = shown(pairs, baselines);
    Summary {
        verdict: verdict(document.saved.iter().flat_map(|saved| &saved.cells)),
        counts: document.summary(),
        comparison: compared,
        facts: facts(&document.saved),
        predicted: predicted(pairs),
        pairs: pairs_shown.iter().map(|pair| pair_figures(pair, &document.labels, baselines)).collect(),
        more_pairs,
        disturbed: disturbed(&document.saved),
    }
}

/// The verdict on cells, as the exit code of `run` states it: waived cells count only if no cell passed or failed.
fn verdict<'a>(cells: impl IntoIterator<Item = &'a SavedCell>) -> &'static str {
    let outcomes: BTreeSet<Outcome> = cells.into_iter().map(|cell| cell.outcome).collect();
    let order = [Outcome::Failed, Outcome::Passed, Outcome::Waived];
    order.into_iter().find(|outcome| outcomes.contains(outcome)).unwrap_or(Outcome::Unknown).as_str()
}

fn facts(saved: &[Saved]) -> Vec<(&'static str, String)> {
    let list = |pick: &dyn Fn(&Saved) -> Option<String>| {
        let mut values: Vec<String> = Vec::new();
        for value in saved.iter().map(|saved| pick(saved).unwrap_or_else(|| "not recorded".to_owned())) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        let more = values.len().saturating_sub(MAX_NAMES);
        values.truncate(MAX_NAMES);
        let text = values.join("; ");
        if more > 0 { format!("{text} and {more} more") } else { text }
    };
    if saved.is_empty() {
        return Vec::new();
    }
    let mut dates: Vec<String> =
        saved.iter().flat_map(|saved| saved.run.started_at.as_deref()).map(readable_time).collect();
    dates.sort();
    dates.dedup();
    let date = match dates.as_slice() {
        [] => "not recorded".to_owned(),
        [only] => only.clone(),
        [first, .., last] => format!("{first} to {last}"),
    };
    vec![
        ("host", list(&|saved| saved.environment.hostname.clone())),
        ("date", date),
        ("kernel", list(&|saved| saved.environment.kernel.as_ref().map(|kernel| format!("Linux {kernel}")))),
        ("devices", list(&|saved| Some(html::devices(saved)))),
    ]
}

/// A time of RFC 3339 in UTC without its `T` and `Z`; other texts as they are.
fn readable_time(time: &str) -> String {
    match time.strip_suffix('Z').and_then(|time| time.split_once('T')) {
        Some((date, time)) => format!("{date} {time} UTC"),
        None => time.to_owned(),
    }
}

/// Whether a pair took the predicted path. `None` for a baseline, and if one of the paths is not known.
fn as_predicted(pair: &Pair<'_>) -> Option<bool> {
    let path = &pair.example().path;
    let predicted = path.predicted.filter(|predicted| *predicted != PathName::Unknown)?;
    let observed = path.observed_path().filter(|_| !is_baseline(pair) && !pair.never_began())?;
    Some(observed == predicted)
}

fn is_baseline(pair: &Pair<'_>) -> bool {
    matches!(pair.path, PathName::HostMemory | PathName::Staged)
}

fn predicted(pairs: &[Pair<'_>]) -> Option<String> {
    let known: Vec<bool> = pairs.iter().filter_map(as_predicted).collect();
    let hits = known.iter().filter(|hit| **hit).count();
    // A single pair states it itself.
    (known.len() > 1).then(|| format!("{hits} of {} observed paths are as predicted", known.len()))
}

/// The pairs of the summary: failed ones first, then unpredicted ones. Host memory is the baseline of the others, so it appears
/// only without them. Pairs with a ratio to host memory are next. Returns the number of other pairs too.
fn shown<'p, 'a>(pairs: &'p [Pair<'a>], baselines: &Baselines<'a>) -> (Vec<&'p Pair<'a>>, usize) {
    let is_host = |pair: &Pair<'_>| pair.path == PathName::HostMemory;
    let all_host = pairs.iter().all(is_host);
    let mut shown: Vec<_> = pairs.iter().filter(|pair| all_host || !is_host(pair)).collect();
    if shown.len() <= ALL_PAIRS {
        return (shown, 0);
    }
    let has_ratio = |pair: &Pair<'a>| main_cells(pair).iter().any(|cell| baselines.of_cell(pair.run, cell).is_some());
    shown.sort_by_key(|pair| {
        (
            pair.count(Outcome::Failed) == 0,
            as_predicted(pair) != Some(false),
            !has_ratio(pair),
            main_cells(pair).is_empty(),
            is_baseline(pair),
        )
    });
    let more = shown.len() - SOME_PAIRS;
    shown.truncate(SOME_PAIRS);
    (shown, more)
}

fn pair_figures<'a>(pair: &Pair<'a>, labels: &[String], baselines: &Baselines<'a>) -> PairFigures {
    let PairSummary { subject, certainty, counts, .. } = PairSummary::of(pair, baselines);
    let figures = main_cells(pair).into_iter().filter_map(|cell| figure(pair, cell, baselines)).collect();
    PairFigures {
        number: pair.number,
        result: (labels.len() > 1).then(|| labels[pair.run].clone()),
        subject,
        path: pair.path,
        certainty,
        counts,
        verdict: verdict(pair.cells.iter().copied()),
        figures,
    }
}

/// The cells of the main figures: throughput of the largest operation in each direction, and latency of the smallest one.
fn main_cells<'a>(pair: &Pair<'a>) -> Vec<&'a SavedCell> {
    if pair.path == PathName::Refused {
        return Vec::new();
    }
    let passed = || pair.cells.iter().copied().filter(|cell| cell.outcome == Outcome::Passed);
    let plain = |cell: &&SavedCell| cell.offered_operations_per_s.is_none();
    let largest = |direction: &str| {
        let rates = passed().filter(plain).filter(|cell| cell.direction.as_deref() == Some(direction));
        rates
            .filter(|cell| cell.throughput.is_some_and(|rate| rate > 0.0))
            .max_by(|one, other| rate_weight(one).partial_cmp(&rate_weight(other)).unwrap_or(std::cmp::Ordering::Equal))
    };
    let smallest = |wanted: &dyn Fn(&SavedCell) -> bool| {
        let times = passed().filter(plain).filter(|cell| wanted(cell) && cell.throughput.is_none());
        times
            .filter(|cell| cell.p50().is_some())
            .min_by(|one, other| time_weight(one).partial_cmp(&time_weight(other)).unwrap_or(std::cmp::Ordering::Equal))
    };
    // Without transfers, the steps that make the source accessible.
    let latency = smallest(&SavedCell::transfers).or_else(|| smallest(&|_| true));
    [largest("into_source"), largest("out_of_source"), latency].into_iter().flatten().collect()
}

/// Prefers one direction, one range as the baseline has, writes and reads over messages, large operations, and high rates.
fn rate_weight(cell: &SavedCell) -> (bool, bool, bool, u64, f64) {
    let plain = (!cell.bidirectional, describe::range_count(cell) == 1, cell.op != "send");
    (plain.0, plain.1, plain.2, cell.size_bytes.unwrap_or(0), cell.throughput.unwrap_or(0.0))
}

/// Prefers small operations, then the operation that writes into the source, one outstanding operation, and low times.
fn time_weight(cell: &SavedCell) -> (bool, u64, bool, u64, f64) {
    let into = cell.direction.as_deref() == Some("into_source");
    let (size, depth) = (cell.size_bytes.unwrap_or(u64::MAX), cell.depth.unwrap_or(1));
    (describe::range_count(cell) != 1, size, !into, depth, cell.p50().unwrap_or(f64::INFINITY))
}

fn figure<'a>(pair: &Pair<'a>, cell: &'a SavedCell, baselines: &Baselines<'a>) -> Option<MainFigure> {
    let baseline = baselines.of_cell(pair.run, cell);
    let (own, base, text): (f64, Option<f64>, fn(f64) -> String) = match cell.throughput {
        Some(rate) => (rate, baseline.and_then(|cell| cell.throughput), units::bytes_per_second),
        None => (cell.p50()?, baseline.and_then(SavedCell::p50), units::nanoseconds),
    };
    let base = base.filter(|base| *base > 0.0);
    let kind = if cell.throughput.is_some() { "" } else { " (p50)" };
    let mode = if cell.throughput.is_some() || cell.mode == "completion" || cell.mode.is_empty() {
        String::new()
    } else {
        format!(", {}", cell.mode)
    };
    let percent = cell.percent_of_ceiling().zip(cell.ceiling.as_ref());
    Some(MainFigure {
        what: format!("{}{mode}", describe::operation_with_settings(cell)),
        value: format!("{}{kind}", text(own)),
        baseline: base.map(|base| format!("{:.0} % of host memory ({})", own / base * 100.0, text(base))),
        ceiling: percent.map(|(percent, ceiling)| {
            format!("{percent:.0} % of ceiling ({})", units::bytes_per_second(ceiling.bytes_per_s))
        }),
        limited_by: cell.ceiling.as_ref().and_then(|ceiling| ceiling.limited_by.clone()),
        emulated: pair.emulated,
        disturbed: describe::disturbances(cell),
    })
}

/// Disturbances that differ only in numbers count as one.
fn disturbed(saved: &[Saved]) -> Vec<String> {
    let mut found: Vec<(Option<String>, String, usize)> = Vec::new();
    for cell in saved.iter().flat_map(|saved| &saved.cells) {
        let mut of_cell = BTreeSet::new();
        for (_, why) in cell.disturbances() {
            let key = without_numbers(&Some(why.to_owned()));
            if !of_cell.insert(key.clone()) {
                continue;
            }
            match found.iter_mut().find(|(known, ..)| *known == key) {
                Some((.., count)) => *count += 1,
                None => found.push((key, why.to_owned(), 1)),
            }
        }
    }
    let text =
        |(_, why, count): &(_, String, usize)| format!("{}: e.g. {why}", describe::plural(*count, "disturbed cell"));
    found.iter().take(MAX_DISTURBANCES).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(cells: &serde_json::Value) -> Saved {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("result.json");
        let environment = serde_json::json!({"hostname": "lab-7", "kernel": "7.2.12", "emulated": false});
        let result = serde_json::json!({
            "schema_version": 2, "run": {"started_at": "2026-01-02T03:04:05Z"}, "environment": environment, "cells": cells
        });
        std::fs::write(&file, result.to_string()).unwrap();
        crate::saved::read(&file).unwrap()
    }

    fn of(cells: &serde_json::Value) -> Summary {
        let saved = vec![saved(cells)];
        let document = Document { labels: vec!["a".to_owned()], saved, unreadable: Vec::new(), comparison: None };
        summary(&document, &document.pairs(), &document.baselines())
    }

    fn cell(kind: &str, path: &str, op: &str, size: u64, figure: (&str, f64)) -> serde_json::Value {
        let direction = if op == "read" { "out_of_source" } else { "into_source" };
        let mut cell = serde_json::json!({
            "source": {"kind": kind}, "target": {"kind": "verbs", "device": "mlx5_0"},
            "path": {"predicted": path, "observed": path}, "op": op, "direction": direction, "size_bytes": size,
            "depth": 1, "outcome": "passed"
        });
        if figure.0 == "p50" {
            (cell["mode"], cell["latency_ns"]) = ("completion".into(), serde_json::json!({"p50": figure.1}));
        } else {
            (cell["mode"], cell["throughput_bytes_per_s"]) = ("bandwidth".into(), figure.1.into());
        }
        cell
    }

    #[test]
    fn states_largest_throughput_and_smallest_latency_with_their_ratios() {
        let mut cells = Vec::new();
        for (kind, path, scale) in [("vfio", "bus-address", 0.9), ("host", "host-memory", 1.0)] {
            for (size, rate) in [(4096, 1e9), (1 << 20, 10e9)] {
                cells.push(cell(kind, path, "write", size, ("rate", rate * scale)));
                cells.push(cell(kind, path, "read", size, ("rate", rate * scale * 0.5)));
                cells.push(cell(kind, path, "write", size, ("p50", 2000.0 / scale)));
            }
        }
        cells.push(cell("vfio", "bus-address", "send", 1 << 20, ("rate", 11e9)));
        cells[3]["ceiling"] = serde_json::json!({"bytes_per_s": 12e9, "limited_by": "link a - b"});
        cells[3]["repeats"] = serde_json::json!([{"disturbed": ["the hypervisor took 12 % of the CPU time"]}]);
        let summary = of(&serde_json::Value::Array(cells));
        assert_eq!(summary.verdict, "passed");
        assert_eq!(summary.facts[..2], [("host", "lab-7".to_owned()), ("date", "2026-01-02 03:04:05 UTC".to_owned())]);
        assert_eq!((summary.predicted, summary.pairs[0].certainty.as_str()), (None, "observed, as predicted"));
        assert_eq!(summary.pairs.len(), 1, "host memory is the baseline, not a pair of its own");
        let figures: Vec<_> = summary.pairs[0].figures.iter().map(MainFigure::text).collect();
        assert_eq!(
            figures,
            [
                "1 MiB write into source: 9.00 GB/s; 90 % of host memory (10.0 GB/s); 75 % of ceiling (12.0 GB/s); \
                 disturbed: repeat 1: the hypervisor took 12 % of the CPU time",
                "1 MiB read out of source: 4.50 GB/s; 90 % of host memory (5.00 GB/s)",
                "4 KiB write into source: 2.22 us (p50); 111 % of host memory (2.00 us)",
            ]
        );
        assert_eq!(summary.disturbed, ["1 disturbed cell: e.g. the hypervisor took 12 % of the CPU time"]);
    }

    #[test]
    fn verdict_is_that_of_the_exit_code() {
        let with = |outcomes: &[&str]| {
            let cells = outcomes.iter().map(|outcome| {
                let mut cell = cell("vfio", "bus-address", "write", 4096, ("p50", 1000.0));
                cell["outcome"] = (*outcome).into();
                cell
            });
            of(&cells.collect()).verdict
        };
        assert_eq!(with(&["passed", "waived", "failed"]), "failed");
        assert_eq!(with(&["waived", "passed"]), "passed");
        assert_eq!(with(&["waived"]), "waived");
        assert_eq!([with(&[]), with(&["?"])], ["unknown", "unknown"]);
    }

    #[test]
    fn failed_and_unpredicted_pairs_come_first() {
        let mut cells: Vec<_> = (0..9)
            .map(|at| {
                let mut cell = cell("vfio", "bus-address", "write", 4096, ("p50", 1000.0));
                cell["source"]["bar"] = at.into();
                cell["source"]["bdf"] = "0000:03:00.0".into();
                cell
            })
            .collect();
        cells[7]["outcome"] = "failed".into();
        cells[8]["path"]["predicted"] = "host-bridge-bypass".into();
        let summary = of(&serde_json::Value::Array(cells));
        let numbers: Vec<_> = summary.pairs.iter().map(|pair| pair.number).collect();
        assert_eq!((numbers, summary.more_pairs), (vec![7, 8, 0], 6));
        assert_eq!(summary.predicted.as_deref(), Some("8 of 9 observed paths are as predicted"));
    }

    #[test]
    fn a_summary_without_a_baseline_has_no_ratio() {
        let summary = of(&serde_json::json!([cell("vfio", "bus-address", "write", 4096, ("rate", 1e9))]));
        assert_eq!(summary.pairs[0].figures[0].text(), "4 KiB write into source: 1.00 GB/s");
        assert!(of(&serde_json::json!([])).pairs.is_empty());
    }
}
