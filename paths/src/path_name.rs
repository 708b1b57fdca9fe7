//! The names of paths.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The path of data between an exported buffer and an importer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathName {
    /// Peer to peer below a common switch; no IOMMU, no host bridge (the kernel's `PCI_P2PDMA_MAP_BUS_ADDR`).
    BusAddress,
    /// Through the root complex with DMA address = physical address: identity domain or no IOMMU.
    HostBridgeBypass,
    /// Through the root complex; the importer's IOMMU domain translates the IOVA.
    HostBridgeTranslated,
    /// The kernel refuses the mapping.
    Refused,
    /// Baseline: the same operation on ordinary memory.
    HostMemory,
    /// Baseline: the CPU copies the BAR through host memory.
    Staged,
    /// Unknown: the path could not be observed, or the prediction depends on missing information.
    Unknown,
}

impl PathName {
    /// Every name, in the order in which help texts list them.
    pub const ALL: [Self; 7] = [
        Self::BusAddress,
        Self::HostBridgeBypass,
        Self::HostBridgeTranslated,
        Self::Refused,
        Self::HostMemory,
        Self::Staged,
        Self::Unknown,
    ];

    /// Name of the path in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BusAddress => "bus-address",
            Self::HostBridgeBypass => "host-bridge-bypass",
            Self::HostBridgeTranslated => "host-bridge-translated",
            Self::Refused => "refused",
            Self::HostMemory => "host-memory",
            Self::Staged => "staged",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for PathName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The error for a text that is not the name of a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid path name {0:?}")]
pub struct ParsePathNameError(String);

impl FromStr for PathName {
    type Err = ParsePathNameError;

    /// `bypass` and `translated` are short for the `host-bridge-` names.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let full = match text {
            "bypass" => "host-bridge-bypass",
            "translated" => "host-bridge-translated",
            other => other,
        };
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == full)
            .ok_or_else(|| ParsePathNameError(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_match_their_json() {
        for name in PathName::ALL {
            assert_eq!(name.as_str().parse(), Ok(name));
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
        }
        assert_eq!("bypass".parse(), Ok(PathName::HostBridgeBypass));
    }
}
