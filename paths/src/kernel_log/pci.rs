//! Messages of the PCI core (drivers/pci/pci.c, setup-res.c, probe.c, hotplug/pciehp_ctrl.c).

use super::message::{Family, Message};
use crate::Cause::{DeviceLost, InUse, TimedOut};

const PCI: Family = Family::Pci;

pub(super) const MESSAGES: &[Message] = &[
    Message::failure(
        PCI,
        &[
            "Unable to change power state from * device inaccessible",
            "can't change power state from D3cold",
            "Device config space inaccessible",
            "Refused to change power state",
        ],
        DeviceLost,
        "{0} does not answer: it has no power, hangs after a reset, or its link is down.",
        "Power-cycle the slot or the host. To keep the function out of D3cold, write 0 to /sys/bus/pci/devices/{0}/d3cold_allowed, \
         or load vfio-pci with disable_idle_d3=1.",
    ),
    Message::failure(
        PCI,
        &["not ready *ms after *; giving up"],
        DeviceLost,
        "{0} did not answer after a reset.",
        "Power-cycle the slot or the host. Some functions do not survive a bus reset: another reset method can be selected in \
         /sys/bus/pci/devices/{0}/reset_method.",
    ),
    Message::fact(
        PCI,
        &["not ready *ms after *; waiting"],
        "{0} does not answer yet after a reset. The kernel waits up to a minute.",
        "Wait for the next line of this reset. If it says `giving up`, power-cycle the slot.",
    ),
    Message::failure(
        PCI,
        &["timed out waiting for pending transaction; performing"],
        TimedOut,
        "{0} still had outstanding requests when the kernel reset it.",
        "Stop the transfers of the function before a reset.",
    ),
    Message::failure(
        PCI,
        &["pciehp: Slot(*): Link Down", "pciehp: Slot(*): Card not present", "pciehp: Slot(*): Power fault"],
        DeviceLost,
        "The device in the slot below {0} was removed, lost power, or its link is down.",
        "Check the power and the seat of the card, and the log for PCIe errors before this line.",
    ),
    Message::refusal(
        PCI,
        &["BAR *: can't reserve [", "can't reserve [mem "],
        InUse,
        "Another driver has claimed the BAR of {0}, often the boot console (efifb, simplefb).",
        "See /proc/iomem for the owner. For the boot console, boot with video=efifb:off or initcall_blacklist=sysfb_init.",
    ),
    Message::fact(
        PCI,
        &["available PCIe bandwidth, limited by"],
        "The link of {0} is slower or narrower than the function supports. The line names the port that limits it.",
        "Move the card to a slot with more lanes or a higher speed, or reseat it.",
    ),
    Message::fact(
        PCI,
        &["PCIe ACS overrides enabled"],
        "This kernel is patched, and pcie_acs_override= makes it treat functions as isolated although the hardware does not isolate \
         them. IOMMU groups are smaller than the hardware permits; the paths of peer-to-peer DMA do not change.",
        "Remove pcie_acs_override= from the kernel command line, unless the isolation does not matter.",
    ),
    Message::uncaused_failure(
        PCI,
        &["PCI: Can't parse ACS command line parameter", "Invalid ACS flags", "ACS Flags missing"],
        "The kernel cannot parse an ACS parameter of its command line (pci=disable_acs_redir= or pci=config_acs=) and ignores \
         all or part of it.",
        "Correct the parameter. Functions are separated by semicolons, which a GRUB configuration must quote.",
    ),
    Message::fact(
        PCI,
        &["cannot disable ACS redirect for this hardware"],
        "{0} has no ACS capability, so pci=disable_acs_redir= has no effect on it.",
        "Remove the function from the parameter.",
    ),
    Message::normal(
        PCI,
        &["disabled ACS redirect", "Configured ACS to ", "ACS workaround enabled"],
        "The kernel changed the ACS settings of {0}.",
    ),
    Message::normal(
        PCI,
        &["unlocked secondary bus reset via"],
        "The kernel reset all functions below {0}. The reset revokes the dma-bufs that VFIO exported from them.",
    ),
];
