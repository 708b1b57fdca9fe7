//! Judges the changes of figures, all changes of a comparison together.

use super::moderated::{Contrast, Estimate, FALSE_DISCOVERIES, Prior, adjusted, mean};
use super::side::Group;
use super::{Row, Unit, Verdict};
use crate::saved::{SavedCell, SavedRepeat};

/// A compared figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    P50,
    P99,
    Throughput,
}

impl Metric {
    /// Name in a row.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::P50 => "latency_p50_ns",
            Self::P99 => "latency_p99_ns",
            Self::Throughput => "throughput_bytes_per_s",
        }
    }

    /// The logarithms of the figures of a group: one per repeat, or one per result, the median of its repeats. A cell without
    /// repeats counts as one repeat. Disturbed repeats do not count.
    pub(super) fn observations(self, group: &Group<'_>, unit: Unit) -> Vec<f64> {
        let of_cell = |cell: &SavedCell| {
            let undisturbed = cell.repeats.iter().filter(|repeat| repeat.disturbed.is_empty());
            let repeats = undisturbed.filter_map(|repeat| self.of_repeat(repeat));
            let mut logs: Vec<f64> = repeats.filter_map(logarithm).collect();
            if cell.repeats.iter().all(|repeat| self.of_repeat(repeat).is_none()) {
                logs.extend(self.of_cell(cell).and_then(logarithm));
            }
            logs
        };
        match unit {
            Unit::Repeat => group.passed().flat_map(of_cell).collect(),
            Unit::Result => group.passed().filter_map(|cell| median(of_cell(cell))).collect(),
        }
    }

    /// Whether a cell that passed has the figure, also if all of its repeats were disturbed.
    pub(super) fn was_measured(self, group: &Group<'_>) -> bool {
        let has = |cell: &SavedCell| {
            self.of_cell(cell).is_some() || cell.repeats.iter().any(|repeat| self.of_repeat(repeat).is_some())
        };
        group.passed().any(has)
    }

    fn of_cell(self, cell: &SavedCell) -> Option<f64> {
        match self {
            Self::P50 => cell.p50(),
            Self::P99 => cell.p99(),
            Self::Throughput => cell.throughput,
        }
    }

    fn of_repeat(self, repeat: &SavedRepeat) -> Option<f64> {
        match self {
            Self::P50 => repeat.p50(),
            Self::P99 => repeat.p99(),
            Self::Throughput => repeat.throughput,
        }
    }

    /// Whether a higher figure is better.
    fn rises(self) -> bool {
        self == Self::Throughput
    }
}

