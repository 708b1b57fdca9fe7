//! Checks of the importer: its function and its RDMA device.

use super::context::rdma_devices;
use super::{Context, Status, Verdict};
use crate::vfio::is_vfio_driver;
use crate::{Cause, DmaBufSupport, FACTS_PATH, Function, RdmaDriver};

pub(super) fn library(at: &Context<'_>) -> Vec<Verdict> {
    if super::gpu::is_selected(at) {
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
                format!("The function is a {}, which cannot import.", importer.class_name()),
                "Choose a NIC or another endpoint.",
            )
        } else if !devices.is_empty() {
            Verdict::pass(importer.bdf, format!("The function has the RDMA device {}.", devices.join(", ")))
        } else if super::gpu::is_selected(at) {
            Verdict::pass(importer.bdf, "The function is a GPU.")
        } else if importer.driver.as_deref().is_some_and(is_vfio_driver) {
            Verdict::pass(
                importer.bdf,
                "The function is bound to a VFIO driver, so iommufd can map the dma-buf for it.",
            )
        } else {
            Verdict::warn(
                importer.bdf,
                "The function has no RDMA device, so it cannot import yet. The checks below apply to the function.",
                "Load its RDMA driver; for an Ethernet NIC run `rdma link add rxe0 type rxe netdev NAME`.",
            )
            .because(Cause::NoDevice)
        }];
    }
    if super::gpu::is_selected(at) {
        return Vec::new();
    }
    let names: Vec<_> = at.rdma_functions().into_iter().flat_map(rdma_devices).map(str::to_owned).collect();
    vec![if !names.is_empty() {
        Verdict::pass("host", format!("RDMA devices with a PCI function: {}.", super::context::few(&names)))
    } else if at.tree.is_live() || at.tree.has(FACTS_PATH) || at.tree.is_directory("sys/class/infiniband") {
        let remedy = if at.host().facts.option("INFINIBAND") == Some(false) {
            "Boot a kernel built with INFINIBAND, on a host with an RDMA NIC whose driver imports dma-bufs (mlx5, irdma)."
        } else {
            "Add an RDMA NIC and load its driver (mlx5_ib, irdma), or run `rdma link add rxe0 type rxe netdev NAME`."
        };
        Verdict::fail("host", Cause::NoDevice, "No PCI function has an RDMA device, so none can import a BAR.", remedy)
    } else {
        Verdict::unknown(
            "host",
            "The snapshot does not contain RDMA devices.",
            "Take the snapshot with `peerpath snapshot`.",
        )
    }]
}

/// The selected importer, or every function with an RDMA device.
fn functions<'a>(at: &Context<'a>) -> Vec<&'a Function> {
    at.importer.map_or_else(|| at.rdma_functions(), |importer| vec![importer])
}

/// Whether the device is software RDMA (rxe, siw), which uses a net device and has no PCI function of its own.
fn is_soft(at: &Context<'_>, device: &str) -> bool {
    let name = device.strip_prefix("verbs:").unwrap_or(device);
    at.tree.link(&format!("sys/class/infiniband/{name}")).is_some_and(|target| target.contains("/virtual/"))
        || at.tree.has(&format!("sys/class/infiniband/{name}/parent"))
}

/// The selected RDMA devices of a function; every RDMA device if none is selected.
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
            .filter(|driver| is_vfio_driver(driver))
            .map(|_| through_iommufd(at, function))
            .into_iter()
            .collect();
    }
    let of_device = |device: &str| {
        // The result of a query of the device takes precedence over the table of drivers.
        if let Some(Ok(())) = at.live.and_then(|live| live.targets.get(device)) {
            return Verdict::pass(device, "The device imports dma-bufs.");
        }
        if is_soft(at, device) {
            return Verdict::warn(
                device,
                "The mainline drivers for software RDMA (rxe, siw) cannot import dma-bufs.",
                "Use mlx5 or irdma.",
            )
            .because(Cause::ImporterNoDmabuf);
        }
        let name = bound.unwrap_or("no driver");
        match bound.and_then(RdmaDriver::named).map(|driver| (driver.name, driver.support)) {
            Some((name, DmaBufSupport::Dynamic)) => {
                Verdict::pass(device, format!("{name} supports revocation with on-demand paging."))
            }
            Some((name, DmaBufSupport::PinnedRevocable)) => {
                Verdict::pass(device, format!("{name} pins the buffer and supports revocation."))
            }
            Some((name, DmaBufSupport::PinnedForever)) => Verdict::fail(
                device,
                Cause::ImporterNotRevocable,
                format!("{name} pins the buffer without support for revocation, and VFIO rejects such importers."),
                "Use mlx5 or irdma, or stage the transfers through host memory.",
            ),
            Some((name, DmaBufSupport::None)) => Verdict::fail(
                device,
                Cause::ImporterNoDmabuf,
                format!("{name} cannot import dma-bufs."),
                "Use mlx5 or irdma, or stage the transfers through host memory.",
            ),
            None => Verdict::unknown(
                device,
                format!("It is unknown whether {name} imports a dma-buf of MMIO."),
                "Try it with `peerpath run`, which explains a refusal.",
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
            "The function is bound to a VFIO driver, but this kernel has no iommufd to map the dma-buf for it.",
            "Boot a kernel built with IOMMUFD and VFIO_DEVICE_CDEV.",
        ),
        None => Verdict::unknown(
            function.bdf,
            "The function is bound to a VFIO driver, and the snapshot does not show whether the kernel has iommufd.",
            "Check the kernel configuration for CONFIG_IOMMUFD.",
        ),
    }
}

pub(super) fn ready(at: &Context<'_>) -> Vec<Verdict> {
    let devices = functions(at).into_iter().flat_map(|function| devices(at, function));
    let Some(live) = at.live else { return devices.map(Verdict::live_only).collect() };
    devices
        .map(|device| match live.targets.get(device) {
            Some(Ok(())) => Verdict::pass(device, "The device is ready."),
            Some(Err(why)) => Verdict::explained(Status::Fail, device, why),
            None => Verdict::unknown(device, "The device was not queried.", "Select it as the importer."),
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
                    "The kernel is built without on-demand paging, which this driver needs to import from VFIO.",
                    "Boot a kernel built with INFINIBAND_ON_DEMAND_PAGING.",
                ),
                Some(true) => Verdict::pass(device, "The device supports on-demand paging."),
                Some(false) => Verdict::fail(
                    device,
                    Cause::ImporterNotRevocable,
                    "The device does not support on-demand paging, so it would pin the buffer, and VFIO rejects pinning.",
                    "Update the firmware of the device, or use a device with ODP (`ibv_devinfo -v` lists it).",
                ),
                None => Verdict::unknown(
                    device,
                    "It is unknown whether the device supports on-demand paging (ODP), which its driver requires.",
                    "Check odp_caps in `ibv_devinfo -v`.",
                ),
            });
        }
    }
    found
}
