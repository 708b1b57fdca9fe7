//! What is known of a GPU and of the driver.

use std::fmt;

use peerpath_paths::{Bdf, Tree};

use crate::Error;
use crate::sys::{Attribute, Driver};

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
    /// 9.0 of Hopper.
    pub compute_capability: (u32, u32),
    /// The driver gives its memory as dma-bufs.
    pub dma_buf: Option<bool>,
    /// The driver lets other devices reach its memory.
    pub gpu_direct_rdma: Option<bool>,
    /// Those that come in through the root complex are ordered for the GPU without a flush.
    pub writes_ordered: Option<bool>,
    /// Memory of the host can be registered with it.
    pub host_register: Option<bool>,
    /// It shares its memory with the processor (Tegra).
    pub integrated: Option<bool>,
    /// Copies that run beside one another.
    pub copy_engines: Option<u32>,
}

impl Gpu {
    /// Asks for everything; what this driver cannot tell is absent.
    ///
    /// # Errors
    /// There is no such GPU, or the driver failed.
    pub fn read(driver: &Driver, index: u32) -> Result<Self, Error> {
        let device = driver.device(index)?;
        let number = |attribute| driver.attribute(device, attribute);
        let flag = |attribute| Ok::<_, Error>(number(attribute)?.map(|value| value != 0));
        let unsigned = |attribute| Ok::<_, Error>(number(attribute)?.and_then(|value| u32::try_from(value).ok()));
        Ok(Self {
            index,
            name: driver.name(device)?,
            bdf: driver.bus_id(device)?.and_then(|text| text.to_ascii_lowercase().parse().ok()),
            memory_bytes: driver.memory_bytes(device)?,
            compute_capability: (
                unsigned(Attribute::ComputeCapabilityMajor)?.unwrap_or(0),
                unsigned(Attribute::ComputeCapabilityMinor)?.unwrap_or(0),
            ),
            dma_buf: flag(Attribute::DmaBufSupported)?,
            gpu_direct_rdma: flag(Attribute::GpuDirectRdmaSupported)?,
            // 0 none, 100 by their owner, 200 by all devices.
            writes_ordered: number(Attribute::GpuDirectRdmaWritesOrdering)?.map(|order| order >= 100),
            host_register: flag(Attribute::HostRegisterSupported)?,
            integrated: flag(Attribute::Integrated)?,
            copy_engines: unsigned(Attribute::AsyncEngineCount)?,
        })
    }

    /// Every GPU of the driver.
    ///
    /// # Errors
    /// The driver failed.
    pub fn all(driver: &Driver) -> Result<Vec<Self>, Error> {
        (0..driver.gpu_count()?).map(|index| Self::read(driver, index)).collect()
    }
}

/// The kernel module under the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// `580.95.05`.
    pub version: Option<String>,
    /// NVIDIA's open modules rather than the proprietary ones; not known where it does not say.
    pub is_open: Option<bool>,
}

impl Module {
    const PATH: &str = "proc/driver/nvidia/version";

    /// What it says of itself; none where there is none, or where this machine does not show it.
    pub fn read(tree: &Tree) -> Option<Self> {
        Some(Self::parse(&tree.text(Self::PATH)?))
    }

    fn parse(text: &str) -> Self {
        let line = text.lines().find_map(|line| line.strip_prefix("NVRM version:")).unwrap_or("");
        let is_version =
            |word: &&str| word.contains('.') && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let version = line.split_whitespace().find(is_version).map(str::to_owned);
        let is_open = (!line.is_empty()).then(|| line.contains("Open Kernel Module"));
        Self { version, is_open }
    }
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

    #[test]
    fn the_module_says_what_it_is() {
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (x@y)  Tue Sep 23\n\
                    GCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)\n";
        assert_eq!(Module::parse(open), Module { version: Some("580.95.05".into()), is_open: Some(true) });
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n";
        assert_eq!(Module::parse(closed), Module { version: Some("535.183.01".into()), is_open: Some(false) });
        assert_eq!(Module::parse("something else\n"), Module { version: None, is_open: None });
    }
}
