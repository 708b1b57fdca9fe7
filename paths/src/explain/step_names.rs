//! Names of steps in output, and aliases that users and programs use for them.

use std::str::FromStr;

use super::{MemoryKind, Step};

/// Every step with its name and its aliases, in the order in which a run performs the steps.
const NAMES: &[(Step, &str, &[&str])] = &[
    (Step::BindDriver, "bind-driver", &["bind", "unbind", "driver_override", "probe"]),
    (Step::SetDomainType, "set-domain-type", &["domain", "domain-type", "iommu-group-type"]),
    (Step::OpenIommu, "open-iommu", &["iommu", "/dev/iommu", "/dev/vfio/vfio", "container"]),
    (Step::OpenVfio, "open-vfio", &["open", "vfio", "open-group", "/dev/vfio"]),
    (
        Step::AttachIommu,
        "attach-iommu",
        &[
            "attach",
            "VFIO_GROUP_SET_CONTAINER",
            "set-container",
            "VFIO_SET_IOMMU",
            "set-iommu",
            "VFIO_DEVICE_BIND_IOMMUFD",
            "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
            "bind-iommufd",
        ],
    ),
    (Step::OpenDevice, "open-device", &["VFIO_GROUP_GET_DEVICE_FD", "get-device-fd", "device"]),
    (Step::ResetDevice, "reset-device", &["reset", "VFIO_DEVICE_RESET", "VFIO_DEVICE_PCI_HOT_RESET", "flr"]),
    (Step::RegionAccess, "region-access", &["region", "mmap", "map-region", "map-bar", "pread", "pwrite"]),
    (
        Step::Export,
        "export",
        &[
            "export-dma-buf",
            "VFIO_DEVICE_FEATURE",
            "VFIO_DEVICE_FEATURE_DMA_BUF",
            "get-dma-buf",
            "cuMemGetHandleForAddressRange",
            "hsa_amd_portable_export_dmabuf",
            "hsa_amd_portable_export_dmabuf_v2",
        ],
    ),
    (Step::CreateDmaBuf, "create-dma-buf", &["udmabuf", "UDMABUF_CREATE", "dma-heap", "DMA_HEAP_IOCTL_ALLOC"]),
    (Step::AllocateMemory, "allocate-memory", &["allocate", "alloc", "memory", "mlock"]),
    (Step::OpenRdma, "open-rdma", &["rdma", "verbs", "ibv_open_device", "ibv_query_device", "uverbs"]),
    (
        Step::RegisterDmaBuf,
        "register-dma-buf",
        &[
            "register",
            "reg",
            "import",
            "ibv_reg_dmabuf_mr",
            "reg_dmabuf_mr",
            "reg-dma-buf",
            "map-dma-buf",
            "dma_buf_attach",
        ],
    ),
    (
        Step::RegisterMemory,
        "register-memory",
        &[
            "register-mr",
            "reg-mr",
            "reg_user_mr",
            "ibv_reg_mr",
            "ibv_reg_mr_iova",
            "ibv_reg_mr_iova2",
            "mr",
            "peermem",
            "nvidia-peermem",
        ],
    ),
    (
        Step::RegisterUmem,
        "register-umem",
        &["umem", "devx", "devx-umem", "mlx5dv_devx_umem_reg", "mlx5dv_devx_umem_reg_ex"],
    ),
    (Step::Deregister, "deregister", &["dereg", "dereg-mr", "ibv_dereg_mr"]),
    (
        Step::CreateQueues,
        "create-queues",
        &[
            "create-qp",
            "create-cq",
            "ibv_create_qp",
            "ibv_create_qp_ex",
            "ibv_create_cq",
            "ibv_create_cq_ex",
            "ibv_alloc_pd",
            "queues",
        ],
    ),
    (Step::ConnectQueues, "connect-queues", &["connect", "connect-qp", "modify-qp", "ibv_modify_qp"]),
    (Step::PostTransfers, "post-transfers", &["post", "transfer", "ibv_post_send", "ibv_post_recv", "post-send"]),
    (Step::MapFile, "map-file", &["map", "IOMMU_IOAS_MAP_FILE", "ioas-map-file", "iommufd"]),
    (
        Step::MapMemory,
        "map-memory",
        &["IOMMU_IOAS_MAP", "ioas-map", "VFIO_IOMMU_MAP_DMA", "map-dma", "vfio_dma_map", "vfio_container_dma_map"],
    ),
    (Step::Unmap, "unmap", &["IOMMU_IOAS_UNMAP", "ioas-unmap", "VFIO_IOMMU_UNMAP_DMA", "unmap-dma"]),
];

/// Calls that export memory of a GPU.
const OF_A_GPU: &[&str] =
    &["cuMemGetHandleForAddressRange", "hsa_amd_portable_export_dmabuf", "hsa_amd_portable_export_dmabuf_v2"];

/// A call that the message of a program names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedCall {
    /// The step of the call.
    pub step: Step,
    /// Kind of the memory, if the call handles only one.
    pub source: Option<MemoryKind>,
}

impl NamedCall {
    fn new(step: Step, word: &str) -> Self {
        let is_of_a_gpu = OF_A_GPU.iter().any(|call| letters(call) == letters(word));
        Self { step, source: is_of_a_gpu.then_some(MemoryKind::Gpu) }
    }
}

impl FromStr for NamedCall {
    type Err = UnknownStepError;

