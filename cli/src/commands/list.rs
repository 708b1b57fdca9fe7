//! `peerpath list`.

mod gpus;

use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_cuda::Driver;
use peerpath_importers::IMPORTERS;
use peerpath_paths::{Inventory, ListEntry};
use peerpath_report::units;

use super::inspected_host::InspectOptions;
use crate::table::{self, Table};
use crate::terminal::{self, print, print_json};
use crate::text_layout::shortened;

/// List PCI functions with exportable BARs, and devices that can import them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath list           values for --from and --to on this host
  peerpath list --json    every function
  peerpath list --root lspci.txt
                          another host, from the output of `lspci -vvvnn`")]
pub(super) struct List {
    #[command(flatten)]
    inspect: InspectOptions,
}

impl List {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let tree = self.inspect.tree()?;
        let inventory = Inventory::read(&tree);
        let mut entries = inventory.list();
        // Only this host's driver library enumerates GPUs.
        let gpus = tree.is_live().then(|| Driver::get().and_then(Driver::gpus));
        if let Some(Ok(gpus)) = &gpus {
            gpus::add(gpus, &inventory, &mut entries);
        }
        if self.inspect.json {
            print_json(&entries)?;
        } else {
            let gpus = gpus.as_ref().map(gpus::text).unwrap_or_default();
            print(&text(&entries, &gpus, terminal::width()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(entries: &[ListEntry], gpus: &str, width: usize) -> String {
    let mut table = Table::new(vec![
        table::text("function", 0),
        table::text("name", 2),
        table::text("driver", 0),
        table::number("group", 3),
        table::text("domain", 3),
        table::number("NUMA", 4),
        table::number("BAR", 0),
        table::number("size", 0),
        table::text("export", 0),
        table::text("devices", 1),
    ]);
    for entry in entries {
        let exportable = entry.bars.iter().filter(|bar| bar.exportable);
        let mut function = Some(entry);
        let mut bars: Vec<_> = exportable.map(Some).collect();
        if bars.is_empty() && !entry.devices.is_empty() {
            bars.push(None);
        }
        for bar in bars {
            // Only the first row of a function fills the columns about the function; the rows of its other BARs leave them empty.
            let own = function.take();
            let or_dash = |text: Option<String>| own.map_or(String::new(), |_| text.unwrap_or_else(|| "-".into()));
            table.push(vec![
                own.map_or(String::new(), |entry| entry.bdf.to_string()),
                or_dash(Some(shortened(&entry.name, 40))),
                or_dash(entry.driver.clone()),
                or_dash(entry.iommu_group.map(|group| group.to_string())),
                or_dash(entry.domain_type.clone()),
                or_dash(entry.numa_node.map(|node| node.to_string())),
                bar.map_or("-".into(), |bar| bar.index.to_string()),
                bar.map_or("-".into(), |bar| units::bytes(bar.size_bytes)),
                if bar.is_some() { "yes" } else { "no" }.into(),
                or_dash(Some(entry.devices.join(" "))),
            ]);
        }
    }
    let kinds: Vec<_> = IMPORTERS.iter().map(|importer| importer.usage().form).collect();
    let body = if entries.is_empty() {
        "No PCI functions: /sys/bus/pci/devices is empty.\n".to_owned()
    } else {
        table.render(width)
    };
    format!("{body}\n{gpus}Use FUNCTION:BAR with --from.\nUse {} with --to.\n", kinds.join(", "))
}
