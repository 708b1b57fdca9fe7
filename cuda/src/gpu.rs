//! Properties of GPUs and of the driver.

use std::fmt;

use peerpath_paths::Bdf;

/// Highest version of CUDA that a driver supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major version, e.g. 13 for 13.0.
    pub major: u32,
    /// Minor version, e.g. 0 for 13.0.
    pub minor: u32,
}

impl Version {
    /// Decodes the driver's version number: 13000 is 13.0.
    pub(crate) fn of(number: i32) -> Self {
        let number = u32::try_from(number).unwrap_or(0);
        Self { major: number / 1000, minor: number % 1000 / 10 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A GPU and its properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// GPU number in the driver's enumeration, from 0.
    pub index: u32,
    /// Model name, e.g. `NVIDIA H200`.
    pub name: String,
    /// PCI function. `None` if the GPU is not on a PCI bus.
    pub bdf: Option<Bdf>,
    /// Total memory in bytes.
    pub memory_bytes: u64,
    /// Whether the driver can export the GPU's memory as dma-bufs. `None` if the driver does not know the attribute.
    pub dma_buf: Option<bool>,
    /// Whether other devices can access the GPU's memory (GPUDirect RDMA). `None` if the driver does not know the attribute.
    pub gpu_direct_rdma: Option<bool>,
    /// Whether the GPU observes writes of other devices in order without a flush. `None` if the driver does not know the
    /// attribute.
    pub writes_ordered: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_versions() {
        assert_eq!(Version::of(12_080).to_string(), "12.8");
        assert_eq!(Version::of(13_000).to_string(), "13.0");
        assert!(Version::of(12_090) < Version::of(13_000));
        assert_eq!(Version::of(-1).to_string(), "0.0");
    }
}
