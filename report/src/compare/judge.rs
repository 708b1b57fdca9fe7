//! Judges a pair of matched cells by outcome and path, and lists the figures whose change remains to be judged.

use peerpath_paths::PathName;

use super::change::{Change, Metric};
use super::key::Key;
use super::pairing::Matched;
use super::side::Group;
use super::{Options, Row, Unit, Verdict};
use crate::saved::{Outcome, SavedCell};

/// Largest relative difference between a recorded median and the median of its histogram: the resolution of the histogram.
const RESOLUTION: f64 = 0.005;

/// A row, or a change that becomes a row when all changes of the comparison are known.
pub(super) enum Judged {
    Row(Row),
    Change(Change),
}

/// The rows and changes of a pair of cells.
pub(super) fn judge(matched: &Matched<'_>, options: Options, unit: Unit) -> Vec<Judged> {
    let (base, new) = match (matched.base, matched.new) {
        (Some(base), Some(new)) => (base, new),
        (Some(only), None) => return vec![Judged::Row(lone(only, "only in the base result"))],
        (None, Some(only)) => return vec![Judged::Row(lone(only, "only in the new result"))],
        (None, None) => return Vec::new(),
    };
    if let Some(row) = by_outcome(base, new) {
        return vec![Judged::Row(row)];
    }
    let (before, now) = (base.example(), new.example());
    let differs = matched.differ_in.map(|what| difference(what, before, now)).or_else(|| unverified(base, new));
    if let (Some(why), false) = (&differs, options.force) {
        return vec![Judged::Row(different(matched.differ_in, before, now, why))];
    }
    let remark = differs.map_or_else(String::new, |why| format!("compared although {why}; "));
    let mut judged = measured(base, new, unit, &remark);
    if judged.is_empty() {
        let why = format!("{remark}both passed, but no metric was recorded");
        judged.push(Judged::Row(row(now, "outcome", Verdict::Same, why)));
    }
    judged
}

fn row(cell: &SavedCell, metric: &'static str, verdict: Verdict, why: String) -> Row {
    Row {
        key: Key::of(cell).name(),
        metric,
        base: None,
        new: None,
        change_percent: None,
        ci_percent: None,
        adjusted_p: None,
        observations: None,
        observations_needed: None,
        verdict,
        why,
    }
}

fn lone(group: &Group<'_>, why: &str) -> Row {
    row(group.example(), "outcome", Verdict::Incomparable, why.to_owned())
}

/// Compares the outcomes if a cell did not pass, because such a cell has no metrics. Of several results of a side, one with a
/// failed cell decides.
fn by_outcome(base: &Group<'_>, new: &Group<'_>) -> Option<Row> {
    use Outcome::{Failed, Passed};
    let outcome = |group: &Group<'_>| {
        let outcome = group.decisive().outcome;
        format!("{}{}", outcome.as_str(), group.share_of(outcome))
    };
    let described = |group: &Group<'_>| {
        let cell = group.decisive();
        let cause = cell.cause.as_ref().map_or(String::new(), |cause| format!(" [{cause}]"));
        let reason = cell.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        format!("{}{cause}{reason}", outcome(group))
    };
    let (verdict, why) = match (base.decisive().outcome, new.decisive().outcome) {
        (Passed, Passed) => return None,
        (Failed, Failed) => (Verdict::Same, format!("before: {}; now: {}", outcome(base), described(new))),
        (_, Failed) => (Verdict::Worse, format!("before: {}; now: {}", outcome(base), described(new))),
        (Failed, Passed) => (Verdict::Better, format!("before: {}; now: passed", described(base))),
        (before, now) if before == now => (Verdict::Incomparable, format!("before and now: {}", described(new))),
        (Passed, _) => (Verdict::Incomparable, format!("before: passed; now: {}", described(new))),
        (_, _) => (Verdict::Incomparable, format!("before: {}; now: {}", described(base), outcome(new))),
    };
    Some(row(new.decisive(), "outcome", verdict, why))
}

