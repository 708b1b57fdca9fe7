//! `peerpath list`.

mod gpus;
mod text;
mod usable;

use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_cuda::Driver;
use peerpath_paths::Inventory;

use super::inspected_host::InspectOptions;
use crate::terminal::{self, print, print_json};

/// List sources and targets that can be used now, and functions that are in use.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath list           values for --from and --to on this host
  peerpath list --all     also functions that a kernel driver controls
  peerpath list --json    every function as JSON
  peerpath list --root lspci.txt
                          another host, from the output of `lspci -vvvnn`

A function is a source if it has an exportable BAR, and a VFIO driver or none: the column `export` is then `yes`, and --from \
accepts FUNCTION:BAR. The column `target` holds what --to accepts. Other functions need `peerpath bind` first. A function is in use if unbinding its driver would break something, or if a program has it open \
through VFIO.

Exit status: 0, 2 for invalid input, 4 after an I/O error.")]
pub(super) struct List {
    #[command(flatten)]
    inspect: InspectOptions,
    /// Also list functions that can be used only after `peerpath bind`
    #[arg(long, conflicts_with = "json")]
    all: bool,
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
            let has_nvidia = !inventory.nvidia_gpus().is_empty();
            let gpus = gpus.as_ref().map(|found| gpus::text(found, has_nvidia)).unwrap_or_default();
            let functions = usable::functions(&tree, &inventory, entries);
            print(&text::render(&functions, &gpus, self.all, terminal::width()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
