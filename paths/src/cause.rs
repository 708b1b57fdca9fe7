//! Causes of failures. Results and scripts rely on their names.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// The cause of a failure, as in results (`"cause"`, `"blockers"`). New names may be added; existing ones keep their
        /// meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Cause {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl Cause {
            /// Every cause that results may contain.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Name of the cause in results.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

causes! {
    /// P2PDMA finds no permitted route between the two functions.
    Topology = "topology",
    /// `swiotlb=force` bounces all untranslated mappings, and MMIO cannot be bounced.
    SwiotlbForced = "swiotlb-forced",
    /// The importer cannot address the BAR: the address exceeds its DMA mask or lies outside of the inbound ranges of its host
    /// bridge, or a translated domain has no free range of this size below the mask.
    DmaMask = "dma-mask",
    /// The importing driver does not allow peer-to-peer memory.
    ImporterNotP2p = "importer-not-p2p",
    /// The importing driver pins the buffer without support for revocation.
    ImporterNotRevocable = "importer-not-revocable",
    /// The importing driver has no dma-buf support.
    ImporterNoDmabuf = "importer-no-dmabuf",
    /// The importer does not support atomic operations, or supports them only in ordinary memory.
    AtomicsRefused = "atomics-refused",
    /// The exporter revoked the memory: reset, memory decoding off, low-power state, or close.
    Revoked = "revoked",
    /// The importer accessed memory after the exporter revoked it.
    StaleAccess = "stale-access",
    /// The kernel cannot map a dma-buf of several ranges in a translated domain (Linux 6.19 to 7.3).
    MultiRangeDefect = "multi-range-defect",
    /// The importer maps dma-bufs of one range only.
    OneRangeOnly = "one-range-only",
    /// The importer maps dma-bufs of vfio-pci only.
    ForeignDmaBuf = "foreign-dmabuf",
    /// The host has no enabled IOMMU, which VFIO requires.
    NoIommu = "no-iommu",
    /// The function is in a no-IOMMU group of VFIO: no IOMMU limits its DMA, and peerpath does not open it.
    Noiommu = "noiommu",
    /// Another function of the IOMMU group is bound to a driver that VFIO does not tolerate.
    GroupNotViable = "group-not-viable",
    /// The function is not bound to vfio-pci, or its driver does not support the operation.
    DriverNotVfio = "driver-not-vfio",
    /// The DMA operations of the platform reject MMIO.
    LegacyDmaOps = "legacy-dma-ops",
    /// A confidential guest cannot share this BAR.
    ConfidentialGuest = "confidential-guest",
    /// The function does not respond to memory accesses: its memory-decode bit is off.
    MemoryDecodeOff = "memory-decode-off",
    /// The BAR or the range is not exportable.
    BarNotExportable = "bar-not-exportable",
    /// The IOMMU blocked an access of the importer.
    IommuFault = "iommu-fault",
    /// A PCIe port, link or function reported an error (AER or DPC).
    PcieError = "pcie-error",
    /// Access control (ACS) of a PCIe port blocked a request.
    AcsViolation = "acs-violation",
    /// This process lacks a permission or capability.
    NoPermission = "no-permission",
    /// Another program or the host itself uses the function.
    InUse = "in-use",
    /// The kernel is too old for the interface, or is built without it.
    KernelTooOld = "kernel-too-old",
    /// The library that drives the target is not installed.
    LibraryMissing = "library-missing",
    /// The library that drives the target is too old for the operation.
    DriverTooOld = "driver-too-old",
    /// The target's driver does not support the mechanism for this memory.
    MechanismRefused = "mechanism-refused",
    /// The device failed during the run.
    DeviceLost = "device-lost",
    /// The PCI function was removed from the host (hot-unplug) or unbound from its VFIO driver during the run.
    Removed = "removed",
    /// The device does not exist on this host.
    NoDevice = "no-device",
    /// The device's port is down.
    PortDown = "port-down",
    /// The received bytes differ from the sent bytes.
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
    /// The connection to the other host was lost, or the other host violated the protocol.
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
    fn json_contains_the_name() {
        for cause in Cause::ALL {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
        }
    }
}
