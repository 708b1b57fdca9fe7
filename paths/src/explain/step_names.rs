//! Words for steps: the names in output, and the other words that users and programs have for a step.

use std::str::FromStr;

use super::Step;

/// Every step with its name and its other words, in the order of a transfer.
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
    (Step::Export, "export", &["export-dma-buf", "VFIO_DEVICE_FEATURE", "VFIO_DEVICE_FEATURE_DMA_BUF", "get-dma-buf"]),
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
        &["register-mr", "reg-mr", "reg_user_mr", "ibv_reg_mr", "ibv_reg_mr_iova2", "mr", "peermem", "nvidia-peermem"],
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
        &["create-qp", "create-cq", "ibv_create_qp", "ibv_create_cq", "ibv_alloc_pd", "queues"],
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

/// No step has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no step has the name {given:?}: use one of {}", names().collect::<Vec<_>>().join(", "))]
pub struct UnknownStepError {
    given: String,
}

fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(_, name, _)| *name)
}

impl Step {
    /// Every step, in the order of a transfer.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(step, ..)| *step)
    }

    /// The word for the step in JSON output and on the command line: `register-dma-buf`.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(step, ..)| *step == self).map_or("", |(_, name, _)| name)
    }

    /// Other words that [`FromStr`] accepts for the step: short forms, and names of system calls and library functions.
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
    fn every_word_leads_to_one_step() {
        for (step, name, aliases) in NAMES {
            assert_eq!(step.name(), *name);
            for word in aliases.iter().chain([name]) {
                assert_eq!(word.parse(), Ok(*step), "{word}");
            }
        }
        // The name of the step in the source.
        for step in Step::all() {
            assert_eq!(format!("{step:?}").parse(), Ok(step));
        }
    }

    #[test]
    fn an_unknown_step_is_rejected_with_the_names() {
        let error = "teleport".parse::<Step>().unwrap_err().to_string();
        assert!(error.contains("teleport") && error.contains("register-dma-buf"), "{error}");
        assert!("".parse::<Step>().is_err());
    }
}
