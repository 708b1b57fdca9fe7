//! The result file. Its field names and their meaning are stable: fields are added, never renamed. An absent value is omitted.

use std::collections::BTreeMap;

use peerpath_exporter::Origin;
use peerpath_paths::{Bdf, Cause, DecidingFact, PathName, Severity};
use serde::{Deserialize, Serialize};

/// Version of the schema that [`RunResult`] writes.
pub const SCHEMA_VERSION: u32 = 1;

/// One `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Version of this schema.
    pub schema_version: u32,
    /// The program that wrote it.
    pub tool: Tool,
    /// The run.
    pub run: Run,
    /// The host and its devices.
    pub environment: Environment,
    /// The cells, in the order in which they ran.
    pub cells: Vec<Cell>,
}

/// The program that wrote a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Name, such as `peerpath`.
    pub name: String,
    /// Version.
    pub version: String,
    /// Git revision of the source, if it was built from a checkout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_revision: Option<String>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Unique identifier.
    pub id: String,
    /// Start, in UTC, RFC 3339.
    pub started_at: String,
    /// The command line.
    pub arguments: Vec<String>,
    /// The plan, with all defaults.
    pub plan: serde_json::Value,
    /// The run was interrupted: cells may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Conditions that may have affected the figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A host and its devices that were used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Kernel release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Kernel build, as `uname -v` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_build: Option<String>,
    /// Kernel command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// CPU model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// The IOMMU in use (`intel`, `amd`, `smmu`, `virtio`), or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iommu: Option<String>,
    /// The devices are emulated, so the figures do not describe hardware.
    pub emulated: bool,
    /// Name of the emulator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator: Option<String>,
    /// The CPU executes RDMA operations (rxe, siw).
    pub soft_rdma: bool,
    /// Clock of the time stamps: `tsc` or `clock_monotonic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_source: Option<String>,
    /// The PCI functions that were used.
    pub devices: Vec<DeviceRecord>,
    /// In a run between two hosts: the server, whose memory was exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Box<Environment>>,
}

/// A PCI function that was used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Address of the function.
    pub bdf: Bdf,
    /// Other facts: `name`, `driver`, `firmware`, `numa_node`, `link`, `iommu_group`, `domain_type`, `acs`, `ats`.
    #[serde(flatten)]
    pub facts: BTreeMap<String, serde_json::Value>,
}

/// The target of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellTarget {
    /// Kind of importer.
    pub kind: String,
    /// Name of the device.
    pub device: String,
    /// PCI function of the device, if it has one.
    pub bdf: Option<Bdf>,
}

/// The path of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellPath {
    /// The path that the plan asks for; null if it asks for none.
    pub asked: Option<PathName>,
    /// The path that the kernel is expected to choose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<PathName>,
    /// The path that was observed.
    pub observed: PathName,
    /// Mapping attribute that the kernel used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    /// Whether the DMA address equals the physical address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dma_address_equals_physical: Option<bool>,
    /// Smallest maximum payload size on the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_payload_bytes: Option<u32>,
    /// The functions on the predicted path, including source and target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Bdf>,
    /// The hop that joins source and target; absent if the root complex joins them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns_at: Option<Bdf>,
    /// The last hop before the root complex; absent if a hop joins source and target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Bdf>,
    /// The fact that decided the prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deciding: Option<DecidingFact>,
    /// What prevents binding or exporting.
    pub blockers: Vec<Cause>,
    /// The observations and facts behind `observed` and `predicted`.
    pub evidence: Vec<String>,
}

impl CellPath {
    /// An unknown path, before anything is mapped.
    pub fn unknown() -> Self {
        Self {
            asked: None,
            predicted: None,
            observed: PathName::Unknown,
            attribute: None,
            dma_address_equals_physical: None,
            max_payload_bytes: None,
            hops: Vec::new(),
            turns_at: None,
            up_to: None,
            deciding: None,
            blockers: Vec::new(),
            evidence: Vec::new(),
        }
    }
}

/// The client's side of a cell between two hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FarSide {
    /// The client's memory.
    pub source: Origin,
    /// The device that the memory is registered with.
    pub target: CellTarget,
    /// The path between them.
    pub path: CellPath,
}

/// The outcome of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The cell ran, and its data is verified.
    Passed,
    /// The host, the device or the size does not support the cell. The cell has the reason.
    Waived,
    /// The cell failed, or its data is wrong, or took another path.
    Failed,
}

impl Outcome {
    /// The outcome of a cell that failed with this severity. What this host or this size does not support is no failure of the
    /// path.
    pub fn of(severity: Severity) -> Self {
        match severity {
            Severity::BadInput | Severity::Unavailable => Self::Waived,
            Severity::Failed | Severity::Internal => Self::Failed,
        }
    }
}

/// A latency distribution, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the percentiles")]
pub struct Latency {
    pub min: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    pub mean: f64,
    pub stdev: f64,
    /// HdrHistogram V2 compressed, base64.
    pub histogram: String,
}

/// One measurement: a source, a target, a path, an operation, a mode and a size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Unique in the result. The same cell in another run has the same identifier.
    pub id: String,
    /// The exported memory.
    pub source: Origin,
    /// The device that it is registered with.
    pub target: CellTarget,
    /// The path between them.
    pub path: CellPath,
    /// Between two hosts: the client's side. `source`, `target` and `path` are the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub far: Option<FarSide>,
    /// The operation.
    pub op: String,
    /// `completion`, `bandwidth` or `pingpong`.
    pub mode: String,
    /// `into_source`, `out_of_source`, or null for control ops.
    pub direction: Option<String>,
    /// What moved the data: `device`, or `cpu` for soft RDMA and staged copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// How the buffer was registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<String>,
    /// `device` if the times are from the device's clock; absent if they are from this host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed_by: Option<String>,
    /// Bytes per operation.
    pub size_bytes: u64,
    /// Operations in flight on each queue pair.
    pub depth: u32,
    /// Threads that post.
    pub threads: u32,
    /// Queue pairs per thread.
    pub qps: u32,
    /// Both sides post at the same time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bidirectional: bool,
    /// Operations measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u64>,
    /// Most operations before the measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<u64>,
    /// The outcome.
    pub outcome: Outcome,
    /// Cause word, if the cell did not pass and the cause is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What failed and why, if the cell did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Bytes that were compared with the sent data, through the exporter's own view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_bytes: Option<u64>,
    /// Latency of single operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<Latency>,
    /// Bytes divided by the measured time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput_bytes_per_s: Option<f64>,
    /// For a bidirectional cell: throughput in its direction, and in the opposite one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_each_way_bytes_per_s: Option<[f64; 2]>,
    /// Throughput in the slowest window of the measured time. For one thread and one direction only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput_min_window_bytes_per_s: Option<f64>,
    /// Operations divided by the measured time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations_per_s: Option<f64>,
}
