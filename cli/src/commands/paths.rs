//! `peerpath paths`.

mod ceiling;
mod gpu_rules;
mod list;
mod matrix;
mod reasons;

use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_paths::ceiling::CeilingReport;
use peerpath_paths::{Bdf, Cause, Inventory, PathName, PathReport, Request, printable};
use serde::Serialize;

use super::inspected_host::{self as host, Exporter, InspectOptions};
use crate::terminal::{self, print, print_json_array};

/// Predict the path that the kernel chooses for each pair of exporter and importer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath paths                            GPUs, NICs, drives, VFIO functions
  peerpath paths --all                      every pair of this host
  peerpath paths --from 0000:03:00.0        one exporter, and every importer
  peerpath paths --from 0000:03:00.0 --to 0000:04:00.0
                                            one pair, with the deciding fact
  peerpath paths --from cuda:0 --to verbs:mlx5_0
                                            memory of a GPU, which the GPU's own driver exports
  peerpath paths --root host.tar.gz --json  another host, from its snapshot
  peerpath paths --root lspci.txt --cpu \"AMD EPYC 7763\"
                                            another host, from the output of `lspci -vvvnn`

A GPU driver (nvidia, amdgpu, xe, i915, nouveau) exports the memory of its GPU, and its own rule decides which \
importers may map it. Any other function exports a BAR through VFIO. For a GPU, an address with a BAR \
(0000:03:00.0:2) selects VFIO. The predicted path is the decision of the kernel (P2PDMA and the DMA API) for the pair. \
The rule of a GPU driver is printed separately.

For one pair (--from and --to), the ceiling is the highest payload rate that the PCIe links of the path allow, for writes of \
the importer into the exported memory and for reads from it. Measured rates are lower. Emulated devices have no ceiling. \
docs/ceilings.md describes the model and its assumptions.

Exit status: 0, 2 for invalid input, 4 after an I/O error.")]
pub(super) struct Paths {
    /// Exporter, e.g. 0000:03:00.0, 0000:03:00.0:2 or cuda:0  [default: every function with an exportable BAR]
    #[arg(long, value_name = "BDF[:BAR]|cuda:N")]
    from: Option<Exporter>,
    /// Importer, e.g. 0000:04:00.0, verbs:mlx5_0 or cuda:0  [default: every function except bridges; the matrix shows
    /// fewer, see --all]
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    /// List every pair with its deciding fact, instead of a matrix of GPUs, RDMA NICs, NVMe drives and functions bound to VFIO
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    inspect: InspectOptions,
}

