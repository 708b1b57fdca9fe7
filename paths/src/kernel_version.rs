//! Versions of Linux.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Major and minor version of Linux: `7.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KernelVersion {
    /// The 7 in 7.2.12.
    pub major: u16,
    /// The 2 in 7.2.12.
    pub minor: u16,
}

impl KernelVersion {
    /// The first kernel in which vfio-pci exports dma-bufs.
    pub const VFIO_DMA_BUF: Self = Self { major: 6, minor: 19 };

    /// The first kernel with IOMMU groups, and with VFIO.
    pub const IOMMU_GROUPS: Self = Self { major: 3, minor: 6 };

    /// Finds the version in a text such as `7.2.12+deb14-amd64` or `Linux version 7.2.12 (...)`.
    pub fn find(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|part| {
            let mut numbers = part.split(|character: char| !character.is_ascii_digit());
            Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
        })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_version_in_kernel_texts() {
        let version = |major, minor| Some(KernelVersion { major, minor });
        assert_eq!(KernelVersion::find("7.2.12+deb14-amd64"), version(7, 2));
        assert_eq!(KernelVersion::find("Linux version 6.19.0-rc3 (me@host) (gcc 16.2)"), version(6, 19));
        assert_eq!(KernelVersion::find("7.3-peerpath"), version(7, 3));
        assert_eq!(KernelVersion::find("no number here"), None);
        assert!(KernelVersion::find("6.19") < KernelVersion::find("7.2"));
    }
}