fn logarithm(figure: f64) -> Option<f64> {
    (figure > 0.0 && figure.is_finite()).then(|| figure.ln())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

/// The change of a figure, which is judged with all others.
pub(super) struct Change {
    pub(super) metric: Metric,
    /// The row, without the figures. `why` is a remark that the reason follows.
    pub(super) row: Row,
    /// Logarithms of the figures; at least one.
    pub(super) base: Vec<f64>,
    pub(super) new: Vec<f64>,
}

/// The changes of a comparison, and what is known about their variation.
pub(super) struct Changes {
    changes: Vec<Change>,
    /// `None` if the variation of the change is unknown.
    estimates: Vec<Option<Estimate>>,
    adjusted: Vec<f64>,
    threshold_percent: f64,
    unit: Unit,
}

impl Changes {
    pub(super) fn new(changes: Vec<Change>, threshold_percent: f64, unit: Unit) -> Self {
        let contrasts: Vec<_> = changes.iter().map(|change| Contrast::of(&change.base, &change.new)).collect();
        // The tail of a distribution varies more than its middle: each metric has a prior.
        let prior = |metric| {
            let same = changes.iter().zip(&contrasts).filter(|(change, _)| change.metric == metric);
            Prior::of(&same.filter_map(|(_, contrast)| *contrast).collect::<Vec<_>>())
        };
        let priors = [Metric::P50, Metric::P99, Metric::Throughput].map(|metric| (metric, prior(metric)));
        let estimate = |(change, contrast): (&Change, &Option<Contrast>)| {
            let (_, prior) = priors.iter().find(|(metric, _)| *metric == change.metric)?;
            Some(prior.moderate(contrast.as_ref()?))
        };
        let estimates: Vec<_> = changes.iter().zip(&contrasts).map(estimate).collect();
        let adjusted = adjusted(&estimates.iter().flatten().map(Estimate::p).collect::<Vec<_>>());
        Self { changes, estimates, adjusted, threshold_percent, unit }
    }

    /// A row for each change, in their order.
    pub(super) fn rows(self) -> Vec<Row> {
        let significant = self.adjusted.iter().filter(|p| **p <= FALSE_DISCOVERIES).count();
        // The p value that one more significant change needs.
        let significant_p = FALSE_DISCOVERIES * (significant + 1).min(self.adjusted.len().max(1)) as f64
            / self.adjusted.len().max(1) as f64;
        let verdicts = Verdicts { threshold_percent: self.threshold_percent, unit: self.unit, significant_p };
        let mut adjusted = self.adjusted.into_iter();
        let rows = self.changes.into_iter().zip(self.estimates).map(|(change, estimate)| {
            let estimate = estimate.and_then(|estimate| Some((estimate, adjusted.next()?)));
            verdicts.row(change, estimate)
        });
        rows.collect()
    }
}

struct Verdicts {
    threshold_percent: f64,
    unit: Unit,
    significant_p: f64,
}

impl Verdicts {
    fn row(&self, change: Change, estimate: Option<(Estimate, f64)>) -> Row {
        let Change { metric, row, base, new } = change;
        let remark = &row.why;
        let known = Row {
            base: Some(figure(mean(&base))),
            new: Some(figure(mean(&new))),
            change_percent: Some(percent(mean(&new) - mean(&base))),
            observations: Some([base.len(), new.len()]),
            ..row.clone()
        };
        let Some((estimate, adjusted_p)) = estimate else {
            let why = format!(
                "{remark}run-to-run variation is unknown: {}",
                match self.unit {
                    Unit::Repeat => "repeat the runs (--repeat)",
                    Unit::Result => "one of the sides has this cell in one result only",
                }
            );
            return Row { verdict: Verdict::Inconclusive, why, ..known };
        };
        let [low, high] = estimate.interval().map(percent);
        let (within, beyond) = (
            low > -self.threshold_percent && high < self.threshold_percent,
            percent(estimate.difference).abs() > self.threshold_percent,
        );
        let is_significant = adjusted_p <= FALSE_DISCOVERIES;
        let verdict = match (is_significant && beyond, (estimate.difference > 0.0) == metric.rises()) {
            (true, true) => Verdict::Better,
            (true, false) => Verdict::Worse,
            (false, _) if within => Verdict::Same,
            (false, _) => Verdict::Inconclusive,
        };
        let needed = (verdict == Verdict::Inconclusive).then(|| self.needed(&estimate)).flatten();
        let counts = format!("{} and {} {}s", base.len(), new.len(), self.unit.as_str());
        let why = match verdict {
            Verdict::Inconclusive => {
                let open = if beyond { "the change may be chance" } else { "the change may be beyond the threshold" };
                let unit = self.unit.as_str();
                let needed = needed.map_or_else(
                    || format!("even 100 {unit}s per side would probably not decide"),
                    |needed| format!("about {needed} {unit}s per side would probably decide"),
                );
                format!("{remark}{open}: {needed}; {counts}")
            }
            _ => format!("{remark}{counts}"),
        };
        Row {
            ci_percent: Some([low, high]),
            adjusted_p: Some(adjusted_p),
            observations_needed: needed,
            verdict,
            why,
            ..known
        }
    }

    fn needed(&self, estimate: &Estimate) -> Option<usize> {
        let share = self.threshold_percent / 100.0;
        // No logarithm of a change of -100 % or less.
        let bounds = [(1.0 - share).max(f64::MIN_POSITIVE).ln(), (1.0 + share).ln()];
        estimate.observations_needed(bounds, self.significant_p)
    }
}

fn figure(log: f64) -> f64 {
    log.exp().min(f64::MAX)
}

/// The change in percent with this difference of logarithms. JSON has no infinite numbers.
fn percent(difference: f64) -> f64 {
    (difference.exp_m1() * 100.0).min(f64::MAX)
}
