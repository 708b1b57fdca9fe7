//! Messages of the IOMMU drivers (drivers/iommu: intel/dmar.c, intel/iommu.c, amd/iommu.c, arm/arm-smmu-v3, arm/arm-smmu,
//! riscv, virtio-iommu.c, iommu.c).

use super::message::{Family, Message};
use crate::Cause::{ConfidentialGuest, DeviceLost, IommuFault, NoIommu, TransferFailed};

const IOMMU: Family = Family::Iommu;

/// A message about an access that the IOMMU blocked.
const fn blocked(texts: &'static [&'static str], why: &'static str, remedy: &'static str) -> Message {
    Message::failure(IOMMU, texts, IommuFault, why, remedy)
}

const MAP_IT: &str = "Check that the buffer was mapped for this function and not unmapped, reset or closed before the transfer \
     ended. If the address is the physical address of a BAR, the driver did not map the BAR: register it as a dma-buf, or set \
     the IOMMU domain of the function to identity.";

const ATTACH_IT: &str =
    "If {last} has no driver, it still runs a transfer of an earlier driver: reset the function, or bind a driver.";

const CHECK_THE_STREAM: &str = "If the function has no driver, bind one. Otherwise check the IOMMU tables of the firmware (IORT, \
     iommu-map), which assign stream IDs to functions.";

const UPDATE_FIRMWARE: &str = "Update the firmware and the kernel, and report the line to the vendor of the host.";

const CHECK_THE_WIDTH: &str = "Check the address: a physical address or a damaged pointer can exceed the width. A virtual machine \
     needs guest-physical addresses within it (QEMU: guest-phys-bits).";

const CHECK_THE_TABLES: &str = "Update the kernel and the firmware: the driver of the IOMMU wrote an entry that this IOMMU does not \
     support, or memory of the tables was overwritten. The mapping of the buffer is not the cause. Check the log for memory errors \
     (machine check, EDAC).";

