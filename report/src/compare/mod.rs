//! Compares results cell by cell.
//!
//! Cells are matched by their properties (source, target, path, operation, size and so on), not by their order or identifier.
//! See [`compare`].
//!
//! # Method
//! A run repeats each cell. The observations of a cell are the figures of its repeats: median latency, p99 latency (of repeats
//! with at least 100 samples) and throughput, as logarithms. Samples within a repeat are not observations: they say nothing
//! about the variation from repeat to repeat.
//!
//! - **Variance.** Few repeats estimate a variance badly. The variance of each cell is shrunk towards the typical variance of
//!   this metric over all cells of the comparison, with the weight that the data support: the moderated t test of Smyth (2004),
//!   "Linear models and empirical Bayes methods for assessing differential expression in microarray experiments". In contrast
//!   to Smyth, the result is never below the median of the variances. Otherwise a cell with two modes, whose repeats are by
//!   chance all in one mode before and all in the other one now, would have almost no variance and a certain change.
//! - **Better, worse.** The p values of all tests of the comparison are adjusted by Benjamini and Hochberg (1995). A change
//!   counts if its adjusted p value is at most 1 % and the estimated change is larger than the threshold.
//! - **Same.** Both one-sided tests of equivalence reject at 5 % (Schuirmann 1987): the 90 % interval of the change is within
//!   the threshold.
//! - **Inconclusive.** Everything else. [`Row::observations_needed`] is the number of repeats that would probably decide.
//!
//! A rank test would assume no distribution, but cannot find a change in so few repeats: there are 20 ways to choose 3 of 6
//! repeats and 252 ways to choose 5 of 10, so two-sided p values are at least 2/20 = 0.1 and 2/252 = 0.0079. With 12 tests, a
//! single change passes Benjamini-Hochberg at 1 % only with a p value of at most 0.00083.
//!
//! **Several results.** With at least two results on each side, the unit is the result: each result contributes one observation
//! per cell, the median of its repeats. Otherwise the repeats of all results of a side are observations.
//!
//! # Limits
//! - Repeats of one run share its conditions, e.g. placement of memory and state of the host. Only several results per side
//!   show that variation, and results of one side each do not: a change between two results is a change between two runs,
//!   whatever its cause.
//! - A drift that both runs have cancels out, but makes the verdicts inconclusive. A drift in one run only is a change.
//! - A cell with two modes, in a comparison in which most other cells have one, is judged wrongly if all repeats of a side are
//!   in one mode and all of the other side in the other one. With equally frequent modes that happens in 3 % of comparisons
//!   with 3 repeats per side, and in 0.2 % with 5. The same applies to comparisons of one or two cells, which have no typical
//!   variance. If half of the cells have two modes, 1.5 % of all cells are judged wrongly with 3 repeats.
//! - `same` is wrong for up to 5 % of the cells whose true change is just the threshold.

mod change;
mod comparable;
mod differences;
mod distribution;
mod format;
mod judge;
mod key;
mod moderated;
mod pairing;
mod side;

use serde::Serialize;

use crate::saved::{Saved, SavedCell};
use change::Changes;
use differences::Names;
use judge::Judged;

pub use comparable::CompareError;
pub use format::{format_change, format_interval, format_value, metric_name, rows_by_severity, summary};

/// The method in a few sentences, for the reader of a comparison.
pub const METHOD: &str = "\
    Observations are the repeats of a cell, or with several results on each side the medians of the results. A row is \
    better or worse if its change is larger than the threshold and significant: a moderated t test of the logarithms \
    (Smyth 2004), with p values adjusted over all rows to 1 % false discoveries (Benjamini-Hochberg). It is the same if \
    the 90 % interval of the change is within the threshold (two one-sided tests at 5 %), and inconclusive otherwise. Rank \
    tests could not decide: their two-sided p values are at least 0.1 with 3 and 0.0079 with 5 repeats per side. Repeats \
    of one run do not show the variation from run to run: name several results per side to include it.";

/// Settings of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Largest change that is not reported as better or worse, in percent.
    pub threshold_percent: f64,
    /// Compare results and cells even if they are not comparable. The rows and notes then say why they are not.
    pub force: bool,
}

/// Verdict on a cell, or on two results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The change is within the threshold, including its uncertainty.
    Same,
    /// Faster, or the cell failed before and passes now.
    Better,
    /// Slower, a less direct path, or the cell fails now.
    Worse,
    /// The repeats do not decide whether there is a change.
    Inconclusive,
    /// The cells or results cannot be compared.
    Incomparable,
}

impl Verdict {
    /// Name in JSON, e.g. `worse`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Inconclusive => "inconclusive",
            Self::Incomparable => "incomparable",
        }
    }
}

/// What one observation of a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A repeat of a cell.
    Repeat,
    /// A result: the median of its repeats.
    Result,
}

impl Unit {
    /// `repeat` or `result`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repeat => "repeat",
            Self::Result => "result",
        }
    }
}

