//! The figures of a comparison as text.

use super::{Comparison, Row, Verdict};
use crate::units;

/// Figures with their units.
pub fn figure(metric: &str, figure: Option<f64>) -> String {
    match figure {
        Some(figure) if metric.ends_with("_ns") => units::nanoseconds(figure),
        Some(figure) => units::bytes_per_second(figure),
        None => "-".to_owned(),
    }
}

/// `+3.1 %`.
pub fn change(row: &Row) -> String {
    row.change_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:+.1} %"))
}

/// `-1.0 to +7.4 %`.
pub fn bounds(row: &Row) -> String {
    row.ci_percent.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:+.1} to {high:+.1} %"))
}

/// What the metric is, in words.
pub fn metric(metric: &str) -> &str {
    match metric {
        "latency_p50_ns" => "median latency",
        "latency_p99_ns" => "p99 latency",
        "throughput_bytes_per_s" => "throughput",
        other => other,
    }
}

/// The order in which people read: what got worse first.
pub fn by_weight(comparison: &Comparison) -> Vec<&Row> {
    let mut rows: Vec<&Row> = comparison.cells.iter().collect();
    rows.sort_by_key(|row| match row.verdict {
        Verdict::Worse => 0,
        Verdict::Better => 1,
        Verdict::Incomparable => 2,
        Verdict::Same => 3,
    });
    rows
}

/// One line: how many of each, and what it comes to.
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