impl Paths {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let tree = self.inspect.tree()?;
        let is_live = tree.is_live();
        let inventory = Inventory::read(&tree);
        let from = self.from.as_ref().map(|from| from.function(&inventory, is_live)).transpose()?;
        let named = host::named(&inventory, self.to.as_deref())?;
        let to = named.as_deref().map(|text| host::importer(&inventory, text, is_live)).transpose()?;
        let own_address_space = named.as_deref().is_some_and(host::has_own_address_space);
        let bar = self.from.as_ref().and_then(Exporter::bar);
        let request = Request { bar, own_address_space, ..Request::default() };
        let remedy = remedy_for_unknown(&inventory, is_live);
        let gpus = [(self.from.as_ref().and_then(Exporter::gpu), from), (named.as_deref(), to)];
        let notes: Vec<String> =
            gpus.into_iter().filter_map(|(name, bdf)| host::gpu_note(name?, bdf?, is_live)).collect();
        let noted = |mut report: PathReport| {
            report.notes.extend_from_slice(&notes);
            report
        };
        match (from, to) {
            (Some(from), Some(to)) => {
                let report = inventory.reports(Some(from), Some(to), request).next().map(noted);
                let pair = report.map(|report| {
                    let ceiling = ceiling::of(tree, &inventory, &report, named.as_deref());
                    Pair { report, ceiling }
                });
                if self.inspect.json {
                    print_json_array(pair.into_iter())?;
                } else {
                    print(&pair.as_ref().map(|pair| detail(&inventory, pair, remedy)).unwrap_or_default())?;
                }
            }
            _ if self.inspect.json => print_json_array(inventory.reports(from, to, request).map(noted))?,
            (None, None) if !self.all => print(&matrix::text(&inventory, request, remedy, terminal::width()))?,
            _ => list::print(&inventory, from, to, request, self.all, remedy)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// One pair in detail.
#[derive(Serialize)]
struct Pair {
    #[serde(flatten)]
    report: PathReport,
    ceiling: CeilingReport,
}

/// How to supply the unknown facts of another host, as sentences after a space; empty for this host.
fn remedy_for_unknown(inventory: &Inventory, is_live: bool) -> &'static str {
    match inventory.host.command_line {
        _ if is_live => "",
        Some(_) => " A snapshot that `peerpath snapshot` takes on the host contains them.",
        None => {
            " A snapshot that `peerpath snapshot` takes on the host contains them. If the host booted with iommu=pt or \
             iommu.passthrough=1, --cmdline settles the domain types."
        }
    }
}

/// Whether `run` can use the exporter in spite of its driver: it binds a function without a driver to vfio-pci.
fn run_binds(inventory: &Inventory, exporter: Bdf) -> bool {
    let function = inventory.topology.function(exporter);
    function.is_some_and(|function| function.driver.is_none() && function.driver_known)
}

/// The causes that prevent a transfer, without those that `run` removes itself.
fn remaining_blockers(inventory: &Inventory, report: &PathReport) -> Vec<Cause> {
    let removes = |cause: &Cause| *cause == Cause::DriverNotVfio && run_binds(inventory, report.from);
    report.blockers.iter().copied().filter(|cause| !removes(cause)).collect()
}

/// A change that gives another path, and the option with which `run` makes the change itself.
fn change(text: &str) -> String {
    const OPTIONS: [(PathName, &str); 3] = [
        (PathName::BusAddress, "bus-address"),
        (PathName::HostBridgeBypass, "bypass"),
        (PathName::HostBridgeTranslated, "translated"),
    ];
    let is_made_by_run = text.starts_with("set the domain type") || text.starts_with("clear the ACS redirect bits");
    let option = OPTIONS.iter().find(|(path, _)| is_made_by_run && text.ends_with(&format!("for a {path} path")));
    match option {
        Some((_, option)) => format!("{text} (`peerpath run --path {option}` makes this change itself)"),
        None => text.to_owned(),
    }
}

fn detail(inventory: &Inventory, pair: &Pair, remedy: &str) -> String {
    let Pair { report, ceiling } = pair;
    let mut text = format!("{} -> {}: {}", report.from, report.to, report.predicted);
    if let Some(cause) = report.cause {
        text += &format!(" [{cause}]");
    }
    text += &format!("\n  because       {}\n", report.deciding.fact);
    text += &format!("  rule          {}\n", report.rule.describe());
    if let Some(locality) = report.locality {
        text += &format!("  distance      {locality} ({})\n", locality.about());
    }
    let hops: Vec<_> = report.hops.iter().map(Bdf::to_string).collect();
    if !hops.is_empty() {
        text += &format!("  hops          {}\n", hops.join(" "));
    }
    text += &ceiling::text(ceiling);
    let blockers = remaining_blockers(inventory, report);
    let words: Vec<_> = blockers.iter().map(|cause| cause.as_str()).collect();
    if !words.is_empty() {
        text += &format!("  blocked by    {}\n", words.join(" "));
    }
    if blockers.len() < report.blockers.len() {
        text += &format!("  driver        {} has none; `peerpath run` binds it to vfio-pci\n", report.from);
    }
    let changes = report.would_change.iter().map(|text| change(text)).collect();
    let mut unknown = report.unknown.clone();
    if !unknown.is_empty() && !remedy.is_empty() {
        unknown.push(format!("Where to find these facts:{remedy}"));
    }
    for (head, lines) in [("other paths", &changes), ("unknown", &unknown), ("note", &report.notes)] {
        // The line `rule` already states the rule.
        for line in lines.iter().filter(|line| *line != report.rule.describe()) {
            text += &format!("  {head:<13} {}\n", printable(line));
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
