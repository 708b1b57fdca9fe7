//! What only the running host can be asked; whoever can ask fills it in.

use std::collections::BTreeMap;

use crate::{Bdf, Explanation};

/// A use of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// What exactly: `nvme0n1 is mounted at /home`.
    pub detail: String,
    /// Whether the user may take the function all the same.
    pub forceable: bool,
}

/// NVIDIA's driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpus {
    /// The version of CUDA that it speaks.
    pub cuda: String,
    /// Its GPUs.
    pub gpus: Vec<GpuFacts>,
}

/// A GPU, as its driver describes it; what that cannot tell is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuFacts {
    /// `cuda:0`.
    pub target: String,
    /// `NVIDIA H200`.
    pub name: String,
    /// Its function.
    pub bdf: Option<Bdf>,
    /// Its memory.
    pub memory_bytes: u64,
    /// Its memory can be had as dma-bufs.
    pub dma_buf: Option<bool>,
    /// Other devices may reach its memory.
    pub gpu_direct_rdma: Option<bool>,
    /// Their writes are in order for it.
    pub writes_ordered: Option<bool>,
}

/// Answers of the running host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFacts {
    /// What uses the exporter now; `None` where no exporter is named.
    pub exporter_uses: Option<Result<Vec<Use>, Explanation>>,
    /// Whether the library that reaches RDMA devices is there.
    pub rdma_library: Result<(), Explanation>,
    /// Whether a target (`verbs:mlx5_0`) can be used with a dma-buf.
    pub targets: BTreeMap<String, Result<(), Explanation>>,
    /// What NVIDIA's driver says, or why it cannot be asked.
    pub gpus: Result<Gpus, Explanation>,
    /// Whether the path can be observed.
    pub observation: Result<(), Explanation>,
}
