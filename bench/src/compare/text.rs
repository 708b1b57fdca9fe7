//! A comparison for the terminal.

use super::{Comparison, Row, Verdict};
use crate::failure::printable;
use crate::table::Table;
use crate::units;

/// Figures with their units.
pub(crate) fn figure(metric: &str, figure: Option<f64>) -> String {
    match figure {
        Some(figure) if metric.ends_with("_ns") => units::nanoseconds(figure),
        Some(figure) => units::bytes_per_second(figure),
        None => "-".to_owned(),
    }
}

/// `+3.1 %`.
pub(crate) fn change(row: &Row) -> String {
    row.change_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:+.1} %"))
}

/// `-1.0 to +7.4 %`.
pub(crate) fn bounds(row: &Row) -> String {
    row.ci_percent.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:+.1} to {high:+.1} %"))
}

/// What the metric is, in words.
pub(crate) fn metric(metric: &str) -> &str {
    match metric {
        "latency_p50_ns" => "median latency",
        "latency_p99_ns" => "p99 latency",
        "throughput_bytes_per_s" => "throughput",
        other => other,
    }
}

/// The order in which people read: what got worse first.
pub(crate) fn by_weight(comparison: &Comparison) -> Vec<&Row> {
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
pub(crate) fn summary(comparison: &Comparison) -> String {
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

/// The table, the sentences behind it, and what it comes to.
pub fn text(comparison: &Comparison, width: usize) -> String {
    let columns = [
        ("verdict", false, 0),
        ("cell", false, 0),
        ("metric", false, 1),
        ("base", true, 2),
        ("new", true, 2),
        ("change", true, 0),
        ("between", true, 1),
        ("why", false, 3),
    ];
    let mut table = Table::new(&columns);
    for row in by_weight(comparison) {
        table.push(vec![
            row.verdict.as_str().to_owned(),
            row.key.clone(),
            metric(row.metric).to_owned(),
            figure(row.metric, row.base),
            figure(row.metric, row.new),
            change(row),
            bounds(row),
            row.why.clone(),
        ]);
    }
    let notes: String = comparison.notes.iter().map(|note| format!("note: {}\n", printable(note))).collect();
    format!("{}\n{notes}{}\n{}\n", table.render(width), comparison.method, summary(comparison))
}