/// Accesses that an IOMMU blocked.
pub(super) const BLOCKED_ACCESSES: &[Message] = &[
    // intel/dmar.c, dmar_fault_do_one
    blocked(
        &["DMAR:*[DMA *fault addr*ontext entry is clear", "DMAR:*[DMA *fault addr*ontext Entry is clear"],
        "The IOMMU blocked an access by {last}, which is attached to no IOMMU domain.",
        ATTACH_IT,
    ),
    blocked(
        &["DMAR:*[DMA *fault addr*specifies blocking"],
        "The IOMMU blocked a translation request (ATS) of {last}, for which ATS is not enabled.",
        "Reset {last}, so that its ATS setting agrees with that of the IOMMU.",
    ),
    blocked(
        &["DMAR:*[DMA *fault addr*ccess beyond MGAW"],
        "The IOMMU blocked an access by {last}: the address exceeds the address width of the IOMMU (MGAW).",
        CHECK_THE_WIDTH,
    ),
    blocked(
        &[
            "DMAR:*[DMA *fault addr*eserved field",
            "DMAR:*[DMA *fault addr*table ptr is invalid",
            "DMAR:*[DMA *fault addr*able address invalid",
            "DMAR:*[DMA *fault addr*nvalid context entry",
        ],
        "The IOMMU blocked an access by {last}, because the IOMMU read an invalid entry in its own tables: a reserved bit \
         is set, or a pointer is invalid.",
        CHECK_THE_TABLES,
    ),
    blocked(
        &["DMAR:*[DMA Read*fault addr*Read access is not set", "DMAR:*[DMA Read*fault addr*paging entry"],
        "The IOMMU blocked a read by {last}: no mapping permits reads at this address.",
        MAP_IT,
    ),
    blocked(
        &["DMAR:*[DMA Write*fault addr*Write access is not set", "DMAR:*[DMA Write*fault addr*paging entry"],
        "The IOMMU blocked a write by {last}: no mapping permits writes at this address.",
        MAP_IT,
    ),
    blocked(
        &["DMAR:*[DMA Read*fault addr"],
        "The IOMMU blocked a read by {last}. The line ends with the reason.",
        MAP_IT,
    ),
    blocked(
        &["DMAR:*[DMA *fault addr"],
        "The IOMMU blocked an access by {last}. The line ends with the reason.",
        MAP_IT,
    ),
    blocked(
        &["DMAR:*[INTR-REMAP]*fault index"],
        "The IOMMU blocked an interrupt of {last}: its entry in the interrupt remapping table does not permit it. A write to \
         the interrupt address range (0xfee00000) counts as an interrupt.",
        "Reload the driver of {last}. If the address of a transfer is in that range, correct the address.",
    ),
    // amd/iommu.c
    blocked(
        &["AMD-Vi:*Event logged [IO_PAGE_FAULT"],
        "The IOMMU blocked an access by {last}: no mapping permits it at this address. Bit 5 of the flags (0x20) marks a write.",
        MAP_IT,
    ),
    blocked(
        &["AMD-Vi:*Event logged [RMP_PAGE_FAULT"],
        "The IOMMU blocked an access by {last} to memory that belongs to a confidential guest (SEV-SNP).",
        "Let the device access only memory that the guest shares with the hypervisor.",
    ),
    blocked(
        &["AMD-Vi:*Event logged [ILLEGAL_DEV_TABLE_ENTRY"],
        "The IOMMU blocked an access by {last}, whose entry in the device table is invalid.",
        ATTACH_IT,
    ),
    blocked(
        &["AMD-Vi:*Event logged [INVALID_DEVICE_REQUEST"],
        "The IOMMU blocked a request of {last} of a kind that the function may not send, for example a translated request or a \
         write to the interrupt address range.",
        "Reset {last}. If the address of a transfer is in the interrupt address range (0xfee00000), correct the address.",
    ),
    blocked(
        &["AMD-Vi:*Event logged [PAGE_TAB_HARDWARE_ERROR", "AMD-Vi:*Event logged [DEV_TAB_HARDWARE_ERROR"],
        "The IOMMU could not read its own tables in memory for an access by {last}.",
        "Check the log for memory errors (machine check, EDAC), and test the memory.",
    ),
    blocked(&["AMD-Vi:*Event logged [*_FAULT"], "The IOMMU blocked an access by {last}.", MAP_IT),
    // arm/arm-smmu-v3, arm_smmu_dump_event: by name, or by number if the driver does not know the event
    blocked(
        &["arm-smmu-v3*event: F_TRANSLATION client: "],
        "The SMMU blocked an access by {last}: the address (iova) has no mapping.",
        MAP_IT,
    ),
    blocked(
        &["arm-smmu-v3*event: F_PERMISSION client: "],
        "The SMMU blocked an access by {last}: the mapping of the address (iova) does not permit it.",
        "Map the buffer for reads and writes. A BAR that is mapped read-only rejects writes.",
    ),
    blocked(
        &["arm-smmu-v3*event: F_ADDR_SIZE client: ", "arm-smmu-v3*event: F_ACCESS client: "],
        "The SMMU blocked an access by {last}: the address is beyond its address size, or the mapping is not marked as accessed.",
        MAP_IT,
    ),
    blocked(
        &[
            "arm-smmu-v3*event: C_BAD_STREAMID client: ",
            "arm-smmu-v3*event: C_BAD_STE client: ",
            "arm-smmu-v3*event: F_STREAM_DISABLED client: ",
        ],
        "The SMMU blocked an access whose stream ID (sid) has no valid configuration: the function is attached to no domain, or \
         the firmware assigns it another stream ID.",
        CHECK_THE_STREAM,
    ),
    blocked(
        &["arm-smmu-v3*event: * client: "],
        "The SMMU blocked an access by {last}. The line names the event.",
        "Check the driver of the function and the kernel log around this line.",
    ),
    blocked(
        &["arm-smmu-v3*event 0x10 received"],
        "The SMMU blocked an access to an address without a mapping (F_TRANSLATION). The next lines hold the stream ID and the \
         address.",
        MAP_IT,
    ),
    blocked(
        &["arm-smmu-v3*event 0x13 received"],
        "The SMMU blocked an access that the mapping of its address does not permit (F_PERMISSION). The next lines hold the \
         stream ID and the address.",
        MAP_IT,
    ),
    blocked(
        &["arm-smmu-v3*event 0x02 received", "arm-smmu-v3*event 0x04 received", "arm-smmu-v3*event 0x06 received"],
        "The SMMU blocked an access whose stream ID has no valid configuration. The next lines hold the stream ID.",
        CHECK_THE_STREAM,
    ),
    blocked(
        &["arm-smmu-v3*event 0x* received"],
        "The SMMU reports an event about an access. The next lines hold its data: the low half of the first word is the event, \
         the high half the stream ID.",
        "Check the driver of the function with this stream ID.",
    ),
    // arm/arm-smmu
    blocked(
        &["arm-smmu*Unhandled context fault"],
        "The SMMU blocked an access: the mapping of the address (iova) is missing or does not permit it. The low bits of \
         cbfrsynra are the stream ID of the function.",
        MAP_IT,
    ),
    blocked(
        &["arm-smmu*lobal fault", "arm-smmu*Blocked unknown Stream ID"],
        "The SMMU blocked an access whose stream ID is attached to no domain.",
        CHECK_THE_STREAM,
    ),
    // virtio-iommu.c
    blocked(
        &["virtio_iommu* fault from EP "],
        "The virtual IOMMU blocked an access. The endpoint number (EP) is the bus, device and function number of the function.",
        MAP_IT,
    ),
];

