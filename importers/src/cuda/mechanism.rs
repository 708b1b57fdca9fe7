//! The ways by which a GPU can be made to reach a buffer.

use peerpath_exporter::SourceKind;

use crate::MechanismSpec;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mechanism {
    /// `cuImportExternalMemory` of the dma-buf, named as one.
    ExternalDmaBuf,
    /// The same as a file descriptor of which nothing is said.
    ExternalFd,
    /// `cuMemHostRegister` of the mapping, as memory of a device.
    RegisterIoMemory,
    /// The same of pages.
    RegisterHostMemory,
    /// The address that the driver gave the memory when it was allocated.
    DeviceMemory,
}

/// Names, and when each can work as far as that is written down, in the order of the enum.
pub(super) static SPECS: &[MechanismSpec] = &[
    MechanismSpec {
        name: "external-dmabuf",
        summary: "import of the dma-buf as external memory; CUDA 13.0, documented for Tegra alone",
    },
    MechanismSpec {
        name: "external-fd",
        summary: "import of its file descriptor as external memory; documented for what Vulkan or CUDA allocated",
    },
    MechanismSpec {
        name: "register-io-memory",
        summary: "registration of the BAR's CPU mapping as I/O memory; discrete GPUs, as root",
    },
    MechanismSpec { name: "register-host-memory", summary: "registration of pages of this process, which pins them" },
    MechanismSpec {
        name: "device-memory",
        summary: "GPU memory by the driver's own address, no dma-buf: the baseline",
    },
];

impl Mechanism {
    const ALL: [Self; 5] =
        [Self::ExternalDmaBuf, Self::ExternalFd, Self::RegisterIoMemory, Self::RegisterHostMemory, Self::DeviceMemory];

    fn spec(self) -> &'static MechanismSpec {
        &SPECS[self as usize]
    }

    /// The name on the command line and in results.
    pub(super) fn as_str(self) -> &'static str {
        self.spec().name
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.as_str() == name)
    }

    /// When it can work, as far as that is written down.
    pub(super) fn condition(self) -> &'static str {
        match self {
            Self::ExternalDmaBuf => "NVIDIA documents it for Tegra-class parts, from CUDA 13.0 on",
            Self::ExternalFd => "NVIDIA documents it for memory that Vulkan or CUDA itself has exported",
            Self::RegisterIoMemory => {
                "it needs root, a physically contiguous BAR mapped into this process, and a kernel that lets the driver look up that mapping"
            }
            Self::RegisterHostMemory => "it needs ordinary pages, and room to lock them",
            Self::DeviceMemory => {
                "it needs memory of a GPU that this process allocated, and a GPU that reaches that one"
            }
        }
    }

    /// What is tried for a kind of memory, in its order: those first that tell the driver what the memory is.
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
    fn each_has_a_name_that_finds_it() {
        assert_eq!(Mechanism::ALL.len(), SPECS.len());
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::named(mechanism.as_str()), Some(mechanism));
            assert!(!mechanism.condition().ends_with('.'));
        }
        assert_eq!(Mechanism::RegisterIoMemory.as_str(), "register-io-memory");
    }
}
