//! Messages of VFIO (drivers/vfio), and of QEMU and DPDK about it.

use super::message::{Family, Message};
use crate::Cause::{
    DeviceLost, DriverNotVfio, ForeignDmaBuf, GroupNotViable, InUse, LimitReached, NoIommu, NoPermission, Noiommu,
};

const VFIO: Family = Family::Vfio;

const CLOSE_IT: &str = "End the program that has the function open (`fuser -v /dev/vfio/*`).";

pub(super) const MESSAGES: &[Message] = &[
    Message::refusal(
        VFIO,
        &["roup * is not viable", "roup is not viable"],
        GroupNotViable,
        "Another function of the IOMMU group has a driver that does DMA. VFIO assigns only whole groups to a program.",
        "Unbind the other functions of the group or bind them to vfio-pci, or move the card to a slot with a group of its own.",
    ),
    Message::refusal(
        VFIO,
        &[
            "Relaying device request to user",
            "No device request channel registered, blocked until released by user",
            "evice is currently in use, task * blocked until device is released",
        ],
        InUse,
        "A program has {0} open through VFIO, so the kernel cannot unbind or remove it.",
        CLOSE_IT,
    ),
    Message::fact(
        VFIO,
        &["reset recovery - restoring bars", "reset recovery - restoring BARs"],
        "{0} was reset without VFIO, or did not return from a reset: its BAR registers had lost their values, and vfio-pci \
         restored them.",
        "Check the log for a reset or a PCIe error of the function. If the line repeats, the function does not respond: \
         power-cycle the slot.",
    ),
    Message::refusal(
        VFIO,
        &["Adding kernel taint for vfio-noiommu group on device", "vfio-noiommu device opened by user"],
        Noiommu,
        "VFIO uses {0} without an IOMMU. The function can access all memory, and no dma-buf can be exported through the VFIO group.",
        "Enable the IOMMU in the firmware and in the kernel, and bind the function again.",
    ),
    Message::refusal(
        VFIO,
        &["No interrupt remapping support"],
        NoPermission,
        "VFIO rejects a group whose interrupts the IOMMU does not isolate.",
        "Enable interrupt remapping (x2APIC or VT-d in the firmware, intremap=on), or load vfio_iommu_type1 or iommufd with \
         allow_unsafe_interrupts=1.",
    ),
    Message::refusal(
        VFIO,
        &[
            "vfio_pin_pages_remote: RLIMIT_MEMLOCK",
            "vfio_pin_page_external: *RLIMIT_MEMLOCK",
            "vfio*RLIMIT_MEMLOCK (*) exceeded",
        ],
        LimitReached,
        "A program maps more memory for DMA than its limit of locked memory permits.",
        "Raise the limit with `ulimit -l unlimited`, or grant CAP_IPC_LOCK.",
    ),
    Message::refusal(
        VFIO,
        &["Cannot bind to PF with SR-IOV enabled", "Cannot bind to PF with SRIOV enabled"],
        InUse,
        "{0} is a physical function with enabled virtual functions, which vfio-pci rejects.",
        "Write 0 to the function's sriov_numvfs, then bind it.",
    ),
    Message::refusal(
        VFIO,
        &["exists in vfio-pci device denylist", "exists in vfio-pci device blacklist"],
        DriverNotVfio,
        "vfio-pci rejects {0}: its denylist names devices that are unsafe to assign to a program.",
        "Choose another function. The module parameter disable_denylist=1 disables the list.",
    ),
    Message::refusal(
        VFIO,
        &["vfio-pci*: probe of * failed with error -22", "probe with driver vfio-pci failed with error -22"],
        NoIommu,
        "vfio-pci rejects {0}: it has no IOMMU group, is a bridge, or its IOMMU cannot enforce cache coherency.",
        "If the function has no IOMMU group, enable the IOMMU in the firmware, and on Intel boot with intel_iommu=on. If it is a \
         bridge, choose an endpoint.",
    ),
    Message::refusal(
        VFIO,
        &["vfio-pci*: probe of * failed with error", "probe with driver vfio-pci failed with error"],
        DriverNotVfio,
        "vfio-pci could not bind {0}. The number is the errno.",
        "Check the lines before this one for the reason.",
    ),
    Message::refusal(
        VFIO,
        &[
            "VF token required to access device",
            "Incorrect VF token provided for device",
            "VF token incorrectly provided",
        ],
        NoPermission,
        "A physical function that is bound to vfio-pci, or one of its virtual functions, can be opened only with the token \
         that the first user of the physical function set.",
        "Open the function with that token (vf_token), or bind the physical function to its own driver.",
    ),
    Message::fact(
        VFIO,
        &["VF * bound to driver * while PF bound to driver"],
        "A kernel driver is bound to a virtual function while a program controls its physical function through VFIO.",
        "Bind the virtual function to vfio-pci.",
    ),
    Message::failure(
        VFIO,
        &["vfio-pci*Couldn't reload saved state", "vfio-pci*runtime resume failed"],
        DeviceLost,
        "{0} did not respond after a reset or a low-power state.",
        "Power-cycle the slot or the host.",
    ),
    Message::refusal(
        VFIO,
        &[
            "VFIO_MAP_DMA failed: Bad address",
            "IOMMU_IOAS_MAP failed: Bad address",
            "vfio_*dma_map(*) = -14",
            "PCI peer-to-peer transactions on BARs are not supported",
        ],
        ForeignDmaBuf,
        "The kernel did not map a BAR into the address space of the program or virtual machine: iommufd cannot pin memory \
         of a BAR, the BARs of a function in D3 are not accessible, and some IOMMUs cannot translate to the address. \
         Everything except peer-to-peer DMA works.",
        "If peer-to-peer DMA is needed, map the BAR through its dma-buf (Linux 6.19), or use the VFIO container (type1).",
    ),
    Message::refusal(
        VFIO,
        &[
            "VFIO_MAP_DMA failed: Cannot allocate memory",
            "IOMMU_IOAS_MAP failed: Cannot allocate memory",
            "vfio_*dma_map(*) = -12",
        ],
        LimitReached,
        "The program maps more memory for DMA than its limit of locked memory permits.",
        "Raise the limit with `ulimit -l unlimited`, or grant CAP_IPC_LOCK.",
    ),
    Message::refusal(
        VFIO,
        &["VFIO_MAP_DMA failed: Invalid argument", "vfio_*dma_map(*) = -22"],
        LimitReached,
        "The address or the size is beyond what the IOMMU of the function can translate, or is not aligned to its page size.",
        "Limit the guest-physical address width of the virtual machine (QEMU: guest-phys-bits) to that of the IOMMU.",
    ),
    Message::fact(
        VFIO,
        &["vfio-pci*Invalid PCI ROM header signature"],
        "The expansion ROM of {0} is not readable. This does not affect peer-to-peer DMA.",
        "Ignore the line, or pass the ROM as a file to the virtual machine.",
    ),
    Message::normal(
        VFIO,
        &["vfio-pci *: resetting", "vfio-pci *: reset done"],
        "A reset revokes the dma-bufs of {0}. Importers must register them again.",
    ),
    Message::normal(
        VFIO,
        &[
            "VFIO - User Level meta-driver version",
            "vfio-pci *: enabling device (",
            "vfio-pci *: vgaarb:",
            "vfio_pci: add [",
            "vfio_ecap_init: hiding ecap",
            "vfio_cap_init: hiding cap",
            "Masking broken INTx support",
            "Captured SR-IOV VF * driver_override",
            "irq bypass producer (",
        ],
        "VFIO reports normal operation.",
    ),
];
