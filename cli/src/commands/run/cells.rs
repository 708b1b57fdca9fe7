//! The cells of a result as a table.

use peerpath_bench::result::{Cell, Latency, Outcome};
use peerpath_paths::{PathName, printable};
use peerpath_report::units;

use crate::hints::CommandLine;
use crate::table::{Table, number, text};

/// A table of cells, followed by the reason and remedy of those that did not pass.
pub(super) fn render(cells: &[Cell], command_line: &CommandLine, width: usize) -> String {
    let mut columns = vec![
        text("source", 0),
        text("target", 4),
        text("op", 0),
        text("mode", 3),
        number("size", 0),
        number("depth", 5),
        text("path", 2),
        number("p50", 0),
        number("p99", 1),
        number("throughput", 0),
        number("verified", 3),
        text("outcome", 0),
    ];
    // These columns appear only if a value exceeds 1, because most runs use one of each.
    let several = [("qps", (|cell| cell.qps) as fn(&Cell) -> u32), ("threads", |cell| cell.threads)];
    let several = several.map(|(header, of)| cells.iter().any(|cell| of(cell) > 1).then_some((header, of)));
    let several: Vec<_> = several.into_iter().flatten().collect();
    let after_depth = 6;
    columns.splice(after_depth..after_depth, several.iter().map(|(header, _)| number(header, 0)));
    let mut table = Table::new(columns);
    for cell in cells {
        let mut row = row(cell);
        row.splice(after_depth..after_depth, several.iter().map(|(_, of)| of(cell).to_string()));
        table.push(row);
    }
    table.render(width) + &reasons(cells, command_line)
}

/// Each reason once, with the cells that did not pass because of it.
fn reasons(cells: &[Cell], command_line: &CommandLine) -> String {
    let mut reasons: Vec<(&Cell, Vec<&Cell>)> = Vec::new();
    for cell in cells.iter().filter(|cell| cell.outcome != Outcome::Passed) {
        let same = |other: &Cell| {
            (other.outcome, other.cause, &other.reason, &other.remedy)
                == (cell.outcome, cell.cause, &cell.reason, &cell.remedy)
        };
        match reasons.iter_mut().find(|(first, _)| same(first)) {
            Some((_, affected)) => affected.push(cell),
            None => reasons.push((cell, vec![cell])),
        }
    }
    let mut text = String::new();
    for (first, affected) in reasons {
        let which = match affected.as_slice() {
            [cell] => printable(&cell.id),
            _ if affected.len() == cells.len() => format!("all {} cells", affected.len()),
            _ => format!("{} and {} more", printable(&first.id), affected.len() - 1),
        };
        let cause = first.cause.map_or(String::new(), |cause| format!(" [{cause}]"));
        let reason = printable(first.reason.as_deref().unwrap_or_default());
        let remedy = printable(&command_line.remedy(first.cause, first.remedy.as_deref().unwrap_or_default()));
        text += &format!("\n{}: {which}{cause}\n  why: {reason}\n   do: {remedy}\n", outcome(first));
    }
    text
}

fn row(cell: &Cell) -> Vec<String> {
    let dash = || "-".to_owned();
    let latency = |pick: fn(&Latency) -> u64| {
        cell.latency_ns.as_ref().map_or_else(dash, |latency| units::nanoseconds(pick(latency) as f64))
    };
    let path = match (cell.path.observed, cell.path.predicted) {
        (PathName::Unknown, Some(predicted)) => format!("{predicted} (predicted)"),
        (observed, _) => observed.to_string(),
    };
    vec![
        source(cell),
        format!("{}:{}", cell.target.kind, cell.target.device),
        cell.op.clone(),
        if cell.bidirectional { format!("{}, bidirectional", cell.mode) } else { cell.mode.clone() },
        units::bytes(cell.size_bytes),
        cell.depth.to_string(),
        path,
        latency(|latency| latency.p50),
        // With fewer than 100 samples, the 99th percentile is the maximum.
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
