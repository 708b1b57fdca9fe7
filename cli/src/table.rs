//! Tables that fit the terminal.

use peerpath_bench::result::{Cell, Outcome, RunResult};
use peerpath_report::units;

use crate::terminal::printable;

/// One column: its head, whether figures stand in it, and how early it is left out where the terminal is narrow.
struct Column {
    head: &'static str,
    right: bool,
    /// 0 is never left out; the highest goes first.
    dispensable: u8,
}

const fn text(head: &'static str, dispensable: u8) -> Column {
    Column { head, right: false, dispensable }
}

const fn figure(head: &'static str, dispensable: u8) -> Column {
    Column { head, right: true, dispensable }
}

const GAP: &str = "  ";

/// Columns of text; the least important are left out until a row fits.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows: `(head, figures, dispensable)` a column; 0 is never left out, the highest goes first.
    pub(crate) fn new(columns: &[(&'static str, bool, u8)]) -> Self {
        let columns = columns.iter().map(|&(head, right, dispensable)| Column { head, right, dispensable }).collect();
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The table in at most `width` columns, as far as leaving columns out can do that.
    pub(crate) fn render(&self, width: usize) -> String {
        let widths: Vec<usize> = self.columns.iter().enumerate().map(|(at, column)| self.width(at, column)).collect();
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let total = |shown: &[usize]| {
            shown.iter().map(|&at| widths[at]).sum::<usize>() + GAP.len() * shown.len().saturating_sub(1)
        };
        while total(&shown) > width {
            let Some(&victim) = shown.iter().max_by_key(|&&at| self.columns[at].dispensable) else { break };
            if self.columns[victim].dispensable == 0 {
                break;
            }
            shown.retain(|&at| at != victim);
        }
        let line = |cells: Vec<&str>| {
            let cells: Vec<String> = shown
                .iter()
                .zip(cells)
                .map(|(&at, cell)| {
                    let width = widths[at];
                    if self.columns[at].right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                })
                .collect();
            cells.join(GAP).trim_end().to_owned() + "\n"
        };
        let head = line(shown.iter().map(|&at| self.columns[at].head).collect());
        let rows = self.rows.iter().map(|row| line(shown.iter().map(|&at| row[at].as_str()).collect()));
        std::iter::once(head).chain(rows).collect()
    }

    fn width(&self, at: usize, column: &Column) -> usize {
        let cells = self.rows.iter().map(|row| row[at].chars().count());
        cells.chain([column.head.len()]).max().unwrap_or(0)
    }
}

/// The cells of a result, and in sentences what did not pass.
pub(crate) fn cells(result: &RunResult, width: usize) -> String {
    let mut columns = vec![
        text("source", 0),
        text("target", 4),
        text("op", 0),
        text("mode", 3),
        figure("size", 0),
        figure("depth", 5),
        text("path", 2),
        figure("p50", 0),
        figure("p99", 1),
        figure("throughput", 0),
        figure("verified", 3),
        text("outcome", 0),
    ];
    // Only where there are several: most runs have one of each.
    let several = [("qps", qps as fn(&Cell) -> u32), ("threads", threads)];
    let several = several.map(|(head, of)| result.cells.iter().any(|cell| of(cell) > 1).then_some((head, of)));
    let several: Vec<_> = several.into_iter().flatten().collect();
    let behind_depth = 6;
    columns.splice(behind_depth..behind_depth, several.iter().map(|(head, _)| figure(head, 0)));
    let mut table = Table { columns, rows: Vec::new() };
    for cell in &result.cells {
        let mut row = row(cell);
        row.splice(behind_depth..behind_depth, several.iter().map(|(_, of)| of(cell).to_string()));
        table.push(row);
    }
    table.render(width) + &troubles(&result.cells)
}

/// Every reason for which cells did not pass, once, with the cells that it stopped.
fn troubles(cells: &[Cell]) -> String {
    let mut troubles: Vec<(&Cell, Vec<&Cell>)> = Vec::new();
    for cell in cells.iter().filter(|cell| cell.outcome != Outcome::Passed) {
        let same = |other: &Cell| {
            (other.outcome, other.cause, &other.reason, &other.remedy)
                == (cell.outcome, cell.cause, &cell.reason, &cell.remedy)
        };
        match troubles.iter_mut().find(|(first, _)| same(first)) {
            Some((_, stopped)) => stopped.push(cell),
            None => troubles.push((cell, vec![cell])),
        }
    }
    let mut text = String::new();
    for (first, stopped) in troubles {
        let which = match stopped.as_slice() {
            [cell] => printable(&cell.id),
            _ if stopped.len() == cells.len() => format!("all {} cells", stopped.len()),
            _ => format!("{} and {} more", printable(&first.id), stopped.len() - 1),
        };
        let cause = first.cause.map_or(String::new(), |cause| format!(" [{cause}]"));
        let reason = printable(first.reason.as_deref().unwrap_or_default());
        let remedy = printable(first.remedy.as_deref().unwrap_or_default());
        text += &format!("\n{}: {which}{cause}\n  why: {reason}\n   do: {remedy}\n", outcome(first));
    }
    text
}

fn qps(cell: &Cell) -> u32 {
    cell.qps
}

fn threads(cell: &Cell) -> u32 {
    cell.threads
}

fn row(cell: &Cell) -> Vec<String> {
    let dash = || "-".to_owned();
    let latency = |pick: fn(&peerpath_bench::result::Latency) -> u64| {
        cell.latency_ns.as_ref().map_or_else(dash, |latency| units::nanoseconds(pick(latency) as f64))
    };
    let path = match (cell.path.observed, cell.path.predicted) {
        (peerpath_paths::PathName::Unknown, Some(predicted)) => format!("{predicted} (predicted)"),
        (observed, _) => observed.to_string(),
    };
    vec![
        source(cell),
        format!("{}:{}", cell.target.kind, cell.target.device),
        cell.op.clone(),
        if cell.bidirectional { format!("{} both ways", cell.mode) } else { cell.mode.clone() },
        units::bytes(cell.size_bytes),
        cell.depth.to_string(),
        path,
        latency(|latency| latency.p50),
        // Of fewer samples it would be the maximum under another name.
        if cell.iterations.is_some_and(|samples| samples >= 100) { latency(|latency| latency.p99) } else { dash() },
        cell.throughput_bytes_per_s.map_or_else(dash, units::bytes_per_second),
        cell.verified_bytes.map_or_else(dash, units::bytes),
        outcome(cell).to_owned(),
    ]
}

fn source(cell: &Cell) -> String {
    let origin = &cell.source;
    let ranges = if origin.ranges.len() > 1 { format!(" ({} ranges)", origin.ranges.len()) } else { String::new() };
    match (origin.bdf, origin.bar) {
        (Some(bdf), Some(bar)) => format!("{bdf}:{bar}{ranges}"),
        _ => origin.kind.as_str().to_owned(),
    }
}

fn outcome(cell: &Cell) -> &'static str {
    match cell.outcome {
        Outcome::Passed => "passed",
        Outcome::Waived => "waived",
        Outcome::Failed => "FAILED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&[("name", false, 0), ("remark", false, 2), ("size", true, 1)]);
        table.push(vec!["a".into(), "long and dispensable".into(), "4 KiB".into()]);
        table.push(vec!["b\u{7}".into(), String::new(), "16 MiB".into()]);
        table
    }

    #[test]
    fn figures_align_and_control_characters_do_not_ring() {
        assert_eq!(
            sample().render(80),
            "name  remark                  size\na     long and dispensable   4 KiB\nb\u{fffd}                          16 MiB\n"
        );
    }

    #[test]
    fn a_narrow_terminal_loses_the_least_important_column_first() {
        assert_eq!(sample().render(20), "name    size\na      4 KiB\nb\u{fffd}    16 MiB\n");
        assert_eq!(sample().render(5), "name\na\nb\u{fffd}\n");
    }
}
