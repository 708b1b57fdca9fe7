//! The kernel: its version, what it is built with, and vfio-pci.

use super::{Context, Status, Verdict};
use crate::{Cause, Host, KernelVersion};

pub(super) fn version(at: &Context<'_>) -> Vec<Verdict> {
    let newest = KernelVersion::VFIO_DMA_BUF;
    vec![match at.host().kernel {
        None => Verdict::unknown(
            "host",
            "The kernel's version is not known.",
            "Add proc/sys/kernel/osrelease to the snapshot.",
        ),
        Some(kernel) if kernel < newest => Verdict::fail(
            "host",
            Cause::KernelTooOld,
            format!("Linux {kernel} cannot export a BAR: vfio-pci does so from {newest} on."),
            format!("Boot Linux {newest} or newer."),
        ),
        Some(kernel) => Verdict::pass("host", format!("Linux {kernel} exports BARs.")),
    }]
}

/// Options that belong together, and what is lost without any of them.
struct Need {
    options: &'static [&'static str],
    status: Status,
    lost: &'static str,
}

static NEEDS: &[Need] = &[
    Need {
        options: &["DMA_SHARED_BUFFER", "PCI_P2PDMA", "VFIO", "VFIO_PCI", "VFIO_PCI_DMABUF"],
        status: Status::Fail,
        lost: "no BAR can be exported",
    },
    Need {
        options: &["INFINIBAND", "INFINIBAND_USER_ACCESS"],
        status: Status::Fail,
        lost: "there can be no RDMA device to import into",
    },
    Need { options: &["INFINIBAND_ON_DEMAND_PAGING"], status: Status::Warn, lost: "mlx5 cannot import from VFIO" },
    Need {
        options: &["DMABUF_MOVE_NOTIFY"],
        status: Status::Warn,
        lost: "importers pin what they could page on demand, which VFIO may refuse",
    },
    Need { options: &["KPROBE_EVENTS"], status: Status::Warn, lost: "the path taken cannot be observed" },
];

/// Either pair of options lets VFIO be opened.
const DOORS: [[&str; 2]; 2] = [["VFIO_GROUP", "VFIO_IOMMU_TYPE1"], ["VFIO_DEVICE_CDEV", "IOMMUFD"]];

pub(super) fn options(at: &Context<'_>) -> Vec<Verdict> {
    let host = at.host();
    if host.facts.kernel_options.is_empty() {
        return vec![Verdict::unknown(
            "host",
            "The kernel's configuration cannot be read.",
            "Look for CONFIG_VFIO_PCI_DMABUF, PCI_P2PDMA, IOMMUFD and VFIO_DEVICE_CDEV where the distribution keeps it.",
        )];
    }
    let mut found: Vec<Verdict> =
        [Status::Fail, Status::Warn].into_iter().filter_map(|status| lacking(host, status)).collect();
    found.extend(door(host));
    if found.is_empty() {
        found.push(Verdict::pass("host", "The kernel is built with everything that is needed."));
    }
    found
}

/// Everything of one weight that is missing, told at once: it takes one other kernel to put it right.
fn lacking(host: &Host, status: Status) -> Option<Verdict> {
    let missing: Vec<_> = NEEDS
        .iter()
        .filter(|need| need.status == status)
        .map(|need| (need, missing(host, need)))
        .filter(|(_, missing)| !missing.is_empty())
        .collect();
    if missing.is_empty() {
        return None;
    }
    let losses: Vec<_> = missing.iter().map(|(need, names)| format!("{}: {}", names.join(", "), need.lost)).collect();
    let detail = format!("The kernel is built without {}.", losses.join("; without "));
    let names: Vec<_> = missing.into_iter().flat_map(|(_, names)| names).collect();
    let remedy = format!("Boot a kernel built with {}.", names.join(", "));
    Some(match status {
        Status::Fail => Verdict::fail("host", Cause::KernelTooOld, detail, remedy),
        _ => Verdict::warn("host", detail, remedy).because(Cause::KernelTooOld),
    })
}

fn missing(host: &Host, need: &Need) -> Vec<&'static str> {
    let off = |name: &str| host.facts.option(name) == Some(false);
    // A kernel that is too old has no such option, and has been told of already; nor is a part of what is missing news.
    let too_old = host.kernel.is_some_and(|kernel| kernel < KernelVersion::VFIO_DMA_BUF);
    let told = |name: &str| match name {
        "VFIO_PCI_DMABUF" => too_old,
        "VFIO_PCI" => off("VFIO"),
        _ => name.starts_with("INFINIBAND_") && off("INFINIBAND"),
    };
    need.options.iter().copied().filter(|name| off(name) && !told(name)).collect()
}

fn door(host: &Host) -> Option<Verdict> {
    // Without VFIO there is nothing to open, which has been told.
    if host.facts.option("VFIO") == Some(false) {
        return None;
    }
    let closed = |door: &[&str; 2]| door.iter().any(|name| host.facts.option(name) == Some(false));
    DOORS.iter().all(closed).then(|| {
        Verdict::fail(
            "host",
            Cause::KernelTooOld,
            "The kernel offers neither way into VFIO: groups with type 1, or device nodes with iommufd.",
            "Boot a kernel built with VFIO_GROUP and VFIO_IOMMU_TYPE1, or with VFIO_DEVICE_CDEV and IOMMUFD.",
        )
    })
}

pub(super) fn vfio_driver(at: &Context<'_>) -> Vec<Verdict> {
    let bound = || at.topology().functions().iter().any(|function| function.driver.as_deref() == Some("vfio-pci"));
    let places = ["sys/module/vfio_pci", "sys/bus/pci/drivers/vfio-pci"];
    vec![if places.iter().any(|path| at.tree.has(path)) || bound() {
        Verdict::pass("host", "vfio-pci is loaded.")
    } else if at.host().facts.option("VFIO_PCI") == Some(false) {
        Verdict::fail(
            "host",
            Cause::DriverNotVfio,
            "vfio-pci is not there, and this kernel is built without it.",
            "Boot a kernel built with VFIO_PCI.",
        )
    } else if at.modules_known() {
        Verdict::fail("host", Cause::DriverNotVfio, "vfio-pci is not loaded.", "Load it: modprobe vfio-pci.")
    } else {
        Verdict::unknown(
            "host",
            "Whether vfio-pci is loaded cannot be seen.",
            "Take the snapshot with `peerpath snapshot`.",
        )
    }]
}
