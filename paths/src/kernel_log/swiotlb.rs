//! Messages of the DMA API about bounce buffers and DMA masks (kernel/dma/swiotlb.c, direct.c).

use super::message::{Family, Message};
use crate::Cause::{ConfidentialGuest, DmaMask, LimitReached};

const SWIOTLB: Family = Family::Swiotlb;

pub(super) const MESSAGES: &[Message] = &[
    Message::failure(
        SWIOTLB,
        &["swiotlb buffer is full", "swiotlb: coherent allocation failed"],
        LimitReached,
        "The kernel copies the host memory of {0} through a bounce buffer (swiotlb), which has no free space of this size. \
         Memory of a BAR never bounces.",
        "Remove swiotlb=force if the kernel command line has it, or set the IOMMU domain of the function to a translating type \
         (DMA). In a virtual machine, enlarge the buffer: swiotlb=131072 reserves 256 MiB.",
    ),
    Message::refusal(
        SWIOTLB,
        &[
            "DMA addr *overflow (mask",
            "DMA addr *overflow * of DMA mask",
            "DMA map * of device mask",
            "overflow * of DMA mask",
        ],
        DmaMask,
        "The kernel maps memory for {0} without translation, and the address exceeds what the function can reach: its DMA \
         mask, or the limit of its bus. The kernel writes this line once per boot.",
        "Set the IOMMU domain of {0} to a translating type (DMA), or use a function that reaches the address. If the mask \
         covers the address, the line can concern a confidential guest, whose BARs are not shared with the hypervisor.",
    ),
    Message::refusal(
        SWIOTLB,
        &["swiotlb addr *overflow (mask"],
        DmaMask,
        "The bounce buffer itself is above the addresses that {0} can reach.",
        "Set the IOMMU domain of {0} to a translating type (DMA), or boot without swiotlb=force.",
    ),
    Message::failure(
        SWIOTLB,
        &["Can not allocate SWIOTLB buffer earlier and can't now provide you with the DMA bounce buffer"],
        LimitReached,
        "{0} needs a bounce buffer, and the kernel has none: swiotlb=noforce, or too little low memory at boot.",
        "Remove swiotlb=noforce, or set the IOMMU domain of the function to a translating type (DMA).",
    ),
    Message::failure(
        SWIOTLB,
        &[
            "software IO TLB: Cannot allocate buffer",
            "software IO TLB: Failed to allocate",
            "software IO TLB: *Failed to allocate",
            "software IO TLB: only able to allocate",
            "software IO TLB: No low mem",
        ],
        LimitReached,
        "The kernel could not allocate the bounce buffer in the requested size.",
        "Reduce the size in swiotlb=, or remove the parameter.",
    ),
    Message::fact(
        SWIOTLB,
        &["Memory encryption is active and system is using DMA bounce buffers"],
        "The memory of this host is encrypted, so the kernel copies through bounce buffers. Memory of a BAR never bounces: in a \
         confidential guest the kernel refuses to map it without translation.",
        "For peer-to-peer DMA, run outside of a confidential guest. On a host with SME, set the IOMMU domain of the function to a \
         translating type (DMA).",
    ),
    Message::failure(
        SWIOTLB,
        &["software IO TLB: Failed to decrypt default memory pool"],
        ConfidentialGuest,
        "The kernel could not share the bounce buffer of a confidential guest with the host.",
        "Update the kernel and the hypervisor.",
    ),
    Message::normal(
        SWIOTLB,
        &[
            "software IO TLB: ",
            "PCI-DMA: Using software bounce buffering for IO (SWIOTLB)",
            "SWIOTLB bounce buffer size adjusted",
            "SWIOTLB bounce buffer size roundup",
        ],
        "The kernel reports the size and the place of the bounce buffer.",
    ),
];
