//! The values of a comparison as text.

use super::{Comparison, Row, Verdict};
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
    row.change_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:+.1} %"))
}

/// Interval of the change of a row, e.g. `-1.0 to +7.4 %`; `-` if the row has none.
pub fn format_interval(row: &Row) -> String {
    row.ci_percent.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:+.1} to {high:+.1} %"))
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

/// Rows of a comparison, sorted by verdict: worse, better, incomparable, same.
pub fn rows_by_severity(comparison: &Comparison) -> Vec<&Row> {
    let mut rows: Vec<&Row> = comparison.cells.iter().collect();
    rows.sort_by_key(|row| match row.verdict {
        Verdict::Worse => 0,
        Verdict::Better => 1,
        Verdict::Incomparable => 2,
        Verdict::Same => 3,
    });
    rows
}

/// The number of rows with each verdict, in one line.
pub fn summary(comparison: &Comparison) -> String {
    let count = |verdict| comparison.cells.iter().filter(|row| row.verdict == verdict).count();
    format!(
        "{} worse, {} better, {} the same within {} %, {} not comparable",
        count(Verdict::Worse),
        count(Verdict::Better),
        count(Verdict::Same),
        comparison.threshold_percent,
        count(Verdict::Incomparable)
    )
}
