//! GPUs of this host, as entries of `list`.

use peerpath_cuda::{Error, Gpu};
use peerpath_paths::{Cause, Explained as _, Inventory, ListEntry};
use peerpath_report::units;

/// Adds each GPU to the entry of its function. A function that is not in sysfs gets a new entry.
pub(super) fn add(gpus: &[Gpu], inventory: &Inventory, entries: &mut Vec<ListEntry>) {
    for gpu in gpus {
        let Some(bdf) = gpu.bdf else { continue };
        let name = format!("cuda:{}", gpu.index);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.bdf == bdf) {
            entry.devices.push(name);
            continue;
        }
        let seen = inventory.topology.function(bdf).map(|function| inventory.entry(function));
        let unseen = || ListEntry {
            bdf,
            name: gpu.name.clone(),
            driver: None,
            iommu_group: None,
            domain_type: None,
            numa_node: None,
            bars: Vec::new(),
            devices: Vec::new(),
        };
        let mut entry = seen.unwrap_or_else(unseen);
        entry.devices.push(name);
        entries.push(entry);
    }
    entries.sort_by_key(|entry| entry.bdf);
}

/// Formats one line per GPU, or the reason why the GPUs of this host cannot be used. `has_nvidia`: whether this host has NVIDIA
/// GPUs.
pub(super) fn text(found: &Result<Vec<Gpu>, Error>, has_nvidia: bool) -> String {
    match found {
        Err(_) if !has_nvidia => String::new(),
        Err(error) if error.explanation().cause == Some(Cause::LibraryMissing) => {
            "No GPUs: cannot load libcuda.\n".to_owned()
        }
        Err(error) => format!("No GPUs: {error}.\n"),
        Ok(gpus) if gpus.is_empty() && has_nvidia => "No GPUs: the CUDA driver found none.\n".to_owned(),
        Ok(gpus) => {
            let line = |gpu: &Gpu| {
                let location = gpu.bdf.map_or_else(String::new, |bdf| format!(" at {bdf}"));
                format!("cuda:{}: {}{location}, {}\n", gpu.index, gpu.name, units::bytes(gpu.memory_bytes))
            };
            gpus.iter().map(line).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_gpus_reads_nothing_about_them() {
        assert_eq!(text(&Ok(Vec::new()), false), "");
        assert_eq!(text(&Ok(Vec::new()), true), "No GPUs: the CUDA driver found none.\n");
    }
}
