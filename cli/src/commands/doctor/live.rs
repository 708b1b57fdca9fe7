//! Facts that only the running host can report: the users of a function, and whether devices and libraries respond.

use std::collections::BTreeMap;
use std::path::Path;

use peerpath_cuda::{Driver, Gpu};
use peerpath_host::{Hold, HostTree, Options, uses};
use peerpath_importers::{Availability, IMPORTERS, Importer, parse_target};
use peerpath_observe as observe;
use peerpath_paths::doctor::{GpuFacts, Gpus, LiveFacts, Selection, Use};
use peerpath_paths::{Cause, Explained, Explanation, Inventory};

/// Reads the facts from this host.
pub(super) fn ask(inventory: &Inventory, selection: &Selection) -> LiveFacts {
    LiveFacts {
        exporter_uses: selection.from.map(|bdf| match uses(&HostTree::live(), bdf) {
            Ok(uses) => Ok(uses.into_iter().map(|one| Use { detail: one.detail, forceable: one.forceable }).collect()),
            Err(error) => Err(error.explanation()),
        }),
        rdma_library: library(),
        gpus: gpus(),
        targets: targets(inventory, selection),
        observation: observe::available(Path::new("/")).map_err(|error| error.explanation()),
    }
}

fn gpus() -> Result<Gpus, Explanation> {
    let driver = Driver::get().map_err(|error| error.explanation())?;
    let found = driver.gpus().map_err(|error| error.explanation())?;
    let facts = |gpu: Gpu| GpuFacts {
        target: format!("cuda:{}", gpu.index),
        name: gpu.name,
        bdf: gpu.bdf,
        memory_bytes: gpu.memory_bytes,
        dma_buf: gpu.dma_buf,
        gpu_direct_rdma: gpu.gpu_direct_rdma,
        writes_ordered: gpu.writes_ordered,
    };
    Ok(Gpus { cuda: driver.version().to_string(), gpus: found.into_iter().map(facts).collect() })
}

/// Whether libibverbs is installed and lists the devices. In a build without verbs support, returns the error of the target
/// kind `verbs`.
fn library() -> Result<(), Explanation> {
    let Some(verbs) = IMPORTERS.iter().find(|importer| importer.kind() == "verbs") else {
        return parse_target("verbs:").map(drop).map_err(|error| error.explanation());
    };
    match verbs.library().map_err(|error| error.explanation()) {
        Err(why) if why.cause == Some(Cause::LibraryMissing) => Err(why),
        _ => Ok(()),
    }
}

fn targets(inventory: &Inventory, selection: &Selection) -> BTreeMap<String, Result<(), Explanation>> {
    let functions = inventory.topology.functions().iter();
    functions
        .filter(|function| selection.to.is_none_or(|to| to == function.bdf))
        .flat_map(|function| &function.devices)
        .filter(|name| selection.device.as_ref().is_none_or(|wanted| wanted == *name))
        .filter_map(|name| {
            let (importer, address) = parse_target(name).ok()?;
            Some((name.clone(), probe(importer, address)))
        })
        .collect()
}

fn probe(importer: &dyn Importer, address: &str) -> Result<(), Explanation> {
    let usable = usable(importer, address);
    match (&usable, importer.vfio_function(address)) {
        // A run can bind the function itself, so a missing VFIO driver is not a problem.
        (Err(Explanation { cause: Some(Cause::DriverNotVfio), .. }), Some(bdf))
            if Hold::probe(bdf, &Options::default()).is_ok() =>
        {
            Ok(())
        }
        _ => usable,
    }
}

fn usable(importer: &dyn Importer, address: &str) -> Result<(), Explanation> {
    match importer.probe(address) {
        Ok(Availability::Ready) => Ok(()),
        Ok(Availability::HostMemoryOnly(why) | Availability::Waived(why)) => Err(why),
        Err(error) => Err(error.explanation()),
    }
}
