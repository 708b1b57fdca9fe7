//! The function and the RDMA device that import.

use super::context::rdma_devices;
use super::{Context, Status, Verdict};
use crate::{Cause, DmaBufSupport, FACTS_PATH, Function, RdmaDriver, blockers};

pub(super) fn library(at: &Context<'_>) -> Vec<Verdict> {
    if super::gpu::is_asked(at) {
        return Vec::new();
    }
    vec![match at.live {
        None => Verdict::live_only("host"),
        Some(live) => match &live.rdma_library {
            Ok(()) => Verdict::pass("host", "libibverbs is installed."),
            Err(why) => Verdict::explained(Status::Fail, "host", why),
        },
    }]
}

pub(super) fn exists(at: &Context<'_>) -> Vec<Verdict> {
    if let Some(importer) = at.importer {
        let devices = rdma_devices(importer);
        return vec![if importer.is_bridge() {
            Verdict::fail(
                importer.bdf,
                Cause::NoDevice,
                format!("It is a {}, which imports nothing.", importer.class_name()),
                "Name a NIC or another endpoint.",
            )
        } else if !devices.is_empty() {
            Verdict::pass(importer.bdf, format!("{} sits on it.", devices.join(", ")))
        } else if super::gpu::is_asked(at) {
            Verdict::pass(importer.bdf, "A GPU sits on it.")
        } else if importer.driver.as_deref().is_some_and(blockers::is_vfio) {
            Verdict::pass(importer.bdf, "A VFIO function: an iommufd can map the buffer for it.")
        } else {
            Verdict::warn(
                importer.bdf,
                "No RDMA device sits on it, so nothing imports there yet; what follows is about the function.",
                "Load its RDMA driver; for a plain NIC: rdma link add rxe0 type rxe netdev NAME.",
            )
            .because(Cause::NoDevice)
        }];
    }
    if super::gpu::is_asked(at) {
        return Vec::new();
    }
    let names: Vec<_> = at.rdma_functions().into_iter().flat_map(rdma_devices).map(str::to_owned).collect();
    vec![if !names.is_empty() {
        Verdict::pass("host", format!("RDMA devices on functions: {}.", super::context::few(&names)))
    } else if at.tree.is_live() || at.tree.has(FACTS_PATH) || at.tree.is_directory("sys/class/infiniband") {
        let remedy = if at.host().facts.option("INFINIBAND") == Some(false) {
            "Boot a kernel built with INFINIBAND, on a host with an RDMA NIC whose driver imports (mlx5, irdma)."
        } else {
            "Add an RDMA NIC and load its driver (mlx5_ib, irdma); in the lab: rdma link add rxe0 type rxe netdev NAME."
        };
        Verdict::fail(
            "host",
            Cause::NoDevice,
            "No RDMA device sits on a PCI function, so there is nothing to import into.",
            remedy,
        )
    } else {
        Verdict::unknown("host", "RDMA devices cannot be seen.", "Take the snapshot with `peerpath snapshot`.")
    }]
}

/// The functions whose drivers matter: the one that is named, or all with RDMA devices.
fn functions<'a>(at: &Context<'a>) -> Vec<&'a Function> {
    at.importer.map_or_else(|| at.rdma_functions(), |importer| vec![importer])
}

/// rxe and siw stand on a net device and have none of their own.
fn is_soft(at: &Context<'_>, device: &str) -> bool {
    let name = device.strip_prefix("verbs:").unwrap_or(device);
    at.tree.link(&format!("sys/class/infiniband/{name}")).is_some_and(|target| target.contains("/virtual/"))
        || at.tree.has(&format!("sys/class/infiniband/{name}/parent"))
}

/// The devices of a function that are meant.
fn devices<'a>(at: &Context<'a>, function: &'a Function) -> Vec<&'a str> {
    let wanted = |device: &&str| at.device.is_none_or(|wanted| wanted == *device);
    rdma_devices(function).into_iter().filter(wanted).collect()
}

pub(super) fn driver(at: &Context<'_>) -> Vec<Verdict> {
    functions(at).into_iter().flat_map(|function| driver_of(at, function)).collect()
}

