//! Checks of the importer: its function and its RDMA device.

use super::context::rdma_devices;
use super::importer_kind::ImporterKind;
use super::{Context, Status, Verdict};
use crate::vfio::is_vfio_driver;
use crate::{Cause, DmaBufSupport, ExporterRule, FACTS_PATH, Function, KernelVersion, RdmaDriver};

/// First kernel whose RDMA drivers register dma-bufs (`UVERBS_METHOD_REG_DMABUF_MR`).
const FIRST_WITH_DMA_BUFS: KernelVersion = KernelVersion { major: 5, minor: 12 };

pub(super) fn library(at: &Context<'_>) -> Vec<Verdict> {
    if !ImporterKind::possibly_rdma(at) {
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
        } else {
            without_rdma(at, importer)
        }];
    }
    if !ImporterKind::possibly_rdma(at) {
        return Vec::new();
    }
    let names: Vec<_> = at.rdma_functions().into_iter().flat_map(rdma_devices).map(str::to_owned).collect();
    vec![if !names.is_empty() {
        Verdict::pass("host", format!("RDMA devices with a PCI function: {}.", super::context::few(&names)))
    } else if rdma_devices_known(at) {
        let remedy = if at.host().facts.option("INFINIBAND") == Some(false) {
            "Boot a kernel built with INFINIBAND, on a host with an RDMA NIC whose driver imports dma-bufs (mlx5, irdma)."
        } else {
            "Add an RDMA NIC and load its driver (mlx5_ib, irdma). If the source is host memory, a software device suffices: \
             `rdma link add rxe0 type rxe netdev NAME`."
        };
        Verdict::fail("host", Cause::NoDevice, "No PCI function has an RDMA device, so none can import a BAR.", remedy)
    } else {
        Verdict::unknown(
            "host",
            "The snapshot or lspci output does not show RDMA devices.",
            "Take the snapshot with `peerpath snapshot`.",
        )
    }]
}

/// Whether the absence of RDMA devices means that the host has none. The lspci output does not show RDMA devices, and a manual
/// copy of sysfs may lack them.
fn rdma_devices_known(at: &Context<'_>) -> bool {
    at.tree.is_live() || at.tree.has(FACTS_PATH) || at.tree.is_directory("sys/class/infiniband")
}

/// Returns advice that needs VFIO, or its replacement if VFIO cannot work on this platform.
fn with_vfio(at: &Context<'_>, advice: String) -> String {
    at.instead_of_vfio().map_or(advice, str::to_owned)
}

/// Whether the function can have an RDMA device: its driver creates RDMA devices, or the driver is unknown.
fn may_have_rdma_device(importer: &Function) -> bool {
    match importer.driver.as_deref() {
        Some(driver) => RdmaDriver::named(driver).is_some(),
        None => !importer.driver_known,
    }
}

/// The finding for an importer without an RDMA device.
fn without_rdma(at: &Context<'_>, importer: &Function) -> Verdict {
    let bdf = importer.bdf;
    match ImporterKind::of(at, importer) {
        ImporterKind::Gpu => gpu(at, importer),
        ImporterKind::Iommufd if !at.through_vfio() => Verdict::fail(
            bdf,
            Cause::ForeignDmaBuf,
            format!("iommufd maps only dma-bufs of vfio-pci, and {} exports this memory.", at.rule()),
            "Use an RDMA NIC or a GPU as the importer, or stage the transfers through host memory.",
        ),
        ImporterKind::Iommufd if importer.driver.is_none() => {
            Verdict::pass(bdf, "A run binds the function to vfio-pci, so that iommufd can map the dma-buf for it.")
        }
        ImporterKind::Iommufd if !importer.driver.as_deref().is_some_and(is_vfio_driver) => Verdict::warn(
            bdf,
            "The function is not bound to vfio-pci, so iommufd cannot map the dma-buf for it yet.",
            with_vfio(at, format!("Bind it with `peerpath bind {bdf}`; a drive with a mounted file system is rejected.")),
        )
        .because(Cause::DriverNotVfio),
        ImporterKind::Iommufd => {
            Verdict::pass(bdf, "The function is bound to a VFIO driver, so iommufd can map the dma-buf for it.")
        }
        ImporterKind::Nvme if !at.through_vfio() => Verdict::warn(
            bdf,
            "The NVMe driver imports no dma-bufs. iommufd maps BARs for a drive, but no memory of a GPU.",
            "Use GPUDirect Storage (nvidia-fs) for an NVIDIA GPU, or stage the transfers through host memory.",
        )
        .because(Cause::ImporterNoDmabuf),
        ImporterKind::Nvme => Verdict::warn(
            bdf,
            "The NVMe driver of the kernel imports no dma-bufs. iommufd maps a BAR for a drive that is bound to vfio-pci.",
            with_vfio(at, format!("Select the drive as iommufd:{bdf}, and bind it with `peerpath bind {bdf}` if no file system on it is mounted.")),
        )
        .because(Cause::ImporterNoDmabuf),
        ImporterKind::Rdma | ImporterKind::Nic if !rdma_devices_known(at) && may_have_rdma_device(importer) => {
            Verdict::unknown(
                bdf,
                "It is unknown whether the function has an RDMA device: the snapshot or lspci output does not show RDMA devices.",
                "Add sys/class/infiniband to the sysfs copy, or take a snapshot with `peerpath snapshot`.",
            )
        }
        ImporterKind::Rdma | ImporterKind::Nic => Verdict::warn(
            bdf,
            "The function has no RDMA device, so it cannot import yet. The checks below apply to the function.",
            "Load its RDMA driver. If the NIC has none, use another importer; a software device (`rdma link add rxe0 type rxe \
             netdev NAME`) imports no dma-bufs and transfers host memory only.",
        )
        .because(Cause::NoDevice),
        ImporterKind::Other => Verdict::warn(
            bdf,
            match importer.driver.as_deref() {
                Some(driver) => format!("It is unknown whether the driver of the function ({driver}) imports dma-bufs."),
                None if importer.driver_known => "The function has no driver, so it cannot import yet.".to_owned(),
                None => "The driver of the function is unknown, so it is unknown whether the driver imports dma-bufs.".to_owned(),
            },
            with_vfio(at, format!(
                "Use an RDMA NIC or a GPU, or let iommufd map the BAR for the function: bind it to vfio-pci and select it as \
                 iommufd:{bdf}."
            )),
        )
        .because(Cause::NoDevice),
    }
}

