//! Compares two results cell by cell.
//!
//! Cells are matched by their properties (source, target, path, operation, size and so on), not by their order or identifier.
//! See [`compare`].

mod comparable;
mod differences;
mod format;
mod interval;
mod judge;
mod key;
mod pairing;

use serde::Serialize;

use crate::saved::{Saved, SavedCell};

pub use comparable::CompareError;
pub use format::{format_change, format_interval, format_value, metric_name, rows_by_severity, summary};

/// How the uncertainty of a change is computed, in a few sentences for the reader of a comparison.
pub const METHOD: &str = "Intervals of a latency have 99 % confidence with respect to the samples of the two runs. They follow from \
    the ranks of the samples in both histograms (binomial, no assumed distribution), so few samples give wide intervals. Intervals of \
    a throughput have no confidence level: they reach from the lowest-throughput window of one run to the mean of the other. \
    Variation from run to run is not included: repeat the runs to see it.";

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
    /// The change is within the threshold or within its uncertainty.
    Same,
    /// Faster, or the cell failed before and passes now.
    Better,
    /// Slower, a less direct path, or the cell fails now.
    Worse,
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
            Self::Incomparable => "incomparable",
        }
    }
}

/// One metric of one cell in both results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the cell: its properties, separated by slashes.
    pub key: String,
    /// `latency_p50_ns`, `latency_p99_ns` or `throughput_bytes_per_s`. If no metric is compared: `outcome`, or `path` if the
    /// path changed.
    pub metric: &'static str,
    /// Value in the base result, in the unit that the name of the metric ends with.
    pub base: Option<f64>,
    /// Value in the new result.
    pub new: Option<f64>,
    /// Change, in percent of the base value.
    pub change_percent: Option<f64>,
    /// Bounds of the uncertainty interval of the change, in percent; [`METHOD`] explains it.
    pub ci_percent: Option<[f64; 2]>,
    /// Verdict on the change.
    pub verdict: Verdict,
    /// Reason for the verdict, in a phrase.
    pub why: String,
}

/// The comparison of two results.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Every compared metric of every cell of both results.
    pub cells: Vec<Row>,
    /// `Worse` if any row is worse, otherwise `Better` if any is better, otherwise `Same` if any is the same, otherwise
    /// `Incomparable`.
    pub verdict: Verdict,
    /// Largest change that does not count as better or worse, in percent.
    pub threshold_percent: f64,
    /// How the uncertainty is computed: [`METHOD`].
    pub method: &'static str,
    /// Other differences between the two runs, and remarks on the files.
    pub notes: Vec<String>,
}

/// Compares the result `new` with the earlier result `base`.
///
/// A change counts if it is larger than the threshold and its interval does not contain zero.
///
/// # Errors
/// Returns an error if [`Options::force`] is off and the results are not comparable: one is from emulated devices and one from
/// hardware, one is from soft RDMA and one from hardware, or the settings of the connection, completion moderation or post list
/// differ.
pub fn compare(base: &Saved, new: &Saved, options: Options) -> Result<Comparison, CompareError> {
    let mut notes = differences::notes(base, new);
    match comparable::check(base, new) {
        Err(error) if !options.force => return Err(error),
        Err(error) => notes.insert(0, format!("compared although the results are not comparable: {error}")),
        Ok(()) => {}
    }
    let matches = pairing::pair(&base.cells, &new.cells);
    let cells: Vec<Row> = matches.iter().flat_map(|matched| judge::rows(matched, options)).collect();
    let verdict = overall(&cells);
    Ok(Comparison { cells, verdict, threshold_percent: options.threshold_percent, method: METHOD, notes })
}

/// Two matched cells, one of each result, or one cell without a counterpart.
pub(crate) struct Matched<'a> {
    base: Option<&'a SavedCell>,
    new: Option<&'a SavedCell>,
    /// Property in which the cells differ; `None` if all properties are equal.
    differ_in: Option<&'static str>,
}

fn overall(rows: &[Row]) -> Verdict {
    let any = |verdict| rows.iter().any(|row| row.verdict == verdict);
    if any(Verdict::Worse) {
        Verdict::Worse
    } else if any(Verdict::Better) {
        Verdict::Better
    } else if any(Verdict::Same) {
        Verdict::Same
    } else {
        Verdict::Incomparable
    }
}