fn difference(what: &str, base: &SavedCell, new: &SavedCell) -> String {
    let number = |count: Option<u64>| count.map_or_else(|| "not recorded".to_owned(), |count| count.to_string());
    let (before, now) = match what {
        "path" => (base.path.best_known().to_string(), new.path.best_known().to_string()),
        "depth" => (number(base.depth), number(new.depth)),
        "size" => (number(base.size_bytes), number(new.size_bytes)),
        "op" => (base.op.clone(), new.op.clone()),
        _ => (base.mechanism.clone().unwrap_or_default(), new.mechanism.clone().unwrap_or_default()),
    };
    format!("{what} changed from {before} to {now}")
}

fn unverified(base: &Group<'_>, new: &Group<'_>) -> Option<String> {
    match (base.verified(), new.verified()) {
        (true, false) => Some("the base run verified the data, the new run did not".to_owned()),
        (false, true) => Some("the new run verified the data, the base run did not".to_owned()),
        _ => None,
    }
}

/// A row for cells that differ in a property. A less direct path is worse; every other difference is incomparable.
fn different(differ_in: Option<&str>, base: &SavedCell, new: &SavedCell, why: &str) -> Row {
    let directness = |cell: &SavedCell| match cell.path.observed_path() {
        Some(PathName::BusAddress) => Some(3),
        Some(PathName::HostBridgeBypass) => Some(2),
        Some(PathName::HostBridgeTranslated) => Some(1),
        Some(PathName::Refused) => Some(0),
        _ => None,
    };
    if differ_in != Some("path") {
        return row(new, "outcome", Verdict::Incomparable, format!("not compared: {why}"));
    }
    let less = directness(base).zip(directness(new)).is_some_and(|(before, now)| now < before);
    let verdict = if less { Verdict::Worse } else { Verdict::Incomparable };
    row(new, "path", verdict, format!("metrics not compared: {why}"))
}

/// The metrics that both sides recorded.
fn measured(base: &Group<'_>, new: &Group<'_>, unit: Unit, remark: &str) -> Vec<Judged> {
    let contradicts = base.passed().chain(new.passed()).any(contradicts_its_histogram);
    let mut judged = Vec::new();
    for metric in [Metric::P50, Metric::P99, Metric::Throughput] {
        if contradicts && metric != Metric::Throughput {
            if metric == Metric::P50 {
                let why = format!("{remark}a recorded median contradicts its histogram");
                judged.push(Judged::Row(row(new.example(), metric.name(), Verdict::Incomparable, why)));
            }
            continue;
        }
        let [before, now] = [base, new].map(|group| metric.observations(group, unit));
        if !metric.was_measured(base) || !metric.was_measured(new) {
            continue;
        }
        let remark = format!("{remark}{}", disturbed(base, new));
        if before.is_empty() || now.is_empty() {
            let why = format!("{remark}no undisturbed repeat remains: run again on a quiet host");
            judged.push(Judged::Row(row(new.example(), metric.name(), Verdict::Inconclusive, why)));
            continue;
        }
        let row = row(new.example(), metric.name(), Verdict::Inconclusive, remark);
        judged.push(Judged::Change(Change { metric, row, base: before, new: now }));
    }
    judged
}

/// A remark about the disturbed repeats, which do not count; empty without any.
fn disturbed(base: &Group<'_>, new: &Group<'_>) -> String {
    let found = [base, new].map(Group::disturbed);
    let count: usize = found.iter().flatten().map(|(count, _)| count).sum();
    let first = found.iter().flatten().next();
    first.map_or_else(String::new, |(_, why)| format!("{count} disturbed repeat(s) do not count ({why}); "))
}

/// Whether the median of a cell differs from that of its samples, e.g. because the file was edited.
fn contradicts_its_histogram(cell: &SavedCell) -> bool {
    let Some((latency, median)) = cell.latency.as_ref().zip(cell.p50()) else { return false };
    latency.distribution().is_some_and(|samples| (median / samples.quantile(0.5) - 1.0).abs() > RESOLUTION)
}
