//! The GPUs of this host, for those who list them.

use peerpath_cuda::{Driver, Error, Gpu};
use peerpath_paths::{Explained, Inventory, ListEntry};
use peerpath_report::units;

/// The driver and its GPUs.
///
/// # Errors
/// There is no driver, or it failed.
pub(super) fn all() -> Result<(&'static Driver, Vec<Gpu>), Error> {
    let driver = Driver::get()?;
    Ok((driver, driver.gpus()?))
}

/// Adds GPUs to the functions that they sit on. A function that this machine does not show has an entry all the same.
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

/// The GPUs in a line each, or why there are none.
pub(super) fn text(found: &Result<(&'static Driver, Vec<Gpu>), Error>) -> String {
    match found {
        Err(error) => {
            let explanation = error.explanation();
            format!("no GPU: {error}: {} {}\n", explanation.why, explanation.remedy)
        }
        Ok((driver, gpus)) if gpus.is_empty() => {
            format!("no GPU: the driver speaks CUDA {} and has none\n", driver.version())
        }
        Ok((driver, gpus)) => {
            let one = |gpu: &Gpu| {
                let place = gpu.bdf.map_or_else(|| "on no PCI bus".to_owned(), |bdf| format!("at {bdf}"));
                let memory = units::bytes(gpu.memory_bytes);
                format!("cuda:{}: {} {place}, {memory}, CUDA {}\n", gpu.index, gpu.name, driver.version())
            };
            gpus.iter().map(one).collect()
        }
    }
}
