//! The values of a comparison as text.

use super::{Comparison, Row, Unit, Verdict};
use crate::units;

/// A value of a metric with its unit, e.g. `1.20 us`; `-` without a value.
pub fn format_value(metric: &str, value: Option<f64>) -> String {
    match value {
        Some(value) if metric.ends_with("_ns") => units::nanoseconds(value),
        Some(value) => units::bytes_per_second(value),
        None => "-".to_owned(),
    }
}

/// Change of a row, e.g. `+3.1 %`; `-` if the row has none.
pub fn format_change(row: &Row) -> String {
    row.change_percent.map_or_else(|| "-".to_owned(), |change| format!("{} %", percent(change)))
}

/// 90 % interval of the change of a row, e.g. `-1.0 to +7.4 %`; `-` if the row has none.
pub fn format_interval(row: &Row) -> String {
    row.ci_percent.map_or_else(|| "-".to_owned(), |[low, high]| format!("{} to {} %", percent(low), percent(high)))
}

fn percent(value: f64) -> String {
    if value.abs() < 1e5 { format!("{value:+.1}") } else { format!("{value:+.0e}") }
}

/// Name of a metric for readers, e.g. `median latency`.
pub fn metric_name(metric: &str) -> &str {
    match metric {
        "latency_p50_ns" => "median latency",
        "latency_p99_ns" => "p99 latency",
        "throughput_bytes_per_s" => "throughput",
        other => other,
    }
}

/// Rows of a comparison, sorted by verdict: worse, better, incomparable, inconclusive, same.
pub fn rows_by_severity(comparison: &Comparison) -> Vec<&Row> {
    let mut rows: Vec<&Row> = comparison.cells.iter().collect();
    rows.sort_by_key(|row| match row.verdict {
        Verdict::Worse => 0,
        Verdict::Better => 1,
        Verdict::Incomparable => 2,
        Verdict::Inconclusive => 3,
        Verdict::Same => 4,
    });
    rows
}

/// The number of metrics of all cells with each verdict, and what decides the inconclusive ones, in one line.
pub fn summary(comparison: &Comparison) -> String {
    let count = |verdict| comparison.cells.iter().filter(|row| row.verdict == verdict).count();
    let counts = format!(
        "Metrics: {} worse, {} better, {} the same within {} %, {} inconclusive, {} not comparable",
        count(Verdict::Worse),
        count(Verdict::Better),
        count(Verdict::Same),
        comparison.threshold_percent,
        count(Verdict::Inconclusive),
        count(Verdict::Incomparable)
    );
    counts + &advice(comparison)
}

/// How to decide the inconclusive rows, to follow the counts; empty if there are none.
fn advice(comparison: &Comparison) -> String {
    let open = || comparison.cells.iter().filter(|row| row.verdict == Verdict::Inconclusive);
    let mut needed: Vec<usize> = open().filter_map(|row| row.observations_needed).collect();
    needed.sort_unstable();
    // A row close to the threshold would need many: the number that decides three of four rows.
    let Some(&most) = needed.get((needed.len() * 3).div_ceil(4).saturating_sub(1)) else {
        return match open().count() {
            0 => String::new(),
            _ if open().all(|row| row.adjusted_p.is_some()) => {
                "; to decide the inconclusive ones, reduce the noise of the host, or choose another --threshold"
                    .to_owned()
            }
            _ => "; to decide the inconclusive ones, run both sides with --repeat 5, or name several results per side"
                .to_owned(),
        };
    };
    let decided = needed.iter().filter(|needed| **needed <= most).count();
    let which =
        if decided == open().count() { "the inconclusive ones".to_owned() } else { format!("{decided} of them") };
    match comparison.unit {
        Unit::Repeat => format!("; to decide {which}, run both sides with --repeat {most}"),
        Unit::Result => format!("; to decide {which}, name {most} results per side"),
    }
}
