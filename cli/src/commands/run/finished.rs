//! A finished cell in one line, for the progress of a run.

use peerpath_bench::result::{Cell, Outcome};
use peerpath_paths::printable;
use peerpath_report::units::{self, RateUnit};

use super::cells;
use crate::text_layout::shortened;

/// The cell with number `done` of `total`: outcome, operation, figures and path, then source and target. At most `width`
/// characters: on a narrow terminal, source and target are omitted first.
pub(super) fn line(done: usize, total: usize, cell: &Cell, unit: RateUnit, width: usize) -> String {
    let digits = total.to_string().len();
    let mut parts = vec![format!("[{done:>digits$}/{total}] {}", cells::outcome(cell)), operation(cell)];
    if let Some(latency) = &cell.measured.latency_ns {
        parts.push(format!("p50 {}", units::nanoseconds(latency.p50 as f64)));
    }
    parts.extend(cells::p99(cell).map(|p99| format!("p99 {p99}")));
    parts.extend(cell.measured.throughput_bytes_per_s.map(|_| cells::throughput(cell, unit)));
    if cell.outcome == Outcome::Passed {
        parts.push(cells::path(cell));
    } else {
        parts.extend(cell.cause.map(|cause| format!("[{cause}]")));
    }
    parts.extend(cell.offered_operations_per_s.map(|rate| format!("offered {rate}/s")));
    let peer = cell.far.as_ref().map_or_else(String::new, |_| format!(" on peer {}", cells::peer(cell)));
    parts.push(format!("{}{peer} -> {}", cells::source(cell), cells::target(cell)));
    shortened(&printable(&parts.join("  ")), width)
}

/// Operation, mode and size, and the counts that exceed 1.
fn operation(cell: &Cell) -> String {
    let mut text = format!("{} {} {}", cell.op, cells::mode(cell), units::bytes(cell.size_bytes));
    for (what, count) in [("depth", cell.depth), ("qps", cell.qps), ("threads", cell.threads)] {
        if count > 1 {
            text += &format!(" {what} {count}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use peerpath_paths::Cause;

    use super::super::cells::tests::cell;
    use super::*;

    #[test]
    fn prints_outcome_figures_and_path_of_a_passed_cell() {
        let mut measured = cell("write", 4096);
        assert_eq!(
            line(3, 21, &measured, RateUnit::Bytes, usize::MAX),
            "[ 3/21] passed  write completion 4 KiB  p50 2.00 us  p99 9.00 us  bus-address  0000:03:00.0:2 -> verbs:mlx5_0"
        );
        (measured.measured.latency_ns, measured.measured.throughput_bytes_per_s) = (None, Some(1.5e9));
        (measured.mode, measured.depth) = ("bandwidth".to_owned(), 16);
        let text = line(4, 21, &measured, RateUnit::Bytes, usize::MAX);
        assert!(text.contains("write bandwidth 4 KiB depth 16  1.50 GB/s  bus-address"), "{text}");
    }

    #[test]
    fn prints_the_cause_of_a_cell_that_did_not_pass() {
        let mut failed = cell("read", 64);
        (failed.outcome, failed.cause, failed.measured.latency_ns) = (Outcome::Failed, Some(Cause::DataMismatch), None);
        let text = line(1, 3, &failed, RateUnit::Bytes, usize::MAX);
        assert!(text.starts_with("[1/3] FAILED  read completion 64 B  [data-mismatch]  0000"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_keeps_figures_and_path() {
        let text = line(3, 21, &cell("write", 4096), RateUnit::Bytes, 80);
        assert_eq!(text.chars().count(), 80);
        assert!(text.contains("p99 9.00 us  bus-address") && text.ends_with('…'), "{text}");
    }
}
