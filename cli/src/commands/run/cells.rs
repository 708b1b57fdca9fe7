//! The cells of a result as a table.

use peerpath_bench::result::{Cell, CellTarget, Latency, Measurement, Outcome};
use peerpath_exporter::{Origin, SourceKind};
use peerpath_paths::{PathName, printable};
use peerpath_report::units::{self, RateUnit};

use super::revocations;
use crate::hints::CommandLine;
use crate::table::{Column, Table, number, text};
use crate::text_layout::hanging;

/// A column with the text of each cell.
type CellColumn = (Column, CellText);
/// Returns the text of a cell in a column.
type CellText = fn(&Cell) -> String;

/// A table of cells, followed by the reason and remedy of those that did not pass; empty without cells.
pub(super) fn render(cells: &[Cell], command_line: &CommandLine, unit: RateUnit, width: usize) -> String {
    if cells.is_empty() {
        return String::new();
    }
    let columns = columns(cells, unit);
    let rows: Vec<Vec<String>> =
        cells.iter().map(|cell| columns.iter().map(|(_, text)| text(cell)).collect()).collect();
    let mut table = Table::new(columns.into_iter().map(|(column, _)| column).collect());
    rows.into_iter().for_each(|row| table.push(row));
    let sum = if cells.iter().any(|cell| cell.bidirectional) {
        "Both ways: the throughput is the sum of both directions.\n"
    } else {
        ""
    };
    table.render(width)
        + sum
        + notes(cells, width).as_str()
        + &revocations::render(cells, width)
        + &reasons(cells, command_line, width)
}

/// What the texts of the columns path and p99 mean, if a cell has them.
fn notes(cells: &[Cell], width: usize) -> String {
    let mut text = String::new();
    if cells.iter().any(is_only_predicted) {
        text += "(predicted): no path was observed, this one follows from the topology and the kernel's rules.\n";
    }
    if cells.iter().any(|cell| cell.measured.latency_ns.is_some() && p99(cell).is_none()) {
        text += "p99 needs at least 100 operations in each repeat.\n";
    }
    text + &disturbances(cells, width)
}

/// What disturbed cells, each sentence once. Sentences that differ only in their figures count as one.
fn disturbances(cells: &[Cell], width: usize) -> String {
    let without_figures = |sentence: &str| sentence.split(|c: char| c.is_ascii_digit()).collect::<String>();
    let mut kinds: Vec<(String, &str, usize)> = Vec::new();
    for repeat in cells.iter().flat_map(|cell| &cell.repeats) {
        for sentence in &repeat.disturbed {
            let kind = without_figures(sentence);
            match kinds.iter_mut().find(|(known, ..)| *known == kind) {
                Some((.., count)) => *count += 1,
                None => kinds.push((kind, sentence, 1)),
            }
        }
    }
    let line = |(_, first, count): &(String, &str, usize)| {
        let more = match count - 1 {
            0 => String::new(),
            1 => " (and 1 more repeat)".to_owned(),
            others => format!(" (and {others} more repeats)"),
        };
        hanging("Disturbed:", 11, &format!("{}{more}.", printable(first)), width)
    };
    kinds.iter().map(line).collect()
}

/// Throughput in percent of the ceiling of the path.
fn of_ceiling(cell: &Cell) -> Option<String> {
    let (rate, ceiling) = cell.measured.throughput_bytes_per_s.zip(cell.ceiling.as_ref())?;
    Some(format!("{:.0} %", 100.0 * rate / ceiling.bytes_per_s as f64))
}