/// One metric of one cell on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the cell: its properties, separated by slashes.
    pub key: String,
    /// `latency_p50_ns`, `latency_p99_ns` or `throughput_bytes_per_s`. If no metric is compared: `outcome`, or `path` if the
    /// path changed.
    pub metric: &'static str,
    /// Geometric mean of the observations of the base side, in the unit that the name of the metric ends with.
    pub base: Option<f64>,
    /// Geometric mean of the observations of the new side.
    pub new: Option<f64>,
    /// Change, in percent of the base value.
    pub change_percent: Option<f64>,
    /// Bounds of the 90 % interval of the change, in percent. `None` if a side has fewer than two observations.
    pub ci_percent: Option<[f64; 2]>,
    /// p value of the change, adjusted over all rows.
    pub adjusted_p: Option<f64>,
    /// Number of observations of the base side and of the new side: repeats or results, see [`Comparison::unit`].
    pub observations: Option<[usize; 2]>,
    /// Number of observations per side that would probably decide an inconclusive row. `None` if that is unknown, or over 100.
    pub observations_needed: Option<usize>,
    /// Verdict on the change.
    pub verdict: Verdict,
    /// Reason for the verdict, in a phrase.
    pub why: String,
}

/// The comparison of two sides.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Every compared metric of every cell of both sides.
    pub cells: Vec<Row>,
    /// `Worse` if any row is worse, otherwise `Better` if any is better, otherwise `Inconclusive` if any is inconclusive,
    /// otherwise `Same` if any is the same, otherwise `Incomparable`.
    pub verdict: Verdict,
    /// Largest change that does not count as better or worse, in percent.
    pub threshold_percent: f64,
    /// What one observation is.
    pub unit: Unit,
    /// How changes are judged: [`METHOD`].
    pub method: &'static str,
    /// Other differences between the runs, and remarks on the files.
    pub notes: Vec<String>,
}

/// Compares the results `new` with the earlier results `base`.
///
/// The module describes the method. Of the cells with the same properties in several results of a side, a failed one decides;
/// otherwise the figures of those that passed are compared.
///
/// # Errors
/// Returns an error if a side has no results. Also if [`Options::force`] is off and the results are not comparable with each
/// other: some are from emulated devices and some from hardware, some are from soft RDMA and some from hardware, the settings of
/// the connection, completion moderation or post list differ, or two results of a side are of the same run.
pub fn compare(base: &[&Saved], new: &[&Saved], options: Options) -> Result<Comparison, CompareError> {
    let (Some((first_base, other_base)), Some((first_new, other_new))) = (base.split_first(), new.split_first()) else {
        return Err(CompareError::NoResults);
    };
    let several = !other_base.is_empty() || !other_new.is_empty();
    let across = Names::of_sides(several);
    let mut checks = vec![comparable::check(&across, first_base, first_new)];
    let mut notes = differences::notes(&across, first_base, first_new);
    for (side, results) in [("base", base), ("new", new)] {
        for (at, other) in results.iter().enumerate().skip(1) {
            let names = Names::within(side, at);
            checks.push(comparable::check(&names, results[0], other));
            checks.extend(
                (0..at).map(|earlier| {
                    comparable::different_runs(&Names::pair(side, earlier, at), results[earlier], other)
                }),
            );
            notes.extend(differences::notes(&names, results[0], other));
        }
    }
    for (side, results) in [("base", base), ("new", new)] {
        for (at, saved) in results.iter().enumerate() {
            let name = if results.len() == 1 { format!("{side} result") } else { format!("{side} result {}", at + 1) };
            notes.extend(saved.remarks.iter().map(|line| format!("{name}: {line}")));
        }
        notes.extend(unsteady(side, results));
    }
    let errors: Vec<CompareError> = checks.into_iter().filter_map(Result::err).collect();
    if let (Some(error), false) = (errors.first(), options.force) {
        return Err(error.clone());
    }
    notes.splice(0..0, errors.iter().map(|error| format!("compared although the results are not comparable: {error}")));
    let unit = if base.len() > 1 && new.len() > 1 { Unit::Result } else { Unit::Repeat };
    let (base, new) = (side::groups(base), side::groups(new));
    let matches = pairing::pair(&base, &new);
    let judged = matches.iter().flat_map(|matched| judge::judge(matched, options, unit)).collect();
    let cells = rows(judged, options.threshold_percent, unit);
    let verdict = overall(&cells);
    Ok(Comparison { cells, verdict, threshold_percent: options.threshold_percent, unit, method: METHOD, notes })
}

/// The rows in the order of the cells.
fn rows(judged: Vec<Judged>, threshold_percent: f64, unit: Unit) -> Vec<Row> {
    let (mut changes, mut rows) = (Vec::new(), Vec::new());
    for one in judged {
        match one {
            Judged::Row(row) => rows.push(Some(row)),
            Judged::Change(change) => {
                changes.push(change);
                rows.push(None);
            }
        }
    }
    let mut changed = Changes::new(changes, threshold_percent, unit).rows().into_iter();
    rows.into_iter().filter_map(|row| row.or_else(|| changed.next())).collect()
}

/// A note if repeats of a side began before the rate was steady.
fn unsteady(side: &str, results: &[&Saved]) -> Option<String> {
    let cells: Vec<&SavedCell> = results.iter().flat_map(|saved| &saved.cells).collect();
    let repeats = || cells.iter().flat_map(|cell| &cell.repeats);
    let count = repeats().filter(|repeat| repeat.steady == Some(false)).count();
    (count > 0).then(|| {
        let all = repeats().count();
        format!("{side} side: the rate was not steady after the warm-up in {count} of {all} repeats (see --warmup)")
    })
}

fn overall(rows: &[Row]) -> Verdict {
    let order = [Verdict::Worse, Verdict::Better, Verdict::Inconclusive, Verdict::Same];
    let found = order.into_iter().find(|verdict| rows.iter().any(|row| row.verdict == *verdict));
    found.unwrap_or(Verdict::Incomparable)
}
