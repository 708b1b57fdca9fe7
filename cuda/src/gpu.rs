//! What is known of a GPU and of the driver.

use std::fmt;

use peerpath_paths::Bdf;

/// The version of CUDA that a driver speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 13 of 13.0.
    pub major: u32,
    /// 0 of 13.0.
    pub minor: u32,
}

impl Version {
    /// Of the driver's one number, such as 13000.
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

/// A GPU, by its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// The driver's number of it.
    pub index: u32,
    /// `NVIDIA H200`.
    pub name: String,
    /// Its function.
    pub bdf: Option<Bdf>,
    /// Its memory.
    pub memory_bytes: u64,
    /// The driver gives its memory as dma-bufs.
    pub dma_buf: Option<bool>,
    /// The driver lets other devices reach its memory.
    pub gpu_direct_rdma: Option<bool>,
    /// Those that come in through the root complex are ordered for the GPU without a flush.
    pub writes_ordered: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_one_number() {
        assert_eq!(Version::of(12_080).to_string(), "12.8");
        assert_eq!(Version::of(13_000).to_string(), "13.0");
        assert!(Version::of(12_090) < Version::of(13_000));
        assert_eq!(Version::of(-1).to_string(), "0.0");
    }
}
