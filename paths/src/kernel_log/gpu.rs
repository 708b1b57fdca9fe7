//! Messages of GPU drivers (NVIDIA's driver and nvidia-peermem, drivers/gpu/drm/amd, drivers/gpu/drm/xe). The numbers of Xid
//! errors are those of NVIDIA's documentation ("XID Errors").

use super::message::{Family, Message};
use crate::Cause::{BarNotExportable, DeviceLost, DriverTooOld, TimedOut, Topology, TransferFailed};

const GPU: Family = Family::Gpu;

/// Wordings of the messages with these Xid numbers: `NVRM: Xid (PCI:0000:cb:00): 79, pid=1`.
macro_rules! xid {
    ($($number:literal),+) => { &[$(concat!("NVRM: Xid (PCI:*): ", $number, ",")),+] };
}

pub(super) const MESSAGES: &[Message] = &[
    Message::failure(
        GPU,
        &["NVRM: Xid (PCI:*): 79,", "has fallen off the bus"],
        DeviceLost,
        "{gpu} does not respond on PCIe: its link is down, or it lost power.",
        "Check the log for PCIe errors before this line, then the power and the seat of the card. Power-cycle the host.",
    ),
    Message::failure(
        GPU,
        xid!(31),
        TransferFailed,
        "{gpu} accessed an address without a mapping (MMU fault), or a program passed it an invalid pointer.",
        "Check that the memory was registered with the GPU and not freed before the access ended. The GPU's own MMU reports this \
         fault, not the IOMMU.",
    ),
    Message::uncaused_failure(
        GPU,
        xid!(13, 43, 45, 69, 109),
        "A program on {gpu} failed, and the driver stopped its work.",
        "Check the program (`compute-sanitizer`), and the log for an earlier Xid of the same GPU.",
    ),
    Message::uncaused_failure(
        GPU,
        xid!(48, 63, 64, 92, 94, 95),
        "ECC detected an error in the memory of {gpu}.",
        "Check `nvidia-smi -q -d ECC,ROW_REMAPPER`, reset the GPU, and replace it if the error returns.",
    ),
    Message::failure(
        GPU,
        xid!(61, 62, 119, 120),
        DeviceLost,
        "The firmware of {gpu} (GSP or another microcontroller) does not respond.",
        "Reset the GPU (`nvidia-smi --gpu-reset`), and update the driver.",
    ),
    Message::failure(
        GPU,
        xid!(74),
        TransferFailed,
        "An NVLink connection of {gpu} has an error. PCIe is not affected.",
        "Check `nvidia-smi nvlink -e`, and reset the GPU.",
    ),
    Message::failure(
        GPU,
        xid!(38, 32),
        TransferFailed,
        "The driver of {gpu} received damaged commands, often because of PCIe errors.",
        "Check the log for PCIe errors of the GPU.",
    ),
    Message::uncaused_failure(
        GPU,
        &["NVRM: Xid (PCI:"],
        "NVIDIA's driver reports an error of {gpu}. The number after the address is the Xid.",
        "See NVIDIA's documentation of XID errors for the meaning of the number.",
    ),
    Message::fact(
        GPU,
        &["nvidia-peermem nv_get_p2p_free_callback*ERROR detected invalid context"],
        "A program asked nvidia-peermem to release memory of a GPU that it had already released: a program ended or freed \
         the memory while it was registered.",
        "Deregister the memory before it is freed. If programs end normally, ignore the line.",
    ),
    Message::refusal(
        GPU,
        &[
            "nvidia_peermem: *ib_register_peer_memory_client",
            "nv_peer_mem: *ib_register_peer_memory_client",
            "Unknown symbol ib_register_peer_memory_client",
        ],
        DriverTooOld,
        "nvidia-peermem cannot load: the RDMA drivers of this kernel do not offer the interface that it needs. Only the \
         drivers of NVIDIA's network software (MLNX_OFED, DOCA) offer it.",
        "Register memory of the GPU as a dma-buf, which needs no nvidia-peermem. Otherwise install MLNX_OFED for this kernel, and \
         then NVIDIA's driver again.",
    ),
    Message::uncaused_failure(
        GPU,
        &["nvidia_p2p_get_pages(*) failed", "NVRM: *nvidia_p2p_get_pages*fail"],
        "NVIDIA's driver did not provide the memory of the GPU: the address is not memory of a GPU, or it was freed.",
        "Check that the pointer comes from cuMemAlloc or cudaMalloc, is aligned to 64 KiB, and is still allocated.",
    ),
    Message::uncaused_failure(
        GPU,
        &["NVRM: nv_dma_map_*", "NVRM: *nv_dma_map_peer", "NVRM: *failed to map peer"],
        "NVIDIA's driver could not map a BAR of another GPU for DMA.",
        "Check that both GPUs are below one PCIe switch or the host routes peer-to-peer requests, and the kernel log for IOMMU faults.",
    ),
    Message::uncaused_failure(
        GPU,
        &["NVRM: *nv_dma_buf", "NVRM: *dma-buf", "NVRM: *dmabuf"],
        "NVIDIA's driver could not export or map memory of a GPU as a dma-buf.",
        "Check the lines around this one, and that the GPU and the open kernel modules support dma-bufs.",
    ),
    Message::refusal(
        GPU,
        &["NVRM: This PCI I/O region assigned to your NVIDIA device is invalid", "NVRM: BAR* is 0M @ 0x0"],
        BarNotExportable,
        "The firmware assigned no address to a BAR of the GPU.",
        "Enable addresses above 4 GiB (Above 4G Decoding) in the firmware, or boot with pci=realloc.",
    ),
    Message::failure(
        GPU,
        &["NVRM: *RmInitAdapter failed", "NVRM: *rm_init_adapter failed"],
        DeviceLost,
        "NVIDIA's driver could not start {gpu}.",
        "Check the lines before this one, the power of the card, and that no other driver has used the GPU since its last reset.",
    ),
    // amd/amdgpu/amdgpu_device.c
    Message::refusal(
        GPU,
        &["PCIe P2P access from peer device * is not supported by the chipset"],
        Topology,
        "The P2PDMA check of amdgpu permits no transfer between {0} and {1}. Shared buffers go through host memory instead.",
        "Place both GPUs below one PCIe switch without ACS redirect, or use a host whose host bridge P2PDMA trusts (AMD Zen, recent \
         Intel Xeon).",
    ),
    Message::failure(
        GPU,
        &["amdgpu*page fault (src_id", "amdgpu*no-retry page fault", "amdgpu*retry page fault"],
        TransferFailed,
        "{gpu} accessed an address without a mapping in its own page tables.",
        "Check that the memory was registered with the GPU and not freed before the access ended. The GPU's own MMU reports this \
         fault, not the IOMMU.",
    ),
    Message::failure(
        GPU,
        &["amdgpu*ring * timeout", "amdgpu*MES failed to respond", "xe *Timedout job", "xe *GT*: reset"],
        TimedOut,
        "Work of {gpu} did not complete in time, and the driver resets the GPU.",
        "Check the log for IOMMU faults and PCIe errors of the GPU before this line.",
    ),
    Message::failure(
        GPU,
        &[
            "amdgpu*device lost from bus",
            "xe *device wedged",
            "xe *is wedged",
            "amdgpu*GPU reset end with ret = -",
            "amdgpu*GPU Recovery Failed",
        ],
        DeviceLost,
        "The driver of {gpu} stopped using the GPU after an error.",
        "Unbind and bind the GPU, or power-cycle the host.",
    ),
    Message::failure(
        GPU,
        &["xe *Engine memory CAT error", "xe *Fault response: Unsuccessful"],
        TransferFailed,
        "{gpu} accessed an address without a mapping in its own page tables.",
        "Check that the memory was bound for the GPU and not freed before the access ended.",
    ),
];