fn driver_of(at: &Context<'_>, function: &Function) -> Vec<Verdict> {
    let bound = function.driver.as_deref();
    if rdma_devices(function).is_empty() {
        return bound
            .filter(|driver| blockers::is_vfio(driver))
            .map(|_| through_iommufd(at, function))
            .into_iter()
            .collect();
    }
    let of_device = |device: &str| {
        // What the device itself answered is worth more than a table.
        if let Some(Ok(())) = at.live.and_then(|live| live.targets.get(device)) {
            return Verdict::pass(device, "It takes dma-bufs.");
        }
        if is_soft(at, device) {
            return Verdict::warn(
                device,
                "Soft RDMA (rxe, siw) registers no dma-buf in kernels as shipped.",
                "Use mlx5 or irdma; the lab's kernel teaches it to rxe.",
            )
            .because(Cause::ImporterNoDmabuf);
        }
        let name = bound.unwrap_or("no driver");
        match bound.and_then(RdmaDriver::named).map(|driver| (driver.name, driver.support)) {
            Some((name, DmaBufSupport::Dynamic)) => {
                Verdict::pass(device, format!("{name} imports what can be taken back, by paging on demand."))
            }
            Some((name, DmaBufSupport::PinnedRevocable)) => {
                Verdict::pass(device, format!("{name} pins what it imports and can give it back."))
            }
            Some((name, DmaBufSupport::PinnedForever)) => Verdict::fail(
                device,
                Cause::ImporterNotRevocable,
                format!("{name} pins what it imports and cannot give it back, and VFIO refuses such importers."),
                "Use mlx5 or irdma, or stage through host memory with --path staged.",
            ),
            Some((name, DmaBufSupport::None)) => Verdict::fail(
                device,
                Cause::ImporterNoDmabuf,
                format!("{name} has no dma-buf operation at all."),
                "Use mlx5 or irdma, or stage through host memory with --path staged.",
            ),
            None => Verdict::unknown(
                device,
                format!("Nobody has read what {name} does with a dma-buf of MMIO."),
                "Try it: `peerpath run` explains a refusal.",
            ),
        }
    };
    devices(at, function).into_iter().map(of_device).collect()
}

fn through_iommufd(at: &Context<'_>, function: &Function) -> Verdict {
    match at.host().facts.option("IOMMUFD") {
        Some(true) => Verdict::pass(function.bdf, "The kernel has iommufd, which maps dma-bufs of VFIO."),
        Some(false) => Verdict::fail(
            function.bdf,
            Cause::KernelTooOld,
            "VFIO has it, and only an iommufd could map the buffer for it, which this kernel lacks.",
            "Boot a kernel built with IOMMUFD and VFIO_DEVICE_CDEV.",
        ),
        None => Verdict::unknown(
            function.bdf,
            "VFIO has it; whether the kernel has iommufd to map the buffer for it is not known.",
            "Look for CONFIG_IOMMUFD.",
        ),
    }
}

pub(super) fn ready(at: &Context<'_>) -> Vec<Verdict> {
    let devices = functions(at).into_iter().flat_map(|function| devices(at, function));
    let Some(live) = at.live else { return devices.map(Verdict::live_only).collect() };
    devices
        .map(|device| match live.targets.get(device) {
            Some(Ok(())) => Verdict::pass(device, "It can be used now."),
            Some(Err(why)) => Verdict::explained(Status::Fail, device, why),
            None => Verdict::unknown(device, "It was not asked.", "Name it with --to."),
        })
        .collect()
}

pub(super) fn on_demand_paging(at: &Context<'_>) -> Vec<Verdict> {
    let facts = &at.host().facts;
    let mut found = Vec::new();
    for function in functions(at) {
        let dynamic = function.driver.as_deref().and_then(RdmaDriver::named).map(|driver| driver.support);
        if dynamic != Some(DmaBufSupport::Dynamic) {
            continue;
        }
        for device in devices(at, function).into_iter().filter(|device| !is_soft(at, device)) {
            let pages = facts.on_demand_paging.get(device.strip_prefix("verbs:").unwrap_or(device));
            let lacks = facts.option("INFINIBAND_ON_DEMAND_PAGING") == Some(false);
            found.push(match pages {
                _ if lacks => Verdict::fail(
                    device,
                    Cause::ImporterNotRevocable,
                    "The kernel is built without paging on demand, through which alone this driver imports from VFIO.",
                    "Boot a kernel built with INFINIBAND_ON_DEMAND_PAGING.",
                ),
                Some(true) => Verdict::pass(device, "It pages on demand."),
                Some(false) => Verdict::fail(
                    device,
                    Cause::ImporterNotRevocable,
                    "It does not page on demand, so it would pin the buffer, which VFIO refuses.",
                    "Enable ODP in the device's firmware.",
                ),
                None => Verdict::unknown(
                    device,
                    "Whether it pages on demand (ODP), which its driver needs here, is not known.",
                    "Look at `ibv_devinfo -v`: odp_caps.",
                ),
            });
        }
    }
    found
}
