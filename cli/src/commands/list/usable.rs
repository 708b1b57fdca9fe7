//! Which functions can be used as they are, and which are in use.

use peerpath_host::{HostTree, uses};
use peerpath_paths::{Inventory, ListEntry, Tree};

/// A function, whether it can be used, and its current uses.
#[derive(Debug)]
pub(super) struct ListedFunction {
    pub(super) entry: ListEntry,
    /// Whether it can be a source or a target without `bind`.
    pub(super) is_usable: bool,
    /// Whether it can be a source without `bind`, if it has an exportable BAR.
    pub(super) is_source: bool,
    /// What `--to` accepts for it.
    pub(super) targets: Vec<String>,
    /// Uses of the function, as clauses. Empty if it is not in use, and for a snapshot.
    pub(super) uses: Vec<String>,
}

/// The functions, usable ones first.
pub(super) fn functions(tree: &Tree, inventory: &Inventory, entries: Vec<ListEntry>) -> Vec<ListedFunction> {
    let nvidia = inventory.nvidia_gpus();
    let host = tree.is_live().then(HostTree::live);
    let function = |entry: ListEntry| {
        let is_vfio = tree.has_vfio_driver(entry.bdf);
        let uses = host.as_ref().map(|host| uses_of(tree, host, &entry, is_vfio)).unwrap_or_default();
        // A run binds a function without a driver itself.
        let is_source = uses.is_empty() && (is_vfio || entry.driver.is_none());
        let mut targets: Vec<String> = entry.devices.iter().filter(|device| is_target(device)).cloned().collect();
        let is_usable = is_source || !targets.is_empty() || nvidia.contains(&entry.bdf);
        if is_source {
            targets.push(format!("iommufd:{}", entry.bdf));
        }
        ListedFunction { entry, is_usable, is_source, targets, uses }
    };
    let mut functions: Vec<_> = entries.into_iter().map(function).collect();
    // The sort is stable: functions stay ordered by address.
    functions.sort_by_key(|function| !function.is_usable);
    functions
}

/// Whether a device can import memory with the current driver.
fn is_target(device: &str) -> bool {
    device.starts_with("verbs:") || device.starts_with("cuda:")
}

/// A use that cannot be read, e.g. without root, is not listed.
fn uses_of(tree: &Tree, host: &HostTree, entry: &ListEntry, is_vfio: bool) -> Vec<String> {
    if is_vfio {
        let holders = tree.vfio_users(entry.bdf).unwrap_or_default();
        return holders.iter().map(|process| format!("process {process} has it open through VFIO")).collect();
    }
    uses(host, entry.bdf).unwrap_or_default().into_iter().map(|one| one.detail).collect()
}
