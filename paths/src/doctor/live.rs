//! Facts that only the running host can provide. The caller fills them in.

use std::collections::BTreeMap;

use crate::{Bdf, Explanation};

/// A use of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// A description: `nvme0n1 is mounted at /home`.
    pub detail: String,
    /// Whether the user may force binding the function in spite of the use.
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

/// A GPU, as its driver describes it. `None` means that the driver does not report the fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuFacts {
    /// The target name: `cuda:0`.
    pub target: String,
    /// The product name: `NVIDIA H200`.
    pub name: String,
    /// The PCI function.
    pub bdf: Option<Bdf>,
    /// Memory size in bytes.
    pub memory_bytes: u64,
    /// The driver exports its memory as dma-bufs.
    pub dma_buf: Option<bool>,
    /// Other devices can access its memory (GPUDirect RDMA).
    pub gpu_direct_rdma: Option<bool>,
    /// Running kernels observe the writes of other devices in order.
    pub writes_ordered: Option<bool>,
}

/// Facts that only the running host can provide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFacts {
    /// Uses of the exporter; `None` without an exporter.
    pub exporter_uses: Option<Result<Vec<Use>, Explanation>>,
    /// Whether libibverbs is installed.
    pub rdma_library: Result<(), Explanation>,
    /// Whether a target (`verbs:mlx5_0`) is ready to import a dma-buf.
    pub targets: BTreeMap<String, Result<(), Explanation>>,
    /// The NVIDIA driver and its GPUs, or why the driver cannot be queried.
    pub gpus: Result<Gpus, Explanation>,
    /// Whether the path can be observed.
    pub observation: Result<(), Explanation>,
}
