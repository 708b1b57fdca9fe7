//! `peerpath list`.

use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_importers::IMPORTERS;
use peerpath_paths::{Inventory, ListEntry, Tree};
use peerpath_report::units;

use super::gpus;
use crate::table::Table;
use crate::terminal::{self, print, print_json};

/// List functions whose BARs can be exported, and the devices that sit on functions.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath list                what --from and --to can name on this host
  peerpath list --json         every function, for programs")]
pub(super) struct List {
    /// For programs
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let inventory = Inventory::read(&Tree::live());
        let mut entries = inventory.list();
        let gpus = gpus::all();
        if let Ok((_, gpus)) = &gpus {
            gpus::add(gpus, &inventory, &mut entries);
        }
        if self.json {
            print_json(&entries)?;
        } else {
            print(&text(&entries, &gpus::text(&gpus), terminal::width()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(entries: &[ListEntry], gpus: &str, width: usize) -> String {
    let columns = [
        ("function", false, 0),
        ("name", false, 2),
        ("driver", false, 0),
        ("group", true, 3),
        ("domain", false, 3),
        ("NUMA", true, 4),
        ("BAR", true, 0),
        ("size", true, 0),
        ("export", false, 0),
        ("devices", false, 1),
    ];
    let mut table = Table::new(&columns);
    for entry in entries {
        let exportable = entry.bars.iter().filter(|bar| bar.exportable);
        let mut function = Some(entry);
        let mut bars: Vec<_> = exportable.map(Some).collect();
        if bars.is_empty() && !entry.devices.is_empty() {
            bars.push(None);
        }
        for bar in bars {
            // The function's own columns stand beside its first BAR only.
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
                if bar.is_some() { "yes" } else { "no BAR to export" }.into(),
                or_dash(Some(entry.devices.join(" "))),
            ]);
        }
    }
    let kinds: Vec<_> = IMPORTERS.iter().map(|importer| importer.usage().form).collect();
    let body = if entries.is_empty() {
        "no PCI functions: this machine shows none under /sys/bus/pci/devices\n".to_owned()
    } else {
        table.render(width)
    };
    format!("{body}\n{gpus}--from takes FUNCTION:BAR, --to takes {}\n", kinds.join(" or "))
}

fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest - 1).chain(['…']).collect()
}