/// The finding for a GPU as the importer. Sources: `amdgpu_gem_prime_import` and `xe_gem_prime_import` attach dynamically and
/// allow peer-to-peer memory; `i915_gem_prime_import` and `drm_gem_prime_import` attach statically; NVIDIA's open kernel modules
/// return NOT_SUPPORTED for the import of a dma-buf, except on Tegra.
fn gpu(at: &Context<'_>, importer: &Function) -> Verdict {
    let bdf = importer.bdf;
    match (ExporterRule::of(importer, None), importer.driver.as_deref()) {
        (ExporterRule::Nvidia, _) if at.through_vfio() => Verdict::pass(
            bdf,
            "The GPU accesses a BAR as I/O memory that CUDA registers by its CPU mapping (as root); NVIDIA's driver imports \
             dma-bufs only on Tegra.",
        ),
        (ExporterRule::Nvidia, _) if at.rule() == ExporterRule::Nvidia => {
            Verdict::pass(bdf, "The GPU accesses the other GPU through CUDA's peer access.")
        }
        (ExporterRule::Nvidia, _) => Verdict::warn(
            bdf,
            "NVIDIA's driver imports dma-bufs only on Tegra.",
            "Use another importer, or stage the transfers through host memory.",
        )
        .because(Cause::ImporterNoDmabuf),
        (ExporterRule::Amdgpu | ExporterRule::Xe, driver) => Verdict::pass(
            bdf,
            format!("The GPU imports dma-bufs through its own driver, {}.", driver.unwrap_or_default()),
        ),
        (ExporterRule::I915 | ExporterRule::Nouveau, driver) => Verdict::warn(
            bdf,
            format!(
                "The driver {} of the GPU imports without peer-to-peer support, so VFIO rejects it, and other exporters export \
                 host memory to it.",
                driver.unwrap_or_default()
            ),
            "Use a GPU with another driver (amdgpu, xe), or stage the transfers through host memory.",
        )
        .because(Cause::ImporterNotP2p),
        (ExporterRule::Vfio, None) => Verdict::warn(
            bdf,
            "The GPU has no driver, so it cannot import.",
            match importer.vendor {
                Some(0x10de) => "Load the driver nvidia.",
                Some(0x1002) => "Load the driver amdgpu.",
                Some(0x8086) => "Load the driver xe.",
                _ => "Use another importer: an RDMA NIC, or a GPU with the driver amdgpu, xe or nvidia.",
            },
        )
        .because(Cause::NoDevice),
        (ExporterRule::Vfio, Some(driver)) => Verdict::unknown(
            bdf,
            format!("It is unknown whether the driver {driver} of the display controller imports dma-bufs."),
            "Use a GPU with the driver amdgpu, xe or nvidia, or an RDMA NIC.",
        ),
    }
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
        if !at.through_vfio() {
            // The check `importer` reports that iommufd maps no memory of a GPU.
            return Vec::new();
        }
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
        if is_soft(at, device) && at.live.is_none() {
            return Verdict::unknown(
                device,
                "The mainline drivers for software RDMA (rxe, siw) cannot import dma-bufs. Only the running host shows whether \
                 its driver is patched to import them.",
                "Run `peerpath doctor` on the host.",
            );
        }
        if is_soft(at, device) {
            return Verdict::warn(
                device,
                "The mainline drivers for software RDMA (rxe, siw) cannot import dma-bufs.",
                "Use mlx5, or irdma on Linux 7.1 or newer.",
            )
            .because(Cause::ImporterNoDmabuf);
        }
        if let Some(kernel) = at.host().kernel.filter(|kernel| !at.through_vfio() && *kernel < FIRST_WITH_DMA_BUFS) {
            return Verdict::unknown(
                device,
                format!(
                    "RDMA drivers register dma-bufs since Linux {FIRST_WITH_DMA_BUFS}, and it is unknown whether this kernel ({kernel}) \
                     or a separately installed RDMA driver contains the change."
                ),
                if at.rule() == ExporterRule::Nvidia {
                    "Try a registration, or use the GPU's memory through nvidia-peermem instead of a dma-buf."
                } else {
                    "Try a registration."
                },
            );
        }
        let name = match bound {
            Some(name) => name,
            None if function.driver_known => {
                return Verdict::unknown(
                    device,
                    "The function of the device has no driver, so it is unknown which driver imports a dma-buf.",
                    "Load the RDMA driver of the function.",
                );
            }
            None => {
                return Verdict::unknown(
                    device,
                    "The driver of the device is unknown, so it is unknown whether the device imports a dma-buf.",
                    "Add the link driver of the function to the sysfs copy, or take a snapshot with `peerpath snapshot`.",
                );
            }
        };
        match RdmaDriver::named(name).map(|driver| (driver.name, driver.support_in(at.host().kernel))) {
            Some((name, DmaBufSupport::PinnedForever | DmaBufSupport::PinnedRevocable)) if !at.through_vfio() => {
                pinned(at, device, name)
            }
            Some((name, DmaBufSupport::Dynamic)) if !at.through_vfio() => {
                Verdict::pass(device, format!("{name} imports dma-bufs without pinning the memory."))
            }
            Some((name, DmaBufSupport::Dynamic)) => {
                Verdict::pass(device, format!("{name} supports revocation with on-demand paging."))
            }
            Some((name, DmaBufSupport::PinnedRevocable)) => {
                Verdict::pass(device, format!("{name} pins the buffer and supports revocation."))
            }
            Some((name, DmaBufSupport::PinnedForever)) if at.only_gpus_export => Verdict::warn(
                device,
                format!(
                    "{name} pins the buffer without support for revocation. It can import memory that a GPU driver exports, but \
                     VFIO rejects it as an importer of a BAR."
                ),
                "For a BAR that VFIO exports, use mlx5, or irdma on Linux 7.1 or newer, or stage the transfers through host memory.",
            )
            .because(Cause::ImporterNotRevocable),
            Some((name, DmaBufSupport::PinnedForever)) => Verdict::fail(
                device,
                Cause::ImporterNotRevocable,
                format!("{name} pins the buffer without support for revocation, and VFIO rejects such importers."),
                "Use mlx5, or irdma on Linux 7.1 or newer, or stage the transfers through host memory.",
            ),
            Some((name, DmaBufSupport::None)) => Verdict::fail(
                device,
                Cause::ImporterNoDmabuf,
                format!("{name} cannot import dma-bufs."),
                "Use mlx5, or irdma on Linux 7.1 or newer, or stage the transfers through host memory.",
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

/// The finding for an RDMA driver that pins memory of a GPU. amdgpu pins memory of the GPU since Linux 6.15
/// (`amdgpu_dma_buf_pin`), and xe since Linux 7.2 (`xe_dma_buf_pin`). Older versions pin a copy in host memory.
fn pinned(at: &Context<'_>, device: &str, name: &str) -> Verdict {
    let rule = at.rule();
    let since = match rule {
        ExporterRule::Amdgpu => KernelVersion { major: 6, minor: 15 },
        ExporterRule::Xe => KernelVersion { major: 7, minor: 2 },
        _ => return Verdict::pass(device, format!("{name} imports dma-bufs and pins the memory.")),
    };
    if at.host().kernel.is_some_and(|kernel| kernel >= since) {
        return Verdict::pass(device, format!("{name} imports dma-bufs, and {rule} pins memory of the GPU for it."));
    }
    Verdict::unknown(
        device,
        format!(
            "{name} pins the memory. Since Linux {since}, {rule} pins memory of the GPU for it; older versions silently export \
             host memory. It is unknown which applies to this kernel."
        ),
        "Compare the throughput with that of host memory, or use an importer that does not pin the memory (mlx5).",
    )
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
            "The function is bound to a VFIO driver, and the snapshot or lspci output does not show whether the kernel has iommufd.",
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