/// The columns that these cells need. Most runs request no path, use one queue pair and one thread, and run on one host.
fn columns(cells: &[Cell], unit: RateUnit) -> Vec<CellColumn> {
    let any = |has: fn(&Cell) -> bool| cells.iter().any(has);
    let column = |is_shown: bool, column: Column, text: fn(&Cell) -> String| is_shown.then_some((column, text));
    let (throughput_text, each_way_text): (CellText, CellText) = match unit {
        RateUnit::Bytes => (|cell| throughput(cell, RateUnit::Bytes), |cell| each_way(cell, RateUnit::Bytes)),
        RateUnit::Bits => (|cell| throughput(cell, RateUnit::Bits), |cell| each_way(cell, RateUnit::Bits)),
    };
    let columns = [
        column(true, text("source", 0), source),
        column(any(|cell| cell.far.is_some()), text("peer", 5), peer),
        column(true, text("target", 5), target),
        column(any(has_local_memory), text("local memory", 6), local_memory),
        column(true, text("op", 0), |cell| cell.op.clone()),
        column(true, text("mode", 4), mode),
        column(true, number("size", 0), |cell| units::bytes(cell.size_bytes)),
        column(true, number("depth", 6), |cell| cell.depth.to_string()),
        column(any(|cell| cell.qps > 1), number("qps", 0), |cell| cell.qps.to_string()),
        column(any(|cell| cell.threads > 1), number("threads", 0), |cell| cell.threads.to_string()),
        column(any(|cell| cell.offered_operations_per_s.is_some()), number("offered/s", 0), offered),
        column(any(|cell| cell.offered_operations_per_s.is_some()), number("achieved/s", 0), achieved),
        column(any(|cell| cell.path.asked.is_some()), text("asked", 2), asked),
        column(true, text("path", 1), path),
        column(true, number("p50", 0), |cell| or_dash(latency(cell, |latency| latency.p50))),
        column(true, number("p99", 3), |cell| or_dash(p99(cell))),
        column(true, number("throughput", 0), throughput_text),
        column(any(|cell| cell.ceiling.is_some()), number("of ceiling", 3), |cell| or_dash(of_ceiling(cell))),
        column(any(|cell| spread(cell).is_some()), number("spread", 2), |cell| or_dash(spread(cell))),
        column(any(|cell| cell.bidirectional), number("each way", 4), each_way_text),
        column(true, number("verified", 4), |cell| or_dash(cell.measured.verified_bytes.map(units::bytes))),
        column(true, text("outcome", 0), |cell| outcome(cell).to_owned()),
    ];
    columns.into_iter().flatten().collect()
}

/// Each reason once, with the cells that did not pass because of it.
fn reasons(cells: &[Cell], command_line: &CommandLine, width: usize) -> String {
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
        text += &format!("\n{}: {which}{cause}\n", outcome(first));
        text += &hanging("  why:", 7, &reason, width);
        text += &hanging("   do:", 7, &remedy, width);
    }
    text
}

/// The memory under test. With a peer, it is the peer's memory.
pub(super) fn source(cell: &Cell) -> String {
    memory(&cell.source)
}

/// The device of this host that moves the data: what the user named as target.
pub(super) fn target(cell: &Cell) -> String {
    device(cell.far.as_ref().map_or(&cell.target, |far| &far.target))
}

/// The peer's device, with which the source is registered; `-` in a run on one host.
pub(super) fn peer(cell: &Cell) -> String {
    or_dash(cell.far.as_ref().map(|_| device(&cell.target)))
}

/// Whether the user named memory of this host for a run with a peer.
fn has_local_memory(cell: &Cell) -> bool {
    cell.far.as_ref().is_some_and(|far| far.source.kind != SourceKind::Host)
}

fn local_memory(cell: &Cell) -> String {
    or_dash(cell.far.as_ref().map(|far| memory(&far.source)))
}

fn memory(origin: &Origin) -> String {
    let ranges = if origin.ranges.len() > 1 { format!(" ({} ranges)", origin.ranges.len()) } else { String::new() };
    match (origin.bdf, origin.bar) {
        (Some(bdf), Some(bar)) => format!("{bdf}:{bar}{ranges}"),
        _ => origin.kind.as_str().to_owned(),
    }
}

fn device(target: &CellTarget) -> String {
    format!("{}:{}", target.kind, target.device)
}

pub(super) fn mode(cell: &Cell) -> String {
    if cell.bidirectional { format!("{}, both ways", cell.mode) } else { cell.mode.clone() }
}

fn asked(cell: &Cell) -> String {
    or_dash(cell.path.asked.map(|asked| asked.to_string()))
}