    /// Accepts the names and aliases of [`Step`].
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text.parse()?, text))
    }
}

/// The call that a message of a program names: `ibv_reg_mr` in `ibv_reg_mr failed: Bad address`. `None` if it names none, or
/// calls of several steps.
pub fn call_in(text: &str) -> Option<NamedCall> {
    let is_of_a_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut found = text.split(|letter| !is_of_a_name(letter)).filter_map(call_at_the_end);
    let first = found.next()?;
    found.all(|call| call.step == first.step).then_some(first)
}

/// The call whose name ends the word: `reg_dmabuf_mr` in `mlx5dv_reg_dmabuf_mr`. The longest matching name takes precedence.
fn call_at_the_end(word: &str) -> Option<NamedCall> {
    // Aliases such as "map" are also ordinary words.
    let is_a_call = |name: &&str| name.contains('_') || OF_A_GPU.contains(name);
    let calls = NAMES.iter().flat_map(|(step, _, aliases)| aliases.iter().copied().map(|alias| (*step, alias)));
    calls
        .filter(|(_, name)| is_a_call(name) && word.ends_with(name))
        .max_by_key(|(_, name)| name.len())
        .map(|(step, name)| NamedCall::new(step, name))
}

/// The error for a name that no step has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no step has the name {given:?}: use one of {}", names().collect::<Vec<_>>().join(", "))]
pub struct UnknownStepError {
    given: String,
}

fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(_, name, _)| *name)
}

impl Step {
    /// Every step, in the order in which a run performs them.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(step, ..)| *step)
    }

    /// The name of the step in JSON output and on the command line: `register-dma-buf`.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(step, ..)| *step == self).map_or("", |(_, name, _)| name)
    }

    /// Aliases that [`FromStr`] accepts for the step: short forms, and names of system calls and library functions.
    pub fn aliases(self) -> &'static [&'static str] {
        NAMES.iter().find(|(step, ..)| *step == self).map_or(&[], |(_, _, aliases)| aliases)
    }
}

impl FromStr for Step {
    type Err = UnknownStepError;

    /// Accepts the name and the aliases of a step. Case and separators do not matter: `RegisterDmaBuf`, `reg_mr`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = letters(text);
        let found = NAMES
            .iter()
            .find(|(_, name, aliases)| letters(name) == wanted || aliases.iter().any(|alias| letters(alias) == wanted));
        match found {
            Some((step, ..)) => Ok(*step),
            None => Err(UnknownStepError { given: text.chars().take(64).collect() }),
        }
    }
}

fn letters(text: &str) -> String {
    text.chars().filter(|letter| letter.is_alphanumeric()).map(|letter| letter.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_alias_parses_to_its_step() {
        for (step, name, aliases) in NAMES {
            assert_eq!(step.name(), *name);
            for word in aliases.iter().chain([name]) {
                assert_eq!(word.parse(), Ok(*step), "{word}");
            }
        }
        // The name of the enum variant is also accepted.
        for step in Step::all() {
            assert_eq!(format!("{step:?}").parse(), Ok(step));
        }
    }

    #[test]
    fn finds_the_call_that_a_text_names() {
        for (text, step) in [
            ("NCCL WARN Call to ibv_reg_dmabuf_mr failed with error Bad address", Step::RegisterDmaBuf),
            ("ibv_reg_dmabuf_mr failed: Operation not supported", Step::RegisterDmaBuf),
            ("mlx5dv_reg_dmabuf_mr: Invalid argument", Step::RegisterDmaBuf),
            ("nvshmem: ibv_reg_mr failed: Cannot allocate memory", Step::RegisterMemory),
            ("NET/IB : Call to ibv_reg_mr_iova2 failed with error Bad address", Step::RegisterMemory),
            ("ioctl(VFIO_IOMMU_UNMAP_DMA) = -1 EINVAL", Step::Unmap),
            ("ioctl(3, VFIO_IOMMU_MAP_DMA, 0x1) = -1 EFAULT (Bad address)", Step::MapMemory),
            ("vfio_container_dma_map(0x55, 0x3800, 0x1000, 0x7f) = -14 (Bad address)", Step::MapMemory),
            ("IOMMU_IOAS_MAP_FILE: Operation not supported", Step::MapFile),
            ("cuMemGetHandleForAddressRange: Invalid argument", Step::Export),
        ] {
            assert_eq!(call_in(text).map(|call| call.step), Some(step), "{text}");
        }
        for text in [
            "Couldn't allocate MR with error=14",
            "cannot map the device: Invalid argument",
            "ibv_reg_dmabuf_mr failed, and so did ibv_reg_mr: Bad address",
            "VFIO_DEVICE_FEATURE_MIGRATION: Inappropriate ioctl for device",
        ] {
            assert_eq!(call_in(text), None, "{text}");
        }
    }

    #[test]
    fn a_call_of_cuda_exports_memory_of_a_gpu() {
        let source = |text: &str| text.parse::<NamedCall>().unwrap().source;
        assert_eq!(source("cuMemGetHandleForAddressRange"), Some(MemoryKind::Gpu));
        assert_eq!(source("export"), None);
    }

    #[test]
    fn an_unknown_step_is_rejected_with_the_names() {
        let error = "teleport".parse::<Step>().unwrap_err().to_string();
        assert!(error.contains("teleport") && error.contains("register-dma-buf"), "{error}");
        assert!("".parse::<Step>().is_err());
    }
}
