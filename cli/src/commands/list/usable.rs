//! Which functions can be used as they are, and which are in use.

use peerpath_host::{HostTree, uses};
use peerpath_paths::{Inventory, ListEntry, Tree};

/// A function, whether it can be used, and its current uses.
#[derive(Debug)]
pub(super) struct ListedFunction {
    pub(super) entry: ListEntry,
    /// Whether it can be a source or a target without `bind`.
    pub(super) is_usable: bool,
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
        let is_device = nvidia.contains(&entry.bdf) || is_target(&entry);
        let is_open = is_vfio && !uses.is_empty();
        let is_usable = is_device || (is_vfio && !is_open) || (entry.driver.is_none() && uses.is_empty());
        ListedFunction { entry, is_usable, uses }
    };
    let mut functions: Vec<_> = entries.into_iter().map(function).collect();
    // The sort is stable: functions stay ordered by address.
    functions.sort_by_key(|function| !function.is_usable);
    functions
}

/// Whether a device of the function can import memory with the current driver.
fn is_target(entry: &ListEntry) -> bool {
    entry.devices.iter().any(|device| device.starts_with("verbs:") || device.starts_with("cuda:"))
}

/// A use that cannot be read, e.g. without root, is not listed.
fn uses_of(tree: &Tree, host: &HostTree, entry: &ListEntry, is_vfio: bool) -> Vec<String> {
    if is_vfio {
        let holders = tree.vfio_users(entry.bdf).unwrap_or_default();
        return holders.iter().map(|process| format!("process {process} has it open through VFIO")).collect();
    }
    uses(host, entry.bdf).unwrap_or_default().into_iter().map(|one| one.detail).collect()
}
