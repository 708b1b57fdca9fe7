//! What only the running host can be asked; whoever can ask fills it in.

use std::collections::BTreeMap;

use crate::Explanation;

/// A use of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// What exactly: `nvme0n1 is mounted at /home`.
    pub detail: String,
    /// Whether the user may take the function all the same.
    pub forceable: bool,
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
    /// Whether the path can be observed.
    pub observation: Result<(), Explanation>,
}
