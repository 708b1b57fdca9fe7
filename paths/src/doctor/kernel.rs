//! Checks of the kernel: version, options, and vfio-pci.

use super::importer_kind::ImporterKind;
use super::{Context, Status, Verdict};
use crate::{Cause, Evidence, Host, KernelRules, KernelVersion};

pub(super) fn version(at: &Context<'_>) -> Vec<Verdict> {
    let host = at.host();
    let oldest = KernelVersion::VFIO_DMA_BUF;
    let Some(kernel) = host.kernel else {
        return vec![Verdict::unknown(
            "host",
            "The snapshot or lspci output does not contain the kernel version.",
            "Add proc/sys/kernel/osrelease to the snapshot, or give the kernel version.",
        )];
    };
    let newest = KernelRules::NEWEST;
    vec![match host.dma_buf_export() {
        Some((false, Evidence::Version)) => Verdict::fail(
            "host",
            Cause::KernelTooOld,
            format!(
                "Linux {kernel} cannot export a BAR: vfio-pci supports it since {oldest}. Only the version shows this; a vendor \
                 may have backported the feature."
            ),
            format!(
                "Boot Linux {oldest} or newer, or a vendor's kernel with VFIO_PCI_DMABUF=y in its configuration (/boot/config-*)."
            ),
        ),
        Some((true, evidence)) if kernel < oldest => Verdict::pass(
            "host",
            format!(
                "Linux {kernel} can export BARs, although kernel.org supports it only since {oldest}: {}.",
                match evidence {
                    Evidence::Symbol => "the kernel has the function of vfio-pci that exports dma-bufs",
                    Evidence::Configuration | Evidence::Version => "the configuration has VFIO_PCI_DMABUF=y",
                }
            ),
        ),
        // The check `kernel-options` reports a missing option.
        Some((false, _)) if kernel >= oldest => {
            Verdict::pass("host", format!("Linux {kernel} supports the export of BARs."))
        }
        Some((false, _)) => Verdict::fail(
            "host",
            Cause::KernelTooOld,
            format!("Linux {kernel} cannot export a BAR: its configuration lacks VFIO_PCI_DMABUF."),
            format!("Boot Linux {oldest} or newer, built with VFIO_PCI_DMABUF."),
        ),
        _ if kernel > newest => Verdict::pass(
            "host",
            format!(
                "Linux {kernel} can export BARs. It is newer than the known kernel rules, so predictions apply those of Linux {newest}."
            ),
        ),
        _ => Verdict::pass("host", format!("Linux {kernel} can export BARs.")),
    }]
}

/// Kernel options that one feature needs, and the consequence if one of them is missing.
struct Need {
    /// Whether the feature matters to the selected exporter and importer.
    applies: fn(&Context<'_>) -> bool,
    options: &'static [&'static str],
    status: Status,
    consequence: &'static str,
}

static NEEDS: &[Need] = &[
    Need {
        applies: |at| at.through_vfio(),
        options: &["DMA_SHARED_BUFFER", "PCI_P2PDMA", "VFIO", "VFIO_PCI", "VFIO_PCI_DMABUF"],
        status: Status::Fail,
        consequence: "vfio-pci cannot export BARs",
    },
    Need {
        applies: |at| !at.through_vfio(),
        options: &["DMA_SHARED_BUFFER"],
        status: Status::Fail,
        consequence: "the GPU driver cannot export dma-bufs",
    },
    Need {
        applies: |at| !at.through_vfio() && at.rule().asks_p2pdma(),
        options: &["PCI_P2PDMA"],
        status: Status::Fail,
        consequence: "the GPU driver exports host memory instead of its own",
    },
    Need {
        applies: ImporterKind::possibly_rdma,
        options: &["INFINIBAND", "INFINIBAND_USER_ACCESS"],
        status: Status::Fail,
        consequence: "no RDMA device can import",
    },
    Need {
        applies: ImporterKind::possibly_rdma,
        options: &["INFINIBAND_ON_DEMAND_PAGING"],
        status: Status::Warn,
        consequence: "mlx5 cannot import dma-bufs",
    },
    Need {
        applies: |at| at.through_vfio(),
        options: &["DMABUF_MOVE_NOTIFY"],
        status: Status::Warn,
        consequence: "importers pin buffers instead of paging on demand, and VFIO may reject pinning",
    },
    Need {
        applies: |at| !at.through_vfio() && at.rule().asks_p2pdma(),
        options: &["DMABUF_MOVE_NOTIFY"],
        status: Status::Warn,
        consequence: "the GPU driver pins an exported buffer in host memory",
    },
    Need {
        applies: |_| true,
        options: &["KPROBE_EVENTS"],
        status: Status::Warn,
        consequence: "tracing cannot observe the path",
    },
];

/// The options of each VFIO interface: group and cdev.
const INTERFACES: [[&str; 2]; 2] = [["VFIO_GROUP", "VFIO_IOMMU_TYPE1"], ["VFIO_DEVICE_CDEV", "IOMMUFD"]];

