//! The host that a command looks at: this one, or a snapshot of another.

use std::path::Path;

use peerpath_paths::{Bdf, Inventory, Tree};

use crate::failure::Failure;

/// Reads this host, or the snapshot at `root`.
pub(super) fn inventory(root: Option<&Path>) -> Result<Inventory, Failure> {
    Ok(Inventory::read(&tree(root)?))
}

/// The files of this host, or of the snapshot at `root`.
pub(super) fn tree(root: Option<&Path>) -> Result<Tree, Failure> {
    Ok(root.map_or_else(|| Ok(Tree::live()), Tree::open)?)
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

/// The function that a TARGET stands for: a bare BDF, `iommufd:BDF`, or the function that a device such as `verbs:rxe0`
/// sits on.
pub(super) fn importer(inventory: &Inventory, target: &str) -> Result<Bdf, Failure> {
    let address = target.strip_prefix("iommufd:").unwrap_or(target);
    if let Ok(bdf) = address.parse() {
        return known(inventory, bdf);
    }
    // A port after the device says nothing about the function.
    let device = target.split('/').next().unwrap_or(target);
    let sits_here = |function: &&peerpath_paths::Function| function.devices.iter().any(|name| name == device);
    match inventory.topology.functions().iter().find(sits_here) {
        Some(function) => Ok(function.bdf),
        None => Err(Failure::bad_input(
            format!("{target} stands for no function"),
            "it is neither a BDF nor a device that sits on one",
            "write a BDF such as 0000:04:00.0, or a device that `peerpath list` shows",
        )),
    }
}
