//! `peerpath paths`.

use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_paths::{Bdf, Inventory, PathReport, Request};

use super::inspected_host::{self as host, InspectOptions};
use crate::table::{self, Table};
use crate::terminal::{self, print, print_json};

/// Predict the path that the kernel chooses for each pair of exporter and importer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath paths                            every pair of this host
  peerpath paths --from 0000:03:00.0 --to 0000:04:00.0
                                            one pair, with the deciding fact
  peerpath paths --root host.tar.gz --json  another host, from its snapshot
  peerpath paths --root lspci.txt --cpu \"AMD EPYC 7763\"
                                            another host, from the output of `lspci -vvvnn`")]
pub(super) struct Paths {
    /// Exporter, e.g. 0000:03:00.0  [default: every function with an exportable BAR]
    #[arg(long, value_name = "BDF")]
    from: Option<Bdf>,
    /// Importer, e.g. 0000:04:00.0 or verbs:mlx5_0  [default: every function except bridges]
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    #[command(flatten)]
    inspect: InspectOptions,
}

impl Paths {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let inventory = Inventory::read(&self.inspect.tree()?);
        let from = self.from.map(|bdf| host::known(&inventory, bdf)).transpose()?;
        let to = self.to.as_deref().map(|text| host::importer(&inventory, text)).transpose()?;
        let own_address_space = self.to.as_deref().is_some_and(host::has_own_address_space);
        let reports = inventory.reports(from, to, Request { own_address_space, ..Request::default() });
        if self.inspect.json {
            print_json(&reports)?;
        } else {
            print(&text(&inventory, &reports, from.is_some() && to.is_some(), terminal::width()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(inventory: &Inventory, reports: &[PathReport], one: bool, width: usize) -> String {
    if let (true, [report]) = (one, reports) {
        return detail(report);
    }
    // The table omits pairs of a function with itself; the JSON output has them.
    let pairs: Vec<_> = reports.iter().filter(|report| report.from != report.to).collect();
    if pairs.is_empty() {
        return "No pairs: this host needs a function with an exportable BAR and another function.\n".into();
    }
    let mut table = Table::new(vec![
        table::text("from", 0),
        table::text("to", 0),
        table::text("device", 3),
        table::text("predicted", 0),
        table::text("cause", 1),
        table::text("blockers", 2),
        table::text("because", 4),
    ]);
    for report in pairs {
        let devices = inventory.topology.function(report.to).map(|function| function.devices.join(" "));
        let blockers: Vec<_> = report.blockers.iter().map(|cause| cause.as_str()).collect();
        table.push(vec![
            report.from.to_string(),
            report.to.to_string(),
            devices.unwrap_or_default(),
            report.predicted.to_string(),
            report.cause.map_or("-", |cause| cause.as_str()).to_owned(),
            if blockers.is_empty() { "-".to_owned() } else { blockers.join(" ") },
            report.deciding.fact.clone(),
        ]);
    }
    let unknown = reports.iter().any(|report| !report.unknown.is_empty());
    let hint = if unknown { "Some facts are unknown. The details of a pair list them.\n" } else { "" };
    format!("{}\n{hint}For the details of a pair, use --from BDF --to BDF.\n", table.render(width))
}

fn detail(report: &PathReport) -> String {
    let mut text = format!("{} -> {}: {}", report.from, report.to, report.predicted);
    if let Some(cause) = report.cause {
        text += &format!(" [{cause}]");
    }
    text += &format!("\n  because       {}\n", report.deciding.fact);
    let hops: Vec<_> = report.hops.iter().map(Bdf::to_string).collect();
    if !hops.is_empty() {
        text += &format!("  hops          {}\n", hops.join(" "));
    }
    let words: Vec<_> = report.blockers.iter().map(|cause| cause.as_str()).collect();
    if !words.is_empty() {
        text += &format!("  blocked by    {}\n", words.join(" "));
    }
    for (head, lines) in
        [("would change it", &report.would_change), ("unknown", &report.unknown), ("note", &report.notes)]
    {
        for line in lines {
            text += &format!("  {head:<13} {}\n", crate::terminal::printable(line));
        }
    }
    text
}
