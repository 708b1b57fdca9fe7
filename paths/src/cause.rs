//! Cause words of failures, which results and scripts rely on.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+) => {
        /// The cause of a failure, as in results (`"cause"`, `"blockers"`). New words may be added; existing ones keep their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Cause {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $variant,)+
        }

        impl Cause {
            /// Every cause.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word in results.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

causes! {
    /// The kernel's P2P rules find no permitted route between the two functions.
    Topology = "topology",
    /// `swiotlb=force` bounces all direct mappings, and MMIO cannot be bounced.
    SwiotlbForced = "swiotlb-forced",
    /// The BAR's address exceeds the importer's DMA mask.
    DmaMask = "dma-mask",
    /// The importing driver did not allow peer-to-peer memory.
    ImporterNotP2p = "importer-not-p2p",
    /// The importing driver pins the buffer without support for revocation.
    ImporterNotRevocable = "importer-not-revocable",
    /// The importing driver has no dma-buf support.
    ImporterNoDmabuf = "importer-no-dmabuf",
    /// The importer does not support atomic operations, or not on another device's memory.
    AtomicsRefused = "atomics-refused",
    /// The exporter revoked the memory: reset, memory decoding off, low-power state, or close.
    Revoked = "revoked",
    /// Linux 7.2 and 7.3 map only the first range of a multi-range dma-buf in a translated domain.
    MultiRangeDefect = "multi-range-defect",
    /// The importer maps dma-bufs of one range only.
    OneRangeOnly = "one-range-only",
    /// The importer maps dma-bufs of vfio-pci only.
    ForeignDmaBuf = "foreign-dmabuf",
    /// The host has no enabled IOMMU, which VFIO requires.
    NoIommu = "no-iommu",
    /// The function is bound through VFIO's no-IOMMU mode, which exports nothing.
    Noiommu = "noiommu",
    /// Another function of the IOMMU group is bound to a driver that VFIO does not tolerate.
    GroupNotViable = "group-not-viable",
    /// The function is not bound to vfio-pci, or its driver does not support the operation.
    DriverNotVfio = "driver-not-vfio",
    /// The platform maps DMA through legacy operations that assume page-backed memory.
    LegacyDmaOps = "legacy-dma-ops",
    /// A confidential guest cannot share this BAR.
    ConfidentialGuest = "confidential-guest",
    /// The function does not respond to memory accesses: its memory-decode bit is off.
    MemoryDecodeOff = "memory-decode-off",
    /// The BAR or the range is not exportable.
    BarNotExportable = "bar-not-exportable",
    /// The IOMMU blocked an access of the importer.
    IommuFault = "iommu-fault",
    /// The user lacks a permission.
    NoPermission = "no-permission",
    /// Another user holds the function.
    InUse = "in-use",
    /// The kernel lacks the interface.
    KernelTooOld = "kernel-too-old",
    /// The library that drives the target is not installed.
    LibraryMissing = "library-missing",
    /// The library that drives the target is too old for the operation.
    DriverTooOld = "driver-too-old",
    /// The target's driver does not support the mechanism for this memory.
    MechanismRefused = "mechanism-refused",
    /// The device failed during the run.
    DeviceLost = "device-lost",
    /// The device does not exist on this host.
    NoDevice = "no-device",
    /// The device's port is down.
    PortDown = "port-down",
    /// The bytes found are not the bytes sent.
    DataMismatch = "data-mismatch",
    /// Packets of an unreliable connection were lost.
    PacketsLost = "packets-lost",
    /// The device completed the transfer with an error.
    TransferFailed = "transfer-failed",
    /// The device did not respond in time.
    TimedOut = "timed-out",
    /// A limit of this process or host was reached (locked memory, file descriptors, queue depth).
    LimitReached = "limit-reached",
    /// The observed path differs from the requested path.
    PathMismatch = "path-mismatch",
    /// The run was interrupted.
    Interrupted = "interrupted",
    /// The connection to the other host was lost, or the host violated the protocol.
    PeerLost = "peer-lost",
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_contains_the_word() {
        for cause in Cause::ALL {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
        }
    }
}
