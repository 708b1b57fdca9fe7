//! Messages of the PCI core (drivers/pci/pci.c, setup-bus.c, setup-res.c, probe.c, hotplug/pciehp_ctrl.c).

use super::message::{Family, Message};
use crate::Cause::{BarNotExportable, DeviceLost, InUse, TimedOut};

const PCI: Family = Family::Pci;

const MAKE_SPACE: &str = "Enable addresses above 4 GiB (Above 4G Decoding) and resizable BARs in the firmware, or boot with \
     pci=realloc. A later line of the same BAR that ends with `assigned` reports success.";

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
        "{0} does not respond: it has no power, hangs after a reset, or its link is down.",
        "Power-cycle the slot or the host. To keep the function out of D3cold, write 0 to /sys/bus/pci/devices/{0}/d3cold_allowed, \
         or load vfio-pci with disable_idle_d3=1.",
    ),
    Message::failure(
        PCI,
        &["not ready *ms after *; giving up"],
        DeviceLost,
        "{0} did not respond after a reset.",
        "Power-cycle the slot or the host. Some functions do not survive a bus reset: another reset method can be selected in \
         /sys/bus/pci/devices/{0}/reset_method.",
    ),
    Message::fact(
        PCI,
        &["not ready *ms after *; waiting"],
        "{0} does not respond yet after a reset. The kernel waits up to a minute.",
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
        "The device in the slot below {port} was removed, lost power, or its link is down.",
        "Check the power and the seat of the card, and the log for PCIe errors before this line.",
    ),
    Message::refusal(
        PCI,
        &["BAR *: can't reserve [", "can't reserve [mem "],
        InUse,
        "Another driver has claimed the BAR of {0}, often the boot console (efifb, simplefb).",
        "See /proc/iomem for the owner. For the boot console, boot with video=efifb:off or initcall_blacklist=sysfb_init.",
    ),
    // setup-res.c, pci_assign_resource. Kernels before Linux 6.8 print a number instead of the kind: 6 is the ROM, and higher
    // numbers are BARs of virtual functions and bridge windows.
    Message::fact(
        PCI,
        &[
            "ROM [mem size *: can't assign; no space",
            "ROM [mem size *: failed to assign",
            "BAR 6: no space for [mem size",
            "BAR 6: failed to assign [mem size",
        ],
        "The expansion ROM of {0} has no address. This does not affect peer-to-peer DMA.",
        "Ignore the line.",
    ),
    Message::refusal(
        PCI,
        &["VF BAR * [mem size *: can't assign; no space", "VF BAR * [mem size *: failed to assign"],
        BarNotExportable,
        "{0} is a physical function, and a BAR of its virtual functions has no address: the bridge above has no free \
         address space of this size. No other device can access the memory of the virtual functions.",
        "Enable SR-IOV and addresses above 4 GiB (Above 4G Decoding) in the firmware, or boot with pci=realloc. A later line of the \
         same BAR that ends with `assigned` reports success.",
    ),
    Message::refusal(
        PCI,
        &["bridge window [mem size *: can't assign; no space", "bridge window [mem size *: failed to assign"],
        BarNotExportable,
        "The kernel found no address space of this size for the functions below {port}, so some of their BARs may have no \
         address. No other device can access such a BAR.",
        MAKE_SPACE,
    ),
    Message::refusal(
        PCI,
        &[
            "BAR * [mem size *: can't assign; no space",
            "BAR * [mem size *: failed to assign",
            "BAR *: no space for [mem size",
            "BAR *: failed to assign [mem size",
            "BAR *: can't assign mem (size",
            "BAR *: can't assign mem pref (size",
        ],
        BarNotExportable,
        "A BAR of {0} has no address: the bridge above it has no free address space of this size. No program and no other device \
         can access the BAR.",
        MAKE_SPACE,
    ),
    Message::fact(
        PCI,
        &[
            "can't claim BAR * [mem *: no compatible bridge window",
            "BAR * [mem *: can't claim; no compatible bridge window",
        ],
        "The firmware gave a BAR of {0} an address outside of the window of the bridge above it. The kernel chooses another address \
         if the window has space.",
        "Check the later lines of the same BAR. If one says `no space`, enable addresses above 4 GiB (Above 4G Decoding) in the \
         firmware.",
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
        &["PCI: Unknown option `"],
        "The kernel does not know an option of pci= and ignores it. A mainline kernel has no option that switches ACS off \
         completely.",
        "Correct or remove the option. To clear the ACS redirect of ports, name them in pci=disable_acs_redir=.",
    ),
    // init/main.c, print_unknown_bootoptions
    Message::fact(
        PCI,
        &[
            "Unknown *line parameters*iommu",
            "Unknown *line parameters*swiotlb",
            "Unknown *line parameters*vfio",
            "Unknown *line parameters*acs_",
            "Unknown *line parameters*noacs",
        ],
        "The kernel does not know parameters of its command line and ignores them. The line names them. \
         pcie_acs_override= exists only in patched kernels.",
        "Correct the parameters: iommu=pt, intel_iommu=on and swiotlb=force are examples of known parameters.",
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
        "The kernel reset all functions below {port}. The reset revokes the dma-bufs that VFIO exported from them.",
    ),
];