const VFIO_OPTIONS: &str =
    "Check the distribution's configuration for CONFIG_VFIO_PCI_DMABUF, PCI_P2PDMA, IOMMUFD and VFIO_DEVICE_CDEV.";

pub(super) fn options(at: &Context<'_>) -> Vec<Verdict> {
    let host = at.host();
    if host.facts.kernel_options.is_empty() {
        return vec![Verdict::unknown(
            "host",
            "The kernel's configuration is not available.",
            match at.through_vfio() {
                true => VFIO_OPTIONS,
                false if at.rule().asks_p2pdma() => {
                    "Check the distribution's configuration for CONFIG_DMA_SHARED_BUFFER and PCI_P2PDMA."
                }
                false => "Check the distribution's configuration for CONFIG_DMA_SHARED_BUFFER.",
            },
        )];
    }
    let mut found: Vec<Verdict> =
        [Status::Fail, Status::Warn].into_iter().filter_map(|status| lacking(at, status)).collect();
    if at.through_vfio() {
        found.extend(interfaces(host));
    }
    if found.is_empty() {
        found.push(Verdict::pass("host", "The kernel has all required options."));
    }
    found
}

/// One finding for all missing options with the same status, because one kernel with all these options fixes the problem.
fn lacking(at: &Context<'_>, status: Status) -> Option<Verdict> {
    let host = at.host();
    let missing: Vec<_> = NEEDS
        .iter()
        .filter(|need| need.status == status && (need.applies)(at))
        .map(|need| (need, missing(host, need)))
        .filter(|(_, missing)| !missing.is_empty())
        .collect();
    if missing.is_empty() {
        return None;
    }
    let consequences: Vec<_> =
        missing.iter().map(|(need, names)| format!("{}: {}", names.join(", "), need.consequence)).collect();
    let detail = format!("The kernel is built without {}.", consequences.join("; without "));
    let names: Vec<_> = missing.into_iter().flat_map(|(_, names)| names).collect();
    let remedy = format!("Boot a kernel built with {}.", names.join(", "));
    Some(match status {
        Status::Fail => Verdict::fail("host", Cause::KernelTooOld, detail, remedy),
        _ => Verdict::warn("host", detail, remedy).because(Cause::KernelTooOld),
    })
}

fn missing(host: &Host, need: &Need) -> Vec<&'static str> {
    let off = |name: &str| host.facts.option(name) == Some(false);
    // The check `kernel-version` reports a kernel that is too old for the option. If an option is off, do not report the options
    // that depend on it.
    let too_old = host.kernel.is_some_and(|kernel| kernel < KernelVersion::VFIO_DMA_BUF);
    let reported = |name: &str| match name {
        "VFIO_PCI_DMABUF" => too_old,
        "VFIO_PCI" => off("VFIO"),
        _ => name.starts_with("INFINIBAND_") && off("INFINIBAND"),
    };
    need.options.iter().copied().filter(|name| off(name) && !reported(name)).collect()
}

fn interfaces(host: &Host) -> Option<Verdict> {
    // The function `lacking` already reports a kernel without VFIO.
    if host.facts.option("VFIO") == Some(false) {
        return None;
    }
    let missing = |options: &[&str; 2]| options.iter().any(|name| host.facts.option(name) == Some(false));
    INTERFACES.iter().all(missing).then(|| {
        Verdict::fail(
            "host",
            Cause::KernelTooOld,
            "The kernel lacks both VFIO interfaces: group with type1, and cdev with iommufd.",
            "Boot a kernel built with VFIO_GROUP and VFIO_IOMMU_TYPE1, or with VFIO_DEVICE_CDEV and IOMMUFD.",
        )
    })
}

pub(super) fn vfio_driver(at: &Context<'_>) -> Vec<Verdict> {
    let bound = || at.topology().functions().iter().any(|function| function.driver.as_deref() == Some("vfio-pci"));
    let paths = ["sys/module/vfio_pci", "sys/bus/pci/drivers/vfio-pci"];
    vec![if paths.iter().any(|path| at.tree.has(path)) || bound() {
        Verdict::pass("host", "vfio-pci is loaded.")
    } else if at.host().facts.option("VFIO_PCI") == Some(false) {
        Verdict::fail(
            "host",
            Cause::DriverNotVfio,
            "The kernel is built without vfio-pci.",
            "Boot a kernel built with VFIO_PCI.",
        )
    } else if at.modules_known() {
        let remedy = at.instead_of_vfio().unwrap_or("Load it with `modprobe vfio-pci`.");
        Verdict::fail("host", Cause::DriverNotVfio, "vfio-pci is not loaded.", remedy)
    } else {
        Verdict::unknown(
            "host",
            "The snapshot or lspci output does not show whether vfio-pci is loaded.",
            "Take the snapshot with `peerpath snapshot`.",
        )
    }]
}
