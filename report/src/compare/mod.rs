//! Two results set against each other, cell by cell: by what the cells are, not by where they stand.

mod format;
mod interval;
mod judge;
mod key;
mod pairing;

use serde::Serialize;

use crate::saved::{Saved, SavedCell};

pub use format::{bounds, by_weight, change, figure, metric, summary};
pub use interval::{CONFIDENCE_PERCENT, Change};

/// How the uncertainty is told, in a sentence.
pub const METHOD: &str = "Intervals hold with 99 % confidence for the samples of the two runs: for latencies from the ranks of the \
    samples in both histograms (binomial, without assuming a distribution), so few samples make wide intervals. For throughput there \
    is one figure a run: the interval reaches from the slowest window of one run to the mean of the other. What differs from one run \
    to the next beyond that is in neither; repeat runs to see it.";

/// What to make of two results.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Changes of at most so many percent do not count.
    pub threshold_percent: f64,
    /// Compare also what cannot be compared.
    pub force: bool,
}

/// What became of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No change beyond the threshold, or none that is certain.
    Same,
    /// Faster, or it works now.
    Better,
    /// Slower, on a less direct path, or it fails now.
    Worse,
    /// The two say nothing about each other.
    Incomparable,
}

impl Verdict {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Incomparable => "incomparable",
        }
    }
}

/// One figure of a cell in both results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Which cell.
    pub key: String,
    /// Which figure of it; `outcome` where it is about whether it ran, `path` where about its way.
    pub metric: &'static str,
    /// The figure before.
    pub base: Option<f64>,
    /// The figure now.
    pub new: Option<f64>,
    /// The difference, in percent of the figure before.
    pub change_percent: Option<f64>,
    /// Between which bounds the difference lies.
    pub ci_percent: Option<[f64; 2]>,
    /// What that means.
    pub verdict: Verdict,
    /// Why.
    pub why: String,
}

/// Two results set against each other.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Every figure of every cell of either.
    pub cells: Vec<Row>,
    /// What they mean together: worse if any cell is; incomparable if none could be compared.
    pub verdict: Verdict,
    /// What did not count as a change, in percent.
    pub threshold_percent: f64,
    /// How the uncertainty is told.
    pub method: &'static str,
    /// What else differs between the two runs.
    pub notes: Vec<String>,
}

/// Two results that cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot compare the two results: {why}")]
pub struct Incomparable {
    /// In what the two runs differ.
    pub why: String,
}

/// Sets `new` against `base`.
///
/// # Errors
/// The figures of the two are not of one kind: emulated devices and hardware, soft RDMA and a NIC, operations that were posted
/// or connected otherwise.
pub fn compare(base: &Saved, new: &Saved, options: Options) -> Result<Comparison, Incomparable> {
    let mut notes = notes(base, new);
    match (unlike(base, new), options.force) {
        (Some(why), false) => return Err(Incomparable { why }),
        (Some(why), true) => notes.insert(0, format!("compared by force: {why}")),
        (None, _) => {}
    }
    let passes = pairing::pair(&base.cells, &new.cells);
    let cells: Vec<Row> = passes.iter().flat_map(|matched| judge::rows(matched, options)).collect();
    let verdict = together(&cells);
    Ok(Comparison { cells, verdict, threshold_percent: options.threshold_percent, method: METHOD, notes })
}

/// Two cells that belong together, or one that has no counterpart.
pub(crate) struct Matched<'a> {
    base: Option<&'a SavedCell>,
    new: Option<&'a SavedCell>,
    /// In what they differ, where they are not the same combination.
    differ_in: Option<&'static str>,
}

fn unlike(base_run: &Saved, new_run: &Saved) -> Option<String> {
    let (base, new) = (&base_run.environment, &new_run.environment);
    let kinds = [
        ("emulated devices", "hardware", base.emulated, new.emulated),
        ("soft RDMA, done by a CPU", "a NIC", base.soft_rdma, new.soft_rdma),
    ];
    let unlike = kinds.iter().find(|(.., base, new)| base != new).map(|(yes, no, base, new)| {
        let word = |flag: &Option<bool>| match flag {
            Some(true) => (*yes).to_owned(),
            Some(false) => (*no).to_owned(),
            None => format!("something that does not say whether it is {yes} or {no}"),
        };
        format!("one was measured with {}, the other with {}", word(base), word(new))
    });
    unlike.or_else(|| posted_otherwise(base_run, new_run))
}

/// What holds for every cell of a run and is told by none of them.
const OF_EVERY_CELL: [&str; 3] = ["connection", "completion_moderation", "post_list"];

/// A result of an older version tells none of it and is taken as it is.
fn posted_otherwise(base: &Saved, new: &Saved) -> Option<String> {
    OF_EVERY_CELL.into_iter().find_map(|name| {
        let (before, now) = planned(base, name).zip(planned(new, name))?;
        let differs = before != now;
        differs.then(|| format!("{} was {before} in one run, {now} in the other", name.replace('_', " ")))
    })
}

fn planned<'a>(saved: &'a Saved, name: &str) -> Option<&'a str> {
    let said = |name: &str| saved.run.plan.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    // What is null is not kept by the reader; the version that wrote this one would have said it.
    said(name).or_else(|| said(OF_EVERY_CELL[0]).map(|_| "not given"))
}

fn notes(base: &Saved, new: &Saved) -> Vec<String> {
    let facts = |saved: &Saved, name: &str| {
        saved.environment.facts.iter().find(|(key, _)| key == name).map_or("not said", |(_, value)| value).to_owned()
    };
    let differing =
        ["hostname", "kernel", "command_line", "cpu_model", "iommu", "clock_source"].into_iter().filter_map(|name| {
            let (before, now) = (facts(base, name), facts(new, name));
            (before != now).then(|| format!("{}: {before} before, {now} now", name.replace('_', " ")))
        });
    let asked = OF_EVERY_CELL.into_iter().chain(["warmup"]).filter_map(move |name| {
        let [before, now] = [base, new].map(|saved| planned(saved, name).unwrap_or("not said"));
        (before != now).then(|| format!("{name}: {before} before, {now} now"))
    });
    let remarks = [("BASE", base), ("NEW", new)];
    let remarks =
        remarks.iter().flat_map(|(which, saved)| saved.remarks.iter().map(move |line| format!("{which}: {line}")));
    differing.chain(asked).chain(remarks).collect()
}

fn together(rows: &[Row]) -> Verdict {
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
