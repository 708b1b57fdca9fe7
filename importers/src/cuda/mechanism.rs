//! Mechanisms that give a GPU access to a buffer.

use peerpath_exporter::SourceKind;

use crate::MechanismSpec;

/// Mechanism that gives a GPU access to a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// `cuImportExternalMemory` of the dma-buf, with the handle type for dma-bufs.
    ExternalDmaBuf,
    /// `cuImportExternalMemory` of the dma-buf, with the opaque handle type.
    ExternalFd,
    /// `cuMemHostRegister` of a BAR's CPU mapping, as I/O memory.
    RegisterIoMemory,
    /// `cuMemHostRegister` of ordinary pages, which pins them.
    RegisterHostMemory,
    /// Memory of a GPU by its device address, without a dma-buf.
    DeviceMemory,
}

/// Names and summaries of the mechanisms, in the order of the enum.
pub(super) static SPECS: &[MechanismSpec] = &[
    MechanismSpec {
        name: "external-dmabuf",
        summary: "import the dma-buf as external memory (CUDA 13.0; documented for Tegra only)",
    },
    MechanismSpec {
        name: "external-fd",
        summary: "import the dma-buf's file descriptor as opaque external memory (documented for memory that Vulkan or CUDA exported)",
    },
    MechanismSpec {
        name: "register-io-memory",
        summary: "register the BAR's CPU mapping as I/O memory (discrete GPUs; needs root)",
    },
    MechanismSpec { name: "register-host-memory", summary: "register and pin pages of this process" },
    MechanismSpec {
        name: "device-memory",
        summary: "use GPU memory by its device address, without a dma-buf: the baseline",
    },
];

impl Mechanism {
    const ALL: [Self; 5] =
        [Self::ExternalDmaBuf, Self::ExternalFd, Self::RegisterIoMemory, Self::RegisterHostMemory, Self::DeviceMemory];

    fn spec(self) -> &'static MechanismSpec {
        &SPECS[self as usize]
    }

    /// Returns the name of the mechanism in addresses and in results.
    pub fn as_str(self) -> &'static str {
        self.spec().name
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.as_str() == name)
    }

    /// Returns the condition under which the mechanism works, according to NVIDIA's documentation.
    pub(super) fn condition(self) -> &'static str {
        match self {
            Self::ExternalDmaBuf => "CUDA 13.0 or newer; NVIDIA documents it only for Tegra-class devices",
            Self::ExternalFd => "NVIDIA documents it only for memory that Vulkan or CUDA exported",
            Self::RegisterIoMemory => {
                "it needs root, a physically contiguous BAR mapped into this process, and a kernel that lets the driver look up that mapping"
            }
            Self::RegisterHostMemory => "it needs ordinary pages, and a sufficient locked-memory limit (ulimit -l)",
            Self::DeviceMemory => "it needs memory of a GPU that this process allocated, and peer access to that GPU",
        }
    }

    /// Returns the mechanisms to try for a kind of memory, in order. Mechanisms that pass the type of the memory to the
    /// driver come first.
    pub(super) fn order(kind: SourceKind) -> &'static [Self] {
        match kind {
            SourceKind::Vfio => &[Self::ExternalDmaBuf, Self::ExternalFd, Self::RegisterIoMemory],
            SourceKind::Udmabuf | SourceKind::Heap => {
                &[Self::ExternalDmaBuf, Self::ExternalFd, Self::RegisterHostMemory, Self::RegisterIoMemory]
            }
            SourceKind::Cuda => &[Self::ExternalDmaBuf, Self::ExternalFd, Self::DeviceMemory],
            SourceKind::Host => &[Self::RegisterHostMemory],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_mechanism_by_its_name() {
        assert_eq!(Mechanism::ALL.len(), SPECS.len());
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::named(mechanism.as_str()), Some(mechanism));
            assert!(!mechanism.condition().ends_with('.'));
        }
        assert_eq!(Mechanism::RegisterIoMemory.as_str(), "register-io-memory");
    }
}