/// Other messages of the IOMMU drivers.
pub(super) const OTHER_MESSAGES: &[Message] = &[
    // This message reports a blocked access, but the function that it names is the IOMMU itself, so it is not in
    // [`BLOCKED_ACCESSES`].
    blocked(
        &["riscv*iommu*Fault * devid: "],
        "The IOMMU blocked an access. The device ID is the bus, device and function number of the function.",
        MAP_IT,
    ),
    // drivers/memory/tegra/mc.c
    Message::failure(
        IOMMU,
        &["tegra-mc*(SMMU translation error", "mc-err:*(SMMU translation error"],
        IommuFault,
        "The SMMU of the Tegra blocked an access: no mapping permits it at this address. The line names the client of the memory \
         controller, not a PCI function.",
        "Check that the buffer was mapped for the client, and not unmapped before the transfer ended.",
    ),
    Message::failure(
        IOMMU,
        &["tegra-mc*EMEM address decode error", "mc-err:*EMEM address decode error"],
        TransferFailed,
        "The memory controller of the Tegra rejected an access, because the address is outside of its memory. The line \
         names the client of the memory controller, not a PCI function.",
        "Check that the buffer was mapped for the client with the DMA API, and not unmapped before the transfer ended. The \
         address of a BAR is outside of this memory.",
    ),
    Message::normal(
        IOMMU,
        &["DMAR: DRHD: handling fault status reg"],
        "The IOMMU reports faults. The next lines name the functions.",
    ),
    Message::failure(
        IOMMU,
        &[
            "dmar_fault: * callbacks suppressed",
            "amd_iommu_report_page_fault: * callbacks suppressed",
            "amd_iommu_int_thread*: * callbacks suppressed",
            "arm_smmu_*: * callbacks suppressed",
        ],
        IommuFault,
        "The IOMMU blocked more accesses than the kernel reports. The messages before this line name the functions.",
        MAP_IT,
    ),
    // Old kernels, such as 3.x, wrote the reason of a fault in a separate line.
    Message::failure(
        IOMMU,
        &["DMAR:*[fault reason*ccess beyond MGAW"],
        IommuFault,
        "The address of the access in the line before exceeds the address width of the IOMMU (MGAW).",
        CHECK_THE_WIDTH,
    ),
    Message::failure(
        IOMMU,
        &[
            "DMAR:*[fault reason*eserved field",
            "DMAR:*[fault reason*table ptr is invalid",
            "DMAR:*[fault reason*able address invalid",
            "DMAR:*[fault reason*nvalid context entry",
        ],
        IommuFault,
        "For the access in the line before, the IOMMU read an invalid entry in its own tables.",
        CHECK_THE_TABLES,
    ),
    Message::failure(
        IOMMU,
        &["DMAR:*[fault reason"],
        IommuFault,
        "The line states the reason for the fault in the line before it.",
        MAP_IT,
    ),
    Message::failure(
        IOMMU,
        &["AMD-Vi:*Event logged [Device not attached to domain properly]"],
        IommuFault,
        "The IOMMU blocked an access by a function without an IOMMU domain. The next line names the function.",
        "Bind a driver to the function that the next line names.",
    ),
    Message::failure(
        IOMMU,
        &[
            "DMAR:*VT-d detected Invalidation Time-out Error",
            "AMD-Vi:*Event logged [IOTLB_INV_TIMEOUT",
            "arm-smmu-v3*CMDQ error*ATC invalidate timeout",
        ],
        DeviceLost,
        "A function did not respond to a request to invalidate its address translation cache (ATS): it hangs, or was removed.",
        "Check the log for errors of the function or of its link, and reset it. To work without the cache, boot with pci=noats.",
    ),
    Message::failure(
        IOMMU,
        &["AMD-Vi:*Completion-Wait loop timed out", "arm-smmu-v3*CMD_SYNC timeout", "arm-smmu-v3*CMDQ timeout"],
        DeviceLost,
        "The IOMMU did not finish its commands in time. Usually it waits for a function that does not respond.",
        "Check the log for errors of a function or of its link before this line, and reset that function.",
    ),
    Message::uncaused_failure(
        IOMMU,
        &[
            "DMAR:*VT-d detected Invalidation Queue Error",
            "DMAR:*VT-d detected Invalidation Completion Error",
            "AMD-Vi:*Event logged [ILLEGAL_COMMAND_ERROR",
            "AMD-Vi:*Event logged [COMMAND_HARDWARE_ERROR",
            "arm-smmu-v3*CMDQ error",
            "arm-smmu-v3*unexpected global error reported",
        ],
        "The IOMMU rejected a command of its driver.",
        UPDATE_FIRMWARE,
    ),
    Message::failure(
        IOMMU,
        &[
            "AMD-Vi:*Event logged [INVALID_PPR_REQUEST",
            "DMAR:*Invalid page request:",
            "arm-smmu-v3*unexpected PRI request",
        ],
        IommuFault,
        "The IOMMU rejected a page request (PRI) of {last}.",
        "Reset {last}, and check that its driver supports page requests.",
    ),
    Message::failure(
        IOMMU,
        &["AMD-Vi:*Event logged [RMP_HW_ERROR"],
        ConfidentialGuest,
        "The IOMMU could not check whether {last} may access memory of a confidential guest (SEV-SNP).",
        UPDATE_FIRMWARE,
    ),
    Message::uncaused_failure(
        IOMMU,
        &["AMD-Vi:*Event logged [UNKNOWN", "EVTQ overflow detected -- events lost"],
        "The IOMMU reports an event that its driver cannot describe, or lost events.",
        "Check the log for faults of the same IOMMU.",
    ),
    Message::uncaused_refusal(
        IOMMU,
        &[
            "Firmware has requested this device have a 1:1 IOMMU mapping",
            "Device is ineligible for IOMMU domain attach due to platform RMRR requirement",
        ],
        "The firmware reserves memory that {0} must always reach (RMRR, IVMD), so the kernel does not attach the function \
         to a domain of a program or a virtual machine.",
        "Switch off the firmware's use of the device, for example pre-boot DMA protection or management over this slot, update \
         the firmware, or choose another slot.",
    ),
    Message::uncaused_failure(
        IOMMU,
        &["Failed to add to iommu group", "IOMMU driver was not able to establish FW requested direct mapping"],
        "The kernel could not set up the IOMMU for {0}.",
        "Check the lines before this one for the reason.",
    ),
    Message::refusal(
        IOMMU,
        &["DMAR: IOMMU disabled"],
        NoIommu,
        "The kernel command line disables the IOMMU (intel_iommu=off). VFIO needs it.",
        "Remove intel_iommu=off from the kernel command line, or replace it with intel_iommu=on.",
    ),
    Message::refusal(
        IOMMU,
        &["DMAR: Firmware forces DMA remapping off", "DMAR: No DMAR devices found", "DMAR: No DRHD structure found"],
        NoIommu,
        "The firmware offers no usable IOMMU.",
        "Enable VT-d in the firmware.",
    ),
    Message::fact(
        IOMMU,
        &["AMD-Vi: Unknown option - "],
        "The driver of AMD's IOMMU does not know an option of amd_iommu= and ignores it. The IOMMU is on without an option.",
        "Remove the option from the kernel command line.",
    ),
    Message::normal(
        IOMMU,
        &[
            "DMAR: IOMMU enabled",
            "DMAR: Intel(R) Virtualization Technology for Directed I/O",
            "AMD-Vi: Interrupt remapping enabled",
            "DMAR-IR: Enabled IRQ remapping",
        ],
        "The IOMMU is in use.",
    ),
    Message::normal(
        IOMMU,
        &["iommu: Default domain type:"],
        "Functions get a domain of this type: Translated maps addresses, Passthrough is an identity domain.",
    ),
    Message::normal(
        IOMMU,
        &["iommu: DMA domain TLB invalidation policy:"],
        "In strict mode the IOMMU blocks an unmapped address immediately. In lazy mode accesses can succeed until the next flush.",
    ),
    Message::normal(
        IOMMU,
        &["Adding to iommu group", "Removing from iommu group"],
        "Functions of one group cannot be isolated from each other.",
    ),
    Message::normal(
        IOMMU,
        &[
            "DMAR: Host address width",
            "DMAR: DRHD base:",
            "DMAR: DRHD: flags:",
            "DMAR: RMRR base:",
            "DMAR: ATSR flags:",
            "DMAR: dmar* reg_base_addr",
            "DMAR: dmar*: Using ",
            "DMAR: No RMRR found",
            "DMAR: No ATSR found",
            "DMAR: No SATC found",
            "DMAR-IR: ",
            "DMAR: IOMMU feature * inconsistent",
            "DMAR: IOMMU batching disallowed",
            "AMD-Vi: Found IOMMU",
            "AMD-Vi: IOMMU performance counters supported",
            "AMD-Vi: AMD IOMMUv2 ",
            "AMD-Vi: Extended features",
            "AMD-Vi: Using global IVHD EFR",
            "AMD-Vi: Virtual APIC enabled",
            "AMD-Vi: X2APIC enabled",
            "AMD-Vi: Lazy IO/TLB flushing enabled",
            "arm-smmu*: option ",
            "arm-smmu*: allocated * entries for",
            "arm-smmu*: oas *-bit",
            "arm-smmu*: ias *-bit",
            "arm-smmu*: 2-level strtab only covers",
            "arm-smmu*: msi_domain absent - falling back to wired irqs",
            "virtio_iommu*: input address:",
            "virtio_iommu*: page mask:",
        ],
        "The IOMMU reports its properties at boot.",
    ),
    Message::normal(
        IOMMU,
        &[
            "DMAR: Dump * table entries for IOVA",
            "DMAR: * entry: ",
            "DMAR: root entry: ",
            "DMAR: *table is not present",
            "DMAR: *ptable entry",
            "DMAR: pte level: ",
            "DMAR: page table not present at level",
            "DMAR: QI HEAD: ",
            "DMAR: QI PRIOR: ",
            "AMD-Vi: DTE[",
            "AMD-Vi: CMD[",
            "AMD-Vi:*Control Reg :",
            "AMD-Vi:   device=",
            "arm-smmu*priv * stag: ",
            "arm-smmu*\t0x",
            "arm-smmu*FSR    = ",
            "arm-smmu*FSYNR0 = ",
            "arm-smmu*GFSR 0x",
        ],
        "The line is part of the report of the fault before it.",
    ),
];
