//! Judges a pair of matched cells.

use peerpath_paths::PathName;

use super::interval::Change;
use super::key::Key;
use super::{Matched, Options, Row, Verdict};
use crate::saved::{Distribution, Outcome, SavedCell};

/// Largest relative difference between a recorded median and the median of its histogram: the resolution of the histogram.
const RESOLUTION: f64 = 0.005;

/// A row for every metric of a pair of cells.
pub(super) fn rows(matched: &Matched<'_>, options: Options) -> Vec<Row> {
    let (base, new) = match (matched.base, matched.new) {
        (Some(base), Some(new)) => (base, new),
        (Some(only), None) => return vec![lone(only, "only in the base result")],
        (None, Some(only)) => return vec![lone(only, "only in the new result")],
        (None, None) => return Vec::new(),
    };
    if let Some(row) = by_outcome(base, new) {
        return vec![row];
    }
    let differs = matched.differ_in.map(|what| difference(what, base, new)).or_else(|| unverified(base, new));
    if let (Some(why), false) = (&differs, options.force) {
        return vec![different(matched.differ_in, base, new, why)];
    }
    let mut rows = measured(base, new, options);
    if rows.is_empty() {
        rows.push(row(new, "outcome", Verdict::Same, "both passed, but no metric was recorded".to_owned()));
    }
    if let Some(why) = differs {
        for row in &mut rows {
            row.why = format!("compared although {why}; {}", row.why);
        }
    }
    rows
}

fn row(cell: &SavedCell, metric: &'static str, verdict: Verdict, why: String) -> Row {
    let key = Key::of(cell).name();
    Row { key, metric, base: None, new: None, change_percent: None, ci_percent: None, verdict, why }
}

fn lone(cell: &SavedCell, why: &str) -> Row {
    row(cell, "outcome", Verdict::Incomparable, why.to_owned())
}

/// Compares the outcomes if a cell did not pass, because such a cell has no metrics.
fn by_outcome(base: &SavedCell, new: &SavedCell) -> Option<Row> {
    use Outcome::{Failed, Passed};
    let described = |cell: &SavedCell| {
        let cause = cell.cause.as_ref().map_or(String::new(), |cause| format!(" [{cause}]"));
        let reason = cell.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        format!("{}{cause}{reason}", cell.outcome.as_str())
    };
    let (verdict, why) = match (base.outcome, new.outcome) {
        (Passed, Passed) => return None,
        (Failed, Failed) => (Verdict::Same, format!("before: failed; now: {}", described(new))),
        (before, Failed) => (Verdict::Worse, format!("before: {}; now: {}", before.as_str(), described(new))),
        (Failed, Passed) => (Verdict::Better, format!("before: {}; now: passed", described(base))),
        (before, now) if before == now => (Verdict::Incomparable, format!("before and now: {}", described(new))),
        (Passed, _) => (Verdict::Incomparable, format!("before: passed; now: {}", described(new))),
        (_, _) => (Verdict::Incomparable, format!("before: {}; now: {}", described(base), new.outcome.as_str())),
    };
    Some(row(new, "outcome", verdict, why))
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

fn unverified(base: &SavedCell, new: &SavedCell) -> Option<String> {
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

fn measured(base: &SavedCell, new: &SavedCell, options: Options) -> Vec<Row> {
    let mut rows = Vec::new();
    if let (Some(before), Some(now)) = (&base.latency, &new.latency) {
        let samples = before.distribution().zip(now.distribution());
        let contradicts = |median: Option<f64>, samples: &Distribution| {
            median.is_some_and(|median| (median / samples.quantile(0.5) - 1.0).abs() > RESOLUTION)
        };
        match &samples {
            Some((first, second)) if contradicts(before.p50, first) || contradicts(now.p50, second) => rows.push(row(
                new,
                "latency_p50_ns",
                Verdict::Incomparable,
                "a recorded median contradicts its histogram".to_owned(),
            )),
            Some((first, second)) => {
                let counts = format!("{} and {} samples", first.count(), second.count());
                let p50 = Change::of_quantile(first, second, 0.5);
                rows.extend(p50.map(|change| latency_row(new, "latency_p50_ns", change, &counts, options)));
                let p99 = Change::of_quantile(first, second, 0.99).filter(|change| change.bounds_percent.is_some());
                rows.extend(p99.map(|change| latency_row(new, "latency_p99_ns", change, &counts, options)));
            }
            None => {
                let p50 = before.p50.zip(now.p50).and_then(|(before, now)| Change::of(before, now));
                let why = "uncertainty unknown (a histogram is missing): only the threshold applies";
                rows.extend(
                    p50.map(|change| judged(new, "latency_p50_ns", change, Better::Lower, why.to_owned(), options)),
                );
            }
        }
    }
    let throughput = Change::of_throughput(base, new);
    rows.extend(throughput.map(|change| {
        let why = match change.bounds_percent {
            Some(_) => "interval from the lowest-throughput windows of both runs",
            None => "uncertainty unknown (no per-window throughput): only the threshold applies",
        };
        judged(new, "throughput_bytes_per_s", change, Better::Higher, why.to_owned(), options)
    }));
    rows
}

fn latency_row(cell: &SavedCell, metric: &'static str, change: Change, counts: &str, options: Options) -> Row {
    match change.bounds_percent {
        None if !options.force => {
            let row = row(cell, metric, Verdict::Incomparable, format!("too few samples: {counts}"));
            Row { base: Some(change.base), new: Some(change.new), change_percent: Some(change.percent), ..row }
        }
        _ => judged(cell, metric, change, Better::Lower, counts.to_owned(), options),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Better {
    Lower,
    Higher,
}

/// A change counts if it is larger than the threshold and its interval does not contain zero.
fn judged(
    cell: &SavedCell,
    metric: &'static str,
    change: Change,
    better: Better,
    why: String,
    options: Options,
) -> Row {
    let beyond = change.percent.abs() > options.threshold_percent;
    let certain = change.bounds_percent.is_none_or(|[low, high]| low > 0.0 || high < 0.0);
    let verdict = match (beyond && certain, (change.percent > 0.0) == (better == Better::Higher)) {
        (false, _) => Verdict::Same,
        (true, true) => Verdict::Better,
        (true, false) => Verdict::Worse,
    };
    let why = match (beyond, certain) {
        (true, false) => format!("the interval contains zero; {why}"),
        (false, _) => format!("within the threshold; {why}"),
        (true, true) => why,
    };
    Row {
        base: Some(change.base),
        new: Some(change.new),
        change_percent: Some(change.percent),
        ci_percent: change.bounds_percent,
        ..row(cell, metric, verdict, why)
    }
}
