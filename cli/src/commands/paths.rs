//! `peerpath paths`.

mod list;
mod matrix;
mod reasons;

use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_paths::{Bdf, Inventory, PathName, PathReport, Request};

use super::inspected_host::{self as host, InspectOptions};
use crate::terminal::{self, print, print_json_array};

/// Predict the path that the kernel chooses for each pair of exporter and importer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath paths                            GPUs, RDMA NICs, NVMe drives and functions bound to VFIO
  peerpath paths --all                      every pair of this host
  peerpath paths --from 0000:03:00.0        one exporter, and every importer
  peerpath paths --from 0000:03:00.0 --to 0000:04:00.0
                                            one pair, with the deciding fact
  peerpath paths --root host.tar.gz --json  another host, from its snapshot")]
pub(super) struct Paths {
    /// Exporter, e.g. 0000:03:00.0  [default: every function with an exportable BAR]
    #[arg(long, value_name = "BDF")]
    from: Option<Bdf>,
    /// Importer, e.g. 0000:04:00.0 or verbs:mlx5_0  [default: every function except bridges]
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    /// List every pair with its deciding fact, instead of a matrix of the functions that matter most
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    inspect: InspectOptions,
}

impl Paths {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let inventory = Inventory::read(&self.inspect.tree()?);
        let from = self.from.map(|bdf| host::known(&inventory, bdf)).transpose()?;
        let to = self.to.as_deref().map(|text| host::importer(&inventory, text)).transpose()?;
        let own_address_space = self.to.as_deref().is_some_and(host::has_own_address_space);
        let request = Request { own_address_space, ..Request::default() };
        if self.inspect.json {
            print_json_array(inventory.reports(from, to, request))?;
            return Ok(ExitCode::SUCCESS);
        }
        match (from, to) {
            (Some(from), Some(to)) => {
                let report = inventory.reports(Some(from), Some(to), request).next();
                print(&report.as_ref().map(detail).unwrap_or_default())?;
            }
            (None, None) if !self.all => print(&matrix::text(&inventory, request, terminal::width()))?,
            _ => list::print(&inventory, from, to, request, self.all)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn detail(report: &PathReport) -> String {
    let mut text = format!("{} -> {}: {}", report.from, report.to, report.predicted);
    if let Some(cause) = report.cause {
        text += &format!(" [{cause}]");
    }
    text += &format!("\n  because       {}\n", report.deciding.fact);
    if let Some(locality) = report.locality {
        text += &format!("  distance      {locality} ({})\n", locality.about());
    }
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

/// Printed if no pair exists.
const NO_PAIRS: &str = "No pairs: this host needs a function with an exportable BAR and another function.\n";

/// Short name of a path, for matrices.
fn short(path: PathName) -> &'static str {
    match path {
        PathName::BusAddress => "bus",
        PathName::HostBridgeBypass => "byp",
        PathName::HostBridgeTranslated => "trn",
        PathName::Refused => "ref",
        PathName::Unknown => "?",
        // Predictions do not contain the baselines.
        PathName::HostMemory | PathName::Staged => path.as_str(),
    }
}
