//! Why something is refused, in words that results and scripts can rely on.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+) => {
        /// A cause of refusal, as it stands in results (`"cause"`, `"blockers"`). Words are added, never bent.
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
    /// The importer's DMA mask does not reach the BAR's address.
    DmaMask = "dma-mask",
    /// The importing driver did not allow peer-to-peer memory.
    ImporterNotP2p = "importer-not-p2p",
    /// The importing driver pins the buffer and offers no way to take it back.
    ImporterNotRevocable = "importer-not-revocable",
    /// The importing driver has no dma-buf support at all.
    ImporterNoDmabuf = "importer-no-dmabuf",
    /// The importer does no atomic operations, or none on another device's memory.
    AtomicsRefused = "atomics-refused",
    /// The exporter took the memory back: reset, memory decoding off, low power, or closed.
    Revoked = "revoked",
    /// Linux 7.2 and 7.3 map only the first range of a multi-range dma-buf in a translated domain.
    MultiRangeDefect = "multi-range-defect",
    /// The importer maps dma-bufs of one range only.
    OneRangeOnly = "one-range-only",
    /// The importer maps dma-bufs of vfio-pci only.
    ForeignDmaBuf = "foreign-dmabuf",
    /// The host has no IOMMU in use, so VFIO can open nothing.
    NoIommu = "no-iommu",
    /// The function is bound through VFIO's no-IOMMU mode, which exports nothing.
    Noiommu = "noiommu",
    /// Another function of the IOMMU group belongs to a driver that VFIO does not tolerate.
    GroupNotViable = "group-not-viable",
    /// The function is not bound to vfio-pci, or its driver lacks what is asked.
    DriverNotVfio = "driver-not-vfio",
    /// The platform maps DMA through legacy operations that assume page-backed memory.
    LegacyDmaOps = "legacy-dma-ops",
    /// A confidential guest cannot share this BAR.
    ConfidentialGuest = "confidential-guest",
    /// The function does not answer memory accesses: its memory-decode bit is off.
    MemoryDecodeOff = "memory-decode-off",
    /// The BAR, or the range of it, is not of a kind that can be exported.
    BarNotExportable = "bar-not-exportable",
    /// The IOMMU blocked an access of the importer.
    IommuFault = "iommu-fault",
    /// The user lacks a permission.
    NoPermission = "no-permission",
    /// Something else uses the function.
    InUse = "in-use",
    /// The kernel lacks the interface.
    KernelTooOld = "kernel-too-old",
    /// The library that drives the target is not installed.
    LibraryMissing = "library-missing",
    /// The library that drives the target lacks what is asked.
    DriverTooOld = "driver-too-old",
    /// The target's driver offers no way to this memory, or not this one.
    MechanismRefused = "mechanism-refused",
    /// The device stopped working in the middle.
    DeviceLost = "device-lost",
    /// The device does not exist here.
    NoDevice = "no-device",
    /// The device's port is not up.
    PortDown = "port-down",
    /// The bytes found are not the bytes sent.
    DataMismatch = "data-mismatch",
    /// What was sent over a connection that is not reliable did not arrive.
    PacketsLost = "packets-lost",
    /// The transfer ended with an error of the device.
    TransferFailed = "transfer-failed",
    /// The device did not answer in time.
    TimedOut = "timed-out",
    /// A limit of this process or host was reached (locked memory, file descriptors, queue depth).
    LimitReached = "limit-reached",
    /// The path seen is not the path asked for.
    PathMismatch = "path-mismatch",
    /// The run was interrupted.
    Interrupted = "interrupted",
    /// The other host of the run went away, or does not keep to the protocol.
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
    fn json_carries_the_word() {
        for cause in Cause::ALL {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
        }
    }
}
