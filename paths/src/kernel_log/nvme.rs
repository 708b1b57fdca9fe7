//! Messages of the NVMe driver (drivers/nvme/host) about a drive that does not respond.

use super::message::{Family, Message};
use crate::Cause::{DeviceLost, TimedOut};

const NVME: Family = Family::Nvme;

pub(super) const MESSAGES: &[Message] = &[
    Message::failure(
        NVME,
        &["nvme*controller is down; will reset: CSTS=0xffffffff"],
        DeviceLost,
        "The drive does not respond: its registers read as all ones.",
        "Check the log for PCIe errors of its link. If it occurs when the drive is idle, boot with pcie_aspm=off and \
         nvme_core.default_ps_max_latency_us=0.",
    ),
    Message::failure(
        NVME,
        &["nvme*controller is down; will reset:"],
        DeviceLost,
        "The drive reports a fatal error or is not ready. The driver resets it.",
        "Check the log for PCIe errors and IOMMU faults of the drive, and update its firmware.",
    ),
    Message::failure(
        NVME,
        &["nvme*I/O *timeout"],
        TimedOut,
        "A command of the drive did not complete in time. A blocked DMA access can be the reason.",
        "Check the log for IOMMU faults and PCIe errors of the drive before this line.",
    ),
    Message::failure(
        NVME,
        &[
            "nvme*Removing after probe failure",
            "nvme*Disabling device after reset failure",
            "nvme*Device not ready; aborting",
            "nvme*frozen state error detected, reset controller",
        ],
        DeviceLost,
        "The driver stopped using the drive, or resets it after a PCIe error.",
        "Remove and rescan the function, or power-cycle the drive.",
    ),
];
