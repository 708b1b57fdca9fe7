//! The result of classifying a trace.

use std::fmt;

use peerpath_paths::PathName;

use crate::calls::Call;

/// The return value of `pci_p2pdma_map_type` (`enum pci_p2pdma_map_type` in `include/linux/pci-p2pdma.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapType {
    /// `PCI_P2PDMA_MAP_NOT_SUPPORTED`: no permitted route.
    NotSupported,
    /// `PCI_P2PDMA_MAP_BUS_ADDR`: below a common switch.
    BusAddress,
    /// `PCI_P2PDMA_MAP_THRU_HOST_BRIDGE`: through the host bridge.
    ThroughHostBridge,
    /// A value that `pci_p2pdma_map_type` of Linux 7.3 does not return.
    Other(i32),
}

impl MapType {
    pub(crate) fn from_raw(raw: i32) -> Self {
        match raw {
            2 => Self::NotSupported,
            3 => Self::BusAddress,
            4 => Self::ThroughHostBridge,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for MapType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSupported => f.write_str("NOT_SUPPORTED (2)"),
            Self::BusAddress => f.write_str("BUS_ADDR (3)"),
            Self::ThroughHostBridge => f.write_str("THRU_HOST_BRIDGE (4)"),
            Self::Other(raw) => write!(f, "{raw}"),
        }
    }
}

/// A mapped part of the memory, with its physical and DMA address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// PCI address of the device that the memory is mapped for; `None` if no event names the device.
    pub device: Option<String>,
    /// Physical address of the first byte.
    pub phys: u64,
    /// DMA address; `None` if the kernel refused the mapping.
    pub dma_address: Option<u64>,
    /// Length in bytes.
    pub length_bytes: u64,
}

/// The path that the kernel set up, and the evidence from the trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The path; [`PathName::Unknown`] if the trace does not show the path.
    pub path: PathName,
    /// The events that show the path, one sentence each. For an unknown path the first sentence is the reason.
    pub evidence: Vec<String>,
    /// The DMA attributes of the mapping, e.g. `MMIO`; `None` if no event shows them, as on a bus-address path.
    pub attribute: Option<String>,
    /// Whether every DMA address equals the physical address; `None` if there are no mappings, an address is unknown, or the path
    /// is refused.
    pub dma_address_equals_physical: Option<bool>,
    /// The map type that P2PDMA returned; the first one if there are several.
    pub map_type: Option<MapType>,
    /// The mappings of the memory. For a refused registration: the mappings up to the refusal.
    pub mappings: Vec<Mapping>,
    /// The dma-buf calls that failed.
    pub failed_calls: Vec<Call>,
}
