//! `peerpath paths`.

use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_paths::{Bdf, ExporterRule, Inventory, PathReport, Request};

use super::inspected_host::{self as host, Exporter, InspectOptions};
use crate::table::{self, Table};
use crate::terminal::{self, print, print_json};

/// Predict the path that the kernel chooses for each pair of exporter and importer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath paths                            every pair of this host
  peerpath paths --from 0000:03:00.0 --to 0000:04:00.0
                                            one pair, with the deciding fact
  peerpath paths --from cuda:0 --to verbs:mlx5_0
                                            memory of a GPU, which the GPU's own driver exports
  peerpath paths --root host.tar.gz --json  another host, from its snapshot

The memory of a function with a GPU driver (nvidia, amdgpu, xe, i915, nouveau) is exported by that driver, whose
rule then decides about importers; any other function exports a BAR through VFIO. A BAR after the address
(0000:03:00.0:2) selects VFIO for a GPU, too. `predicted` is the decision of p2pdma for the pair in all cases.")]
pub(super) struct Paths {
    /// Exporter, e.g. 0000:03:00.0, 0000:03:00.0:2 or cuda:0  [default: every function with an exportable BAR]
    #[arg(long, value_name = "BDF[:BAR]|cuda:N")]
    from: Option<Exporter>,
    /// Importer, e.g. 0000:04:00.0, verbs:mlx5_0 or cuda:0  [default: every function except bridges]
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    #[command(flatten)]
    inspect: InspectOptions,
}

impl Paths {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let tree = self.inspect.tree()?;
        let is_live = tree.is_live();
        let inventory = Inventory::read(&tree);
        let from = self.from.as_ref().map(|from| from.function(&inventory, is_live)).transpose()?;
        let to = self.to.as_deref().map(|text| host::importer(&inventory, text, is_live)).transpose()?;
        let own_address_space = self.to.as_deref().is_some_and(host::has_own_address_space);
        let bar = self.from.as_ref().and_then(Exporter::bar);
        let request = Request { bar, own_address_space, ..Request::default() };
        let gpus = [(self.from.as_ref().and_then(Exporter::gpu), from), (self.to.as_deref(), to)];
        let notes: Vec<String> =
            gpus.into_iter().filter_map(|(name, bdf)| host::gpu_note(name?, bdf?, is_live)).collect();
        let mut reports = inventory.reports(from, to, request);
        reports.iter_mut().for_each(|report| report.notes.extend_from_slice(&notes));
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
    let rules = gpu_rules(reports);
    format!("{}\n{rules}{hint}For the details of a pair, use --from BDF --to BDF.\n", table.render(width))
}

/// The rules of the GPU drivers among the exporters, a line each.
fn gpu_rules(reports: &[PathReport]) -> String {
    let mut rules: Vec<ExporterRule> = Vec::new();
    for report in reports.iter().filter(|report| report.rule.is_gpu()) {
        if !rules.contains(&report.rule) {
            rules.push(report.rule);
        }
    }
    rules.iter().map(|rule| format!("Exporters with the driver {}: {}.\n", rule.as_str(), rule.describe())).collect()
}

fn detail(report: &PathReport) -> String {
    let mut text = format!("{} -> {}: {}", report.from, report.to, report.predicted);
    if let Some(cause) = report.cause {
        text += &format!(" [{cause}]");
    }
    text += &format!("\n  because       {}\n", report.deciding.fact);
    text += &format!("  rule          {}\n", report.rule.describe());
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
        // The line `rule` already states the rule.
        for line in lines.iter().filter(|line| *line != report.rule.describe()) {
            text += &format!("  {head:<13} {}\n", crate::terminal::printable(line));
        }
    }
    text
}
