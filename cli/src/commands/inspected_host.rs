//! The host that `list`, `paths` and `doctor` inspect (this host or a snapshot), and its functions.

use std::path::PathBuf;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_importers::IMPORTERS;
use peerpath_paths::{Bdf, Inventory, Tree};

/// Options of the commands that inspect a host without changing it.
#[derive(Debug, Args)]
pub(super) struct InspectOptions {
    /// Snapshot to inspect instead of this host
    #[arg(long, value_name = "SNAPSHOT.tar.gz|DIR")]
    root: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl InspectOptions {
    /// The file tree of the inspected host.
    pub(super) fn tree(&self) -> Result<Tree, Failure> {
        Ok(self.root.as_deref().map_or_else(|| Ok(Tree::live()), Tree::open)?)
    }
}

/// The inventory of a host. For this host it includes facts that only the importers' libraries report.
pub(super) fn inventory(tree: &Tree) -> Inventory {
    let mut inventory = Inventory::read(tree);
    if tree.is_live() {
        let devices = IMPORTERS.iter().flat_map(|importer| importer.on_demand_paging());
        inventory.host.facts.on_demand_paging = devices.collect();
    }
    inventory
}

/// Returns `bdf` if the host has this function.
pub(super) fn known(inventory: &Inventory, bdf: Bdf) -> Result<Bdf, Failure> {
    match inventory.topology.function(bdf) {
        Some(_) => Ok(bdf),
        None => Err(Failure::bad_input(
            format!("cannot find function {bdf}"),
            "it is not in sysfs",
            "choose a function from `peerpath list --json`",
        )),
    }
}

/// Whether a TARGET maps buffers into an IOVA space of its own, separate from that of its kernel driver.
pub(super) fn has_own_address_space(target: &str) -> bool {
    peerpath_importers::parse_target(target).is_ok_and(|(importer, _)| importer.capabilities().own_address_space)
}

/// PCI function of a device that only its library enumerates, e.g. a GPU.
fn discovered(target: &str) -> Option<Bdf> {
    let (importer, _) = peerpath_importers::parse_target(target).ok()?;
    let name = target.split('?').next().unwrap_or(target);
    importer.discover().into_iter().find(|found| found.target == name)?.bdf
}

/// The function of a TARGET: a BDF, `iommufd:BDF`, or the function of a device such as `verbs:mlx5_0`.
pub(super) fn importer(inventory: &Inventory, target: &str) -> Result<Bdf, Failure> {
    let address = target.strip_prefix("iommufd:").unwrap_or(target);
    if let Ok(bdf) = address.parse() {
        return known(inventory, bdf);
    }
    match inventory.function_under(target).or_else(|| discovered(target)) {
        Some(bdf) => Ok(bdf),
        None => Err(Failure::bad_input(
            format!("cannot find the function of {target}"),
            "it is neither a BDF nor a device of a PCI function",
            "use a BDF such as 0000:04:00.0, or a device from `peerpath list`",
        )),
    }
}
