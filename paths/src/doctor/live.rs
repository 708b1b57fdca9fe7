//! Facts that only the running host provides. The caller of the checks collects them.

use std::collections::BTreeMap;

use crate::{Bdf, Explanation};

/// How a function is in use. Unbinding its driver would interrupt this use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Description, as a clause: `nvme0n1 is mounted at /home`.
    pub detail: String,
    /// Whether `--force-in-use` permits unbinding the driver although this use exists.
    pub forceable: bool,
}

/// The NVIDIA driver and its GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpus {
    /// CUDA version of the driver, for example `13.0`.
    pub cuda: String,
    /// The GPUs that the driver lists.
    pub gpus: Vec<GpuFacts>,
}

/// Facts about a GPU from its driver. `None` means that the driver does not report the fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuFacts {
    /// The target name: `cuda:0`.
    pub target: String,
    /// The product name: `NVIDIA H200`.
    pub name: String,
    /// Address of the GPU's PCI function.
    pub bdf: Option<Bdf>,
    /// Memory size in bytes.
    pub memory_bytes: u64,
    /// Whether the driver exports the GPU's memory as dma-bufs.
    pub dma_buf: Option<bool>,
    /// Whether other devices can access the GPU's memory (GPUDirect RDMA).
    pub gpu_direct_rdma: Option<bool>,
    /// Whether CUDA kernels that are already running observe the writes of other devices in order.
    pub writes_ordered: Option<bool>,
}

/// Facts that only the running host provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFacts {
    /// Uses of the exporter, or the reason why they cannot be read; `None` if no exporter is selected.
    pub exporter_uses: Option<Result<Vec<Use>, Explanation>>,
    /// `Ok` if libibverbs is installed, otherwise the reason why it cannot be loaded.
    pub rdma_library: Result<(), Explanation>,
    /// Targets by name (`verbs:mlx5_0`): `Ok` if ready to import a dma-buf, otherwise the reason.
    pub targets: BTreeMap<String, Result<(), Explanation>>,
    /// The NVIDIA driver and its GPUs, or the reason why the driver cannot be queried.
    pub gpus: Result<Gpus, Explanation>,
    /// `Ok` if the kernel's tracing can observe the path, otherwise the reason.
    pub observation: Result<(), Explanation>,
}
