//! The revocations of a result, below its table.

use std::collections::BTreeMap;

use peerpath_bench::result::{Cell, Revocation};
use peerpath_paths::printable;
use peerpath_report::units;

use crate::text_layout::hanging;

/// One paragraph per cell that revoked its memory; empty without such cells.
pub(super) fn render(cells: &[Cell], width: usize) -> String {
    let revoked = |cell: &Cell| Some(line(cell, cell.measured.revocation.as_ref()?));
    let lines: Vec<_> = cells.iter().filter_map(revoked).collect();
    if lines.is_empty() {
        return String::new();
    }
    let text =
        "Medians of one repeat. p50 of the table is the upper bound of the time until the memory is unreachable.";
    let lines = lines.iter().map(|text| hanging("  ", 4, text, width));
    format!("\nRevocations:\n{}{}", hanging("  ", 2, text, width), lines.collect::<String>())
}

fn line(cell: &Cell, revocation: &Revocation) -> String {
    let ns = |value: u64| units::nanoseconds(value as f64);
    let resumed = match revocation.resumed_operations {
        0 => String::new(),
        count => format!("; {count} resumed without a new registration"),
    };
    let last_access = match revocation.last_access_ns.p50 {
        0 => "before the call".to_owned(),
        after => format!("{} after the start of the call", ns(after)),
    };
    let text = format!(
        "{} {}: last access {last_access}, call {}, usable again after {}; writes {}; reads {}; {} stale bytes{resumed}",
        cell.op,
        units::bytes(cell.size_bytes),
        ns(revocation.call_ns.p50),
        ns(revocation.usable_again_ns.p50),
        counts(&revocation.write_statuses),
        counts(&revocation.read_statuses),
        revocation.stale_bytes,
    );
    printable(&text)
}

/// Completion statuses, with their numbers if there are several.
fn counts(statuses: &BTreeMap<String, u64>) -> String {
    match statuses.len() {
        1 => statuses.keys().cloned().collect(),
        _ => statuses.iter().map(|(status, count)| format!("{status} ({count})")).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use peerpath_bench::result::Spread;

    use super::super::cells::tests::cell;
    use super::*;

    #[test]
    fn prints_times_statuses_and_stale_bytes() {
        let spread = |p50| Spread { min: 1, p50, max: 9_000_000 };
        let mut measured = cell("revoke_reset", 4096);
        assert_eq!(render(std::slice::from_ref(&measured), 80), "");
        measured.measured.revocation = Some(Revocation {
            kind: "reset".to_owned(),
            outstanding_each_way: 4,
            last_access_ns: spread(1500),
            call_ns: spread(2_000_000),
            usable_again_ns: spread(3_000_000),
            write_statuses: BTreeMap::from([("REM_ACCESS_ERR".to_owned(), 10)]),
            read_statuses: BTreeMap::from([("REM_ACCESS_ERR".to_owned(), 9), ("none".to_owned(), 1)]),
            resumed_operations: 1,
            stale_bytes: 0,
        });
        let text = render(&[measured], usize::MAX);
        for part in [
            "revoke_reset 4 KiB: last access 1.50 us after the start of the call, call 2.00 ms, usable again after 3.00 ms",
            "writes REM_ACCESS_ERR; reads REM_ACCESS_ERR (9), none (1); 0 stale bytes; 1 resumed",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