fn is_only_predicted(cell: &Cell) -> bool {
    cell.path.observed == PathName::Unknown && cell.path.predicted.is_some()
}

pub(super) fn path(cell: &Cell) -> String {
    match (cell.path.observed, cell.path.predicted) {
        (PathName::Unknown, Some(predicted)) => format!("{predicted} (predicted)"),
        (observed, _) => observed.to_string(),
    }
}

fn latency(cell: &Cell, pick: fn(&Latency) -> u64) -> Option<String> {
    cell.measured.latency_ns.as_ref().map(|latency| units::nanoseconds(pick(latency) as f64))
}

/// The 99th percentile of the latency. With fewer than 100 samples it equals the maximum, so it is omitted.
pub(super) fn p99(cell: &Cell) -> Option<String> {
    latency(cell, |latency| latency.p99).filter(|_| cell.measured.iterations.is_some_and(|samples| samples >= 100))
}

pub(super) fn throughput(cell: &Cell, unit: RateUnit) -> String {
    let sum = if cell.bidirectional { " sum" } else { "" };
    or_dash(cell.measured.throughput_bytes_per_s.map(|rate| unit.rate(rate) + sum))
}

fn offered(cell: &Cell) -> String {
    or_dash(cell.offered_operations_per_s.map(|rate| rate.to_string()))
}

/// The rate of the completed operations. Below the offered rate, the device is overloaded.
fn achieved(cell: &Cell) -> String {
    let rate = cell.offered_operations_per_s.and(cell.measured.operations_per_s);
    or_dash(rate.map(|rate| format!("{rate:.0}")))
}

/// The spread of the repeats: largest minus smallest main figure, in percent of the figure shown. `None` with fewer than two
/// repeats.
fn spread(cell: &Cell) -> Option<String> {
    let figures: Vec<f64> = cell.repeats.iter().filter_map(Measurement::main_figure).collect();
    let (smallest, largest) = (figures.iter().copied().reduce(f64::min)?, figures.iter().copied().reduce(f64::max)?);
    let shown = cell.measured.main_figure().filter(|shown| *shown > 0.0 && figures.len() > 1)?;
    Some(format!("{:.1} %", (largest - smallest) / shown * 100.0))
}

fn each_way(cell: &Cell, unit: RateUnit) -> String {
    let rates = cell.measured.throughput_each_way_bytes_per_s;
    or_dash(rates.map(|rates| rates.map(|rate| unit.rate(rate)).join(" + ")))
}

