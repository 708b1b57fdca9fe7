//! Table of all pairs: a row per source, a column per target.

use peerpath_paths::PathName;

use super::describe;
use super::pair::{Baselines, Pair};
use crate::saved::{Outcome, SavedCell};
use crate::units;

/// Maximum number of visible rows; the page folds the rest.
const SHOWN_ROWS: usize = 60;
/// Maximum number of rows on the page.
const MAX_ROWS: usize = 400;
/// Maximum number of columns on the page.
const MAX_COLUMNS: usize = 12;

/// Table entry of one pair.
pub(crate) struct Entry {
    /// Number of the pair, for the link to its summary.
    pub(crate) number: usize,
    pub(crate) path: PathName,
    /// Text below the path: the best value, or the outcome.
    pub(crate) text: String,
    /// Length of the bar in percent: throughput relative to the highest throughput of the page.
    pub(crate) bar: Option<u32>,
    /// What disturbed the repeats of the best value.
    pub(crate) disturbed: Option<String>,
}

/// Table row of one source of one run.
pub(crate) struct Row {
    pub(crate) run: String,
    pub(crate) source: String,
    pub(crate) entries: Vec<Vec<Entry>>,
}

/// The whole table.
#[derive(Default)]
pub(crate) struct Matrix {
    pub(crate) targets: Vec<String>,
    pub(crate) shown: Vec<Row>,
    pub(crate) folded: Vec<Row>,
    pub(crate) left_out: usize,
    /// Number of targets beyond the limit of columns.
    pub(crate) targets_left_out: usize,
    /// Whether some values are latencies.
    pub(crate) has_times: bool,
    /// Whether some values are followed by their ratio to host memory.
    pub(crate) has_shares: bool,
    /// Whether some values are throughputs.
    pub(crate) has_rates: bool,
}

pub(crate) fn matrix<'a>(labels: &[String], pairs: &[Pair<'a>], baselines: &Baselines<'a>) -> Matrix {
    let mut targets: Vec<String> = Vec::new();
    let mut rows: Vec<(usize, String, Vec<&Pair<'a>>)> = Vec::new();
    for pair in pairs {
        let (source, target) = (describe::short_source(pair.source()), describe::short_target(pair.target()));
        if !targets.contains(&target) {
            targets.push(target);
        }
        // Pairs are ordered by run, so the row is near the end.
        match rows.iter_mut().rev().take_while(|row| row.0 == pair.run).find(|row| row.1 == source) {
            Some(row) => row.2.push(pair),
            None => rows.push((pair.run, source, vec![pair])),
        }
    }
    let targets_left_out = targets.len().saturating_sub(MAX_COLUMNS);
    targets.truncate(MAX_COLUMNS);
    let high = pairs.iter().filter_map(|pair| fastest(pair)?.throughput).fold(0.0, f64::max);
    let left_out = rows.len().saturating_sub(MAX_ROWS);
    let mut matrix = Matrix { targets_left_out, left_out, has_rates: high > 0.0, ..Matrix::default() };
    for (run, source, members) in rows.into_iter().take(MAX_ROWS) {
        let entries = targets.iter().map(|target| {
            let mine = members.iter().filter(|pair| describe::short_target(pair.target()) == *target);
            mine.map(|pair| {
                let best = fastest(pair);
                matrix.has_shares |= best.is_some_and(|cell| share(pair, cell, baselines).is_some());
                matrix.has_times |= best.is_some_and(|cell| cell.throughput.is_none());
                let rate = best.and_then(|cell| cell.throughput).filter(|rate| *rate > 0.0);
                let bar = rate.map(|rate| (rate / high * 100.0).round().clamp(1.0, 100.0) as u32);
                let disturbed = best.and_then(describe::disturbances);
                Entry { number: pair.number, path: pair.path, text: text(pair, best, baselines), bar, disturbed }
            })
            .collect()
        });
        let row = Row { run: labels[run].clone(), source, entries: entries.collect() };
        let list = if matrix.shown.len() < SHOWN_ROWS { &mut matrix.shown } else { &mut matrix.folded };
        list.push(row);
    }
    matrix.targets = targets;
    matrix
}

/// Cell with the highest throughput. Without throughput, the largest cell with the lowest median latency.
fn fastest<'a>(pair: &Pair<'a>) -> Option<&'a SavedCell> {
    let moved = pair.cells.iter().copied().filter(|cell| cell.outcome == Outcome::Passed && cell.transfers());
    let weight = |cell: &SavedCell| {
        (cell.throughput.unwrap_or(0.0), cell.size_bytes.unwrap_or(0) as f64, -cell.p50().unwrap_or(f64::INFINITY))
    };
    moved.max_by(|one, other| weight(one).partial_cmp(&weight(other)).unwrap_or(std::cmp::Ordering::Equal))
}

/// Speed relative to host memory. `None` for emulated devices, because emulation distorts the ratio.
fn share<'a>(pair: &Pair<'a>, cell: &'a SavedCell, baselines: &Baselines<'a>) -> Option<f64> {
    baselines.share(pair.run, cell).filter(|_| !pair.emulated)
}

fn text<'a>(pair: &Pair<'a>, best: Option<&'a SavedCell>, baselines: &Baselines<'a>) -> String {
    let Some(cell) = best.filter(|_| pair.path != PathName::Refused) else {
        let stopped = pair.cells.iter().find(|cell| cell.outcome != Outcome::Passed);
        let cause = pair
            .cells
            .iter()
            .find_map(|cell| cell.cause.as_deref())
            .map_or(String::new(), |cause| format!(": {cause}"));
        return match stopped {
            Some(cell) => format!("{}{cause}", cell.outcome.as_str()),
            None if pair.path == PathName::Refused => format!("as requested{cause}"),
            None => "registered only".to_owned(),
        };
    };
    let share = share(pair, cell, baselines).map_or_else(String::new, |share| format!(" ({:.0} %)", share * 100.0));
    let value = match (cell.throughput, cell.p50()) {
        (Some(rate), _) => units::bytes_per_second(rate),
        (None, Some(time)) => units::nanoseconds(time),
        (None, None) => "no value".to_owned(),
    };
    let failed = pair.count(Outcome::Failed);
    let failed = if failed > 0 { format!("; {failed} failed") } else { String::new() };
    let ceiling = cell.percent_of_ceiling().map_or_else(String::new, |percent| format!(", {percent:.0} % of ceiling"));
    format!("{value}{share}{ceiling}, {}{failed}", describe::operation_with_settings(cell))
}
