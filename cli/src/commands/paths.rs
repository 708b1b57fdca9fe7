//! `peerpath paths`.

use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_paths::{Bdf, Inventory, PathReport, Request};

use super::host::{self, Look};
use crate::table::Table;
use crate::terminal::{self, print, print_json};

/// Predict which way the kernel would choose for each pair of exporter and importer, and why.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath paths                                   every pair of this host
  peerpath paths --from 0000:03:00.0 --to 0000:04:00.0
  peerpath paths --root host.tar.gz --json         another host, from its snapshot")]
pub(super) struct Paths {
    /// Exporter; a function, such as 0000:03:00.0  [default: every one with a BAR to export]
    #[arg(long, value_name = "BDF")]
    from: Option<Bdf>,
    /// Importer: a function, or a target such as verbs:mlx5_0  [default: every function that is no bridge]
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    #[command(flatten)]
    look: Look,
}

impl Paths {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let inventory = Inventory::read(&self.look.tree()?);
        let from = self.from.map(|bdf| host::known(&inventory, bdf)).transpose()?;
        let to = self.to.as_deref().map(|text| host::importer(&inventory, text)).transpose()?;
        let own_address_space = self.to.as_deref().is_some_and(host::has_own_address_space);
        let reports = inventory.reports(from, to, Request { own_address_space, ..Request::default() });
        if self.look.json {
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
    // A function that imports its own BAR interests programs only.
    let pairs: Vec<_> = reports.iter().filter(|report| report.from != report.to).collect();
    if pairs.is_empty() {
        return "no pairs: no function here has a BAR to export and another one beside it\n".into();
    }
    let columns = [
        ("from", false, 0),
        ("to", false, 0),
        ("device", false, 3),
        ("predicted", false, 0),
        ("cause", false, 1),
        ("blockers", false, 2),
        ("because", false, 4),
    ];
    let mut table = Table::new(&columns);
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
    let hint = if unknown { "Some facts could not be read; --from and --to show which for a pair.\n" } else { "" };
    format!("{}\n{hint}--from BDF --to BDF explains one pair.\n", table.render(width))
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