pub(super) fn outcome(cell: &Cell) -> &'static str {
    match cell.outcome {
        Outcome::Passed => "passed",
        Outcome::Waived => "waived",
        Outcome::Failed => "FAILED",
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use peerpath_bench::result::{CellCeiling, FarSide};
    use serde_json::json;

    use super::*;

    /// A passed cell with a latency.
    pub(in super::super) fn cell(op: &str, size_bytes: u64) -> Cell {
        serde_json::from_value(json!({
            "id": format!("{op}/{size_bytes}"),
            "source": {"kind": "vfio", "bdf": "0000:03:00.0", "bar": 2, "ranges": []},
            "target": {"kind": "verbs", "device": "mlx5_0", "bdf": "0000:04:00.0"},
            "path": {"asked": null, "observed": "bus-address", "blockers": [], "evidence": []},
            "op": op, "mode": "completion", "direction": "into_source", "size_bytes": size_bytes, "depth": 1, "threads": 1,
            "qps": 1, "iterations": 1000, "outcome": "passed", "verified_bytes": size_bytes,
            "latency_ns": {"min": 1000, "p10": 1500, "p50": 2000, "p90": 4000, "p99": 9000, "p999": 9500, "max": 9900,
                           "mean": 2100.0, "stdev": 10.0, "histogram": ""}
        }))
        .unwrap()
    }

    fn table(cells: &[Cell], width: usize) -> String {
        render(cells, &CommandLine::default(), RateUnit::Bytes, width)
    }

    #[test]
    fn shows_the_requested_path_only_if_one_was_requested() {
        let mut measured = cell("write", 4096);
        assert!(!table(std::slice::from_ref(&measured), usize::MAX).contains("asked"));
        measured.path.asked = Some(PathName::HostBridgeTranslated);
        let text = table(&[measured, cell("read", 4096)], usize::MAX);
        let header = text.lines().next().unwrap();
        assert!(header.contains("asked") && text.contains("host-bridge-translated  bus-address"), "{text}");
    }

    #[test]
    fn explains_a_predicted_path_and_a_missing_p99() {
        let mut measured = cell("write", 4096);
        let text = table(std::slice::from_ref(&measured), usize::MAX);
        assert!(!text.contains("(predicted):") && !text.contains("p99 needs"), "{text}");
        (measured.path.observed, measured.path.predicted) = (PathName::Unknown, Some(PathName::BusAddress));
        measured.measured.iterations = Some(99);
        let text = table(&[measured], usize::MAX);
        assert!(
            text.contains("(predicted): no path was observed") && text.contains("p99 needs at least 100"),
            "{text}"
        );
    }

    #[test]
    fn shows_the_share_of_the_ceiling_and_what_disturbed_a_cell() {
        let mut measured = cell("write", 1 << 20);
        measured.measured.throughput_bytes_per_s = Some(12.6e9);
        measured.ceiling = Some(CellCeiling { bytes_per_s: 14_000_000_000, limited_by: "link".to_owned() });
        let disturbed = |switches: u32| Measurement {
            disturbed: vec![format!("other programs took the CPU from each thread {switches} times per second")],
            ..measured.measured.clone()
        };
        measured.repeats = vec![disturbed(200), measured.measured.clone(), disturbed(300)];
        let text = table(&[measured], usize::MAX);
        assert!(text.contains("of ceiling") && text.contains("90 %"), "{text}");
        assert!(text.contains("Disturbed: other programs took the CPU from each thread 200 times"), "{text}");
        assert!(text.contains("(and 1 more repeat)"), "{text}");
    }

    #[test]
    fn names_the_devices_of_both_hosts() {
        let mut measured = cell("write", 4096);
        measured.target.device = "rxe0".to_owned();
        let mut here = measured.target.clone();
        here.device = "rxe1".to_owned();
        let memory = Origin { kind: SourceKind::Host, bdf: None, bar: None, ranges: Vec::new() };
        measured.far = Some(FarSide { source: memory, target: here, path: measured.path.clone() });
        assert_eq!((target(&measured), peer(&measured)), ("verbs:rxe1".to_owned(), "verbs:rxe0".to_owned()));
        let text = table(&[measured], usize::MAX);
        let words: Vec<_> = text.split_whitespace().collect();
        assert_eq!((words[1], words[2]), ("peer", "target"), "{text}");
        assert!(!text.contains("local memory"), "{text}");
    }

    #[test]
    fn says_that_both_ways_is_a_sum() {
        let mut measured = cell("write", 4096);
        (measured.mode, measured.bidirectional, measured.measured.latency_ns) = ("bandwidth".to_owned(), true, None);
        measured.measured.throughput_bytes_per_s = Some(3e9);
        measured.measured.throughput_each_way_bytes_per_s = Some([1e9, 2e9]);
        let text = table(&[measured], usize::MAX);
        for words in ["bandwidth, both ways", "3.00 GB/s sum", "1.00 GB/s + 2.00 GB/s", "the sum of both directions"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn no_line_exceeds_80_columns() {
        let mut cells = vec![cell("write", 4096), cell("register", 1 << 20), cell("read", 65536)];
        for cell in &mut cells {
            (cell.path.asked, cell.path.observed) =
                (Some(PathName::HostBridgeTranslated), PathName::HostBridgeTranslated);
        }
        (cells[1].outcome, cells[1].measured.latency_ns) = (Outcome::Waived, None);
        cells[1].reason = Some("a reason of many words ".repeat(9));
        cells[1].remedy = Some("a remedy of many words ".repeat(9));
        let text = table(&cells, 80);
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(80), "{text}");
        // Values that all rows share move above the table.
        assert!(text.starts_with("All rows: ") && text.contains("path host-bridge-translated\n"), "{text}");
    }
}
