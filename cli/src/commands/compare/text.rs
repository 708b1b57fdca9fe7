//! A comparison as text.

use std::collections::HashSet;

use peerpath_paths::printable;
use peerpath_report::compare::{self, Comparison, Row, Verdict};

use crate::table::{self, Table};
use crate::text_layout::hanging;

/// The table, the cells without a computed change, the number of unchanged metrics, notes, method and summary. `all`: whether
/// the table also lists unchanged metrics.
pub(super) fn render(comparison: &Comparison, all: bool, width: usize) -> String {
    let is_listed = |row: &Row| all || row.verdict != Verdict::Same;
    let listed: Vec<&Row> = compare::rows_by_severity(comparison).into_iter().filter(|row| is_listed(row)).collect();
    let (measured, unmeasured): (Vec<&Row>, Vec<&Row>) = listed.iter().partition(|row| row.change_percent.is_some());
    let mut text = table_of(&measured, width);
    for row in unmeasured {
        let why = if row.why.is_empty() { String::new() } else { format!(": {}", row.why) };
        let line = format!("{}{why}", row.key);
        text += &hanging(row.verdict.as_str(), 14, &printable(&line), width);
    }
    text += &unchanged(comparison, all);
    if !text.is_empty() {
        text.push('\n');
    }
    text.extend(comparison.notes.iter().map(|note| hanging("note:", 6, &printable(note), width)));
    text += &hanging("", 0, comparison.method, width);
    text + &hanging("", 0, &compare::summary(comparison), width)
}

fn table_of(rows: &[&Row], width: usize) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new(vec![
        table::text("verdict", 0),
        table::text("cell", 0),
        table::text("metric", 0),
        table::number("base", 2),
        table::number("new", 2),
        table::number("change", 0),
        table::number("90 % interval", 1),
        table::text("why", 3),
    ]);
    let common = if width == usize::MAX { HashSet::new() } else { common_parts(rows) };
    for row in rows {
        let own: Vec<&str> = row.key.split('/').filter(|part| !common.contains(part)).collect();
        table.push(vec![
            row.verdict.as_str().to_owned(),
            own.join("/"),
            compare::metric_name(row.metric).to_owned(),
            compare::format_value(row.metric, row.base),
            compare::format_value(row.metric, row.new),
            compare::format_change(row),
            compare::format_interval(row),
            row.why.clone(),
        ]);
    }
    // In the order in which the parts occur in the name of a cell.
    let shared: Vec<&str> = rows[0].key.split('/').filter(|part| common.contains(part)).collect();
    let head = if shared.is_empty() { String::new() } else { hanging("Cells:", 7, &shared.join(" "), width) };
    printable_head(&head) + &table.render(width)
}

fn printable_head(head: &str) -> String {
    head.lines().map(|line| printable(line) + "\n").collect()
}

/// The parts that the names of all cells have in common; none if that is the whole name.
fn common_parts<'a>(rows: &[&'a Row]) -> HashSet<&'a str> {
    let parts = |row: &&'a Row| row.key.split('/').collect::<HashSet<&str>>();
    let common = rows.iter().map(parts).reduce(|common, parts| &common & &parts).unwrap_or_default();
    if rows.iter().any(|row| row.key.split('/').all(|part| common.contains(part))) { HashSet::new() } else { common }
}

/// The number of metrics that did not change, and of their cells, in a line; empty if there are none or the table lists them.
fn unchanged(comparison: &Comparison, all: bool) -> String {
    let same = || comparison.cells.iter().filter(|row| row.verdict == Verdict::Same);
    let cells = match same().map(|row| row.key.as_str()).collect::<HashSet<_>>().len() {
        1 => "1 cell".to_owned(),
        count => format!("{count} cells"),
    };
    match same().count() {
        _ if all => String::new(),
        0 => String::new(),
        1 => format!("1 metric of {cells} did not change; --all lists it\n"),
        count => format!("{count} metrics of {cells} did not change; --all lists them\n"),
    }
}

#[cfg(test)]
mod tests {
    use peerpath_report::compare::Unit;

    use super::*;

    fn row(size: u64, verdict: Verdict, change_percent: Option<f64>) -> Row {
        Row {
            key: format!(
                "0000:03:00.0:2/verbs:mlx5_0/host-bridge-translated/write/into_source/completion/{size}/uverbs-ioctl"
            ),
            metric: "latency_p50_ns",
            base: change_percent.map(|_| 2000.0),
            new: change_percent.map(|_| 3000.0),
            change_percent,
            ci_percent: change_percent.map(|change| [change - 1.0, change + 1.0]),
            adjusted_p: change_percent.map(|_| 0.001),
            observations: change_percent.map(|_| [5, 5]),
            observations_needed: None,
            verdict,
            why: "5 and 5 repeats".to_owned(),
        }
    }

    fn comparison(cells: Vec<Row>) -> Comparison {
        let notes = vec!["0000:04:00.0, firmware: 1 before, 2 now".to_owned()];
        Comparison {
            cells,
            verdict: Verdict::Worse,
            threshold_percent: 5.0,
            unit: Unit::Repeat,
            method: compare::METHOD,
            notes,
        }
    }

    #[test]
    fn counts_unchanged_metrics_and_lists_them_on_request() {
        let rows = vec![
            row(64, Verdict::Same, Some(0.5)),
            row(4096, Verdict::Worse, Some(50.0)),
            row(4096, Verdict::Same, Some(1.0)),
        ];
        let comparison = comparison(rows);
        let text = render(&comparison, false, usize::MAX);
        assert!(text.contains("2 metrics of 2 cells did not change; --all lists them\n"), "{text}");
        assert!(!text.contains("/64/") && text.contains("Metrics: 1 worse, 0 better, 2 the same"), "{text}");
        let text = render(&comparison, true, usize::MAX);
        assert!(!text.contains("did not change") && text.contains("/64/"), "{text}");
    }

    #[test]
    fn fits_80_columns_and_keeps_what_distinguishes_the_cells() {
        let rows = vec![
            row(64, Verdict::Worse, Some(50.0)),
            row(4096, Verdict::Better, Some(-50.0)),
            row(65536, Verdict::Incomparable, None),
        ];
        let text = render(&comparison(rows), false, 80);
        let is_name = |line: &str| line.contains("65536/uverbs-ioctl:");
        assert!(text.lines().all(|line| line.chars().count() <= 80 || is_name(line)), "{text}");
        assert!(text.contains("worse    64    median latency"), "{text}");
        assert!(text.starts_with("Cells: 0000:03:00.0:2 verbs:mlx5_0"), "{text}");
    }
}
