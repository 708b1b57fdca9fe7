//! Pairs as a list with one line per pair. The lines are printed as they are computed: a host can have millions of pairs.

use peerpath_bench::failure::Failure;
use peerpath_paths::{Bdf, Inventory, PathReport, Request, printable};

use super::gpu_rules::GpuRules;
use super::reasons::{Reasons, UNKNOWN_FACTS};
use super::{NO_PAIRS, remaining_blockers};
use crate::table::{self, Table};
use crate::terminal::{self, print as print_text, stream};

/// Prints the pairs of one exporter, of one importer, or of all. `facts` adds the deciding fact to each line; otherwise the
/// reasons are grouped below the list. `remedy`: how to supply unknown facts.
pub(super) fn print(
    inventory: &Inventory,
    from: Option<Bdf>,
    to: Option<Bdf>,
    request: Request,
    facts: bool,
    remedy: &'static str,
) -> Result<(), Failure> {
    let width = terminal::width();
    // The list omits pairs of a function with itself; the JSON output has them.
    let pairs = |from, to| inventory.reports(from, to, request).filter(|report| report.from != report.to);
    let Some(first) = pairs(from, to).next() else { return print_text(NO_PAIRS) };
    let mut columns = vec![
        table::text("from", 0),
        table::text("to", 0),
        table::text("device", 3),
        table::text("predicted", 0),
        table::text("distance", 3),
        table::text("cause", 1),
        table::text("blockers", 2),
    ];
    if facts {
        columns.push(table::text("because", 4));
    }
    // Compute the widths of the columns from a sample: the pairs of one exporter and of one importer contain all names, and in
    // practice the longest text of every column.
    let mut sample = Table::new(columns);
    for report in pairs(Some(first.from), to).chain(pairs(from, Some(first.to))) {
        sample.push(row(inventory, &report, facts));
    }
    let layout = sample.layout(width);
    stream(|out| {
        out.write_all(layout.header().as_bytes())?;
        let mut reasons = Reasons::new(remedy);
        let mut bound_by_run = false;
        let mut unknown = false;
        let mut rules = GpuRules::default();
        for report in pairs(from, to) {
            out.write_all(layout.row(&row(inventory, &report, facts)).as_bytes())?;
            rules.add(report.rule);
            bound_by_run |= remaining_blockers(inventory, &report).len() < report.blockers.len();
            if facts {
                unknown |= !report.unknown.is_empty();
            } else {
                reasons.add(&report, 1);
            }
        }
        if facts {
            let hint = format!("{UNKNOWN_FACTS}{remedy}\n");
            write!(out, "\n{}", if unknown { &hint } else { "" })?;
        } else {
            let text = reasons.render(|bdf| bdf.to_string(), |path| path.to_string(), width.clamp(40, 120));
            write!(out, "\n{text}\n")?;
        }
        if bound_by_run {
            writeln!(out, "`peerpath run` binds exporters without a driver to vfio-pci.")?;
        }
        let rules = rules.render(width.clamp(40, 120));
        writeln!(out, "{rules}For the details of a pair, use --from BDF --to BDF.")
    })
}

fn row(inventory: &Inventory, report: &PathReport, facts: bool) -> Vec<String> {
    let devices = inventory.topology.function(report.to).map(|function| function.devices.join(" "));
    let blockers: Vec<_> = remaining_blockers(inventory, report).iter().map(|cause| cause.as_str()).collect();
    let mut row = vec![
        report.from.to_string(),
        report.to.to_string(),
        printable(&devices.unwrap_or_default()),
        report.predicted.to_string(),
        report.locality.map_or("?", |locality| locality.as_str()).to_owned(),
        report.cause.map_or("-", |cause| cause.as_str()).to_owned(),
        if blockers.is_empty() { "-".to_owned() } else { blockers.join(" ") },
    ];
    if facts {
        row.push(printable(&report.deciding.fact));
    }
    row
}
