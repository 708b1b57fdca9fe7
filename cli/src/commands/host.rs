//! The host that a command looks at: this one, or a snapshot of another.

use std::path::PathBuf;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_importers::IMPORTERS;
use peerpath_paths::{Bdf, Inventory, Tree};

/// What commands that only look have in common.
#[derive(Debug, Args)]
pub(super) struct Look {
    /// A snapshot to work on instead of this host
    #[arg(long, value_name = "SNAPSHOT.tar.gz|DIR")]
    root: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
}

impl Look {
    /// The files of the host that is looked at.
    pub(super) fn tree(&self) -> Result<Tree, Failure> {
        Ok(self.root.as_deref().map_or_else(|| Ok(Tree::live()), Tree::open)?)
    }
}

/// Reads a host; of this one also what libraries tell and no file does.
pub(super) fn inventory(tree: &Tree) -> Inventory {
    let mut inventory = Inventory::read(tree);
    if tree.is_live() {
        let devices = IMPORTERS.iter().flat_map(|importer| importer.on_demand_paging());
        inventory.host.facts.on_demand_paging = devices.collect();
    }
    inventory
}

/// The function, if the host has it.
pub(super) fn known(inventory: &Inventory, bdf: Bdf) -> Result<Bdf, Failure> {
    match inventory.topology.function(bdf) {
        Some(_) => Ok(bdf),
        None => Err(Failure::bad_input(
            format!("there is no function {bdf}"),
            "sysfs does not show it",
            "choose one of those that `peerpath list --json` shows",
        )),
    }
}

/// Whether a TARGET maps into an address space of its own.
pub(super) fn has_own_address_space(target: &str) -> bool {
    peerpath_importers::parse_target(target).is_ok_and(|(importer, _)| importer.capabilities().own_address_space)
}

/// The function that a device sits on of which only its library knows: GPUs.
fn discovered(target: &str) -> Option<Bdf> {
    let (importer, _) = peerpath_importers::parse_target(target).ok()?;
    let name = target.split('?').next().unwrap_or(target);
    importer.discover().into_iter().find(|found| found.target == name)?.bdf
}

/// The function that a TARGET stands for: a bare BDF, `iommufd:BDF`, or the function that a device such as `verbs:rxe0`
/// sits on.
pub(super) fn importer(inventory: &Inventory, target: &str) -> Result<Bdf, Failure> {
    let address = target.strip_prefix("iommufd:").unwrap_or(target);
    if let Ok(bdf) = address.parse() {
        return known(inventory, bdf);
    }
    match inventory.function_under(target).or_else(|| discovered(target)) {
        Some(bdf) => Ok(bdf),
        None => Err(Failure::bad_input(
            format!("{target} stands for no function"),
            "it is neither a BDF nor a device that sits on one",
            "write a BDF such as 0000:04:00.0, or a device that `peerpath list` shows",
        )),
    }
}
