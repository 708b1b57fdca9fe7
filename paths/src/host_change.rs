//! Changes of a host that change the path of a pair. `peerpath-host` carries them out.

use std::fmt;

use crate::bdf::Bdf;
use crate::config::AcsControl;
use crate::group::IommuGroupId;

/// The domain type that an IOMMU group is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainType {
    /// DMA address = physical address.
    Identity,
    /// The DMA API allocates addresses that the IOMMU translates.
    Translated,
}

impl DomainType {
    /// The names of the type in sysfs, the preferred one first.
    pub fn sysfs_names(self) -> &'static [&'static str] {
        match self {
            Self::Identity => &["identity"],
            // DMA-FQ (with a flush queue) is the default of most kernels; not every IOMMU driver supports it.
            Self::Translated => &["DMA-FQ", "DMA"],
        }
    }
}

/// One change of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostChange {
    /// Sets the domain type of a group.
    Domain {
        /// Number of the group.
        group: IommuGroupId,
        /// The new type.
        to: DomainType,
    },
    /// Sets or clears redirect bits in the ACS Control register of a function.
    Acs {
        /// The function, usually a port.
        bdf: Bdf,
        /// Offset of the ACS Control register in config space, in bytes.
        offset: u16,
        /// The bits to change.
        bits: AcsControl,
        /// `true` to set the bits, `false` to clear them.
        set: bool,
    },
}

impl fmt::Display for HostChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain { group, to } => write!(f, "IOMMU group {group} switched to {}", to.sysfs_names()[0]),
            Self::Acs { bdf, bits, set, .. } => {
                write!(f, "ACS redirect {} on {bdf} ({})", if *set { "set" } else { "cleared" }, bits.names())
            }
        }
    }
}
