//! The result file. Names and meaning are a contract: fields are added, never renamed; what is absent is left out.

use std::collections::BTreeMap;

use peerpath_exporter::Origin;
use peerpath_paths::{Bdf, Cause, DecidingFact, PathName};
use serde::{Deserialize, Serialize};

/// Version of the schema that [`RunResult`] writes.
pub const SCHEMA_VERSION: u32 = 1;

/// One `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Version of this schema.
    pub schema_version: u32,
    /// Which program wrote it.
    pub tool: Tool,
    /// Which run it was.
    pub run: Run,
    /// Under which conditions.
    pub environment: Environment,
    /// What was measured, in the order in which it ran.
    pub cells: Vec<Cell>,
}

/// The program that wrote a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// `peerpath`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The revision it was built from, where it was built from a checkout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_revision: Option<String>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Unique among runs.
    pub id: String,
    /// UTC, RFC 3339.
    pub started_at: String,
    /// The command line.
    pub arguments: Vec<String>,
    /// What was asked, with the defaults filled in.
    pub plan: serde_json::Value,
    /// The run was interrupted: cells may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// What may have made figures worse than they have to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The host and the devices that took part.
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
    /// The devices are emulated: figures say nothing of hardware.
    pub emulated: bool,
    /// By which emulator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator: Option<String>,
    /// RDMA was done by the CPU (rxe, siw).
    pub soft_rdma: bool,
    /// What the time stamps were taken from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_source: Option<String>,
    /// The PCI functions that took part.
    pub devices: Vec<DeviceRecord>,
    /// The other host of a run between two: the one whose memory was read and written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Box<Environment>>,
}

/// A PCI function that took part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Its address.
    pub bdf: Bdf,
    /// What further is known: `name`, `driver`, `firmware`, `numa_node`, `link`, `iommu_group`, `domain_type`, `acs`, `ats`.
    #[serde(flatten)]
    pub facts: BTreeMap<String, serde_json::Value>,
}

/// The device that a cell went to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellTarget {
    /// Kind of importer.
    pub kind: String,
    /// The device's name.
    pub device: String,
    /// Its PCI function, where it has one.
    pub bdf: Option<Bdf>,
}

/// The path of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellPath {
    /// What was asked for; null when nothing was.
    pub asked: Option<PathName>,
    /// What the kernel would decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<PathName>,
    /// What was seen.
    pub observed: PathName,
    /// The mapping attribute that the kernel used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    /// Whether the DMA address was the physical one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dma_address_equals_physical: Option<bool>,
    /// The smallest maximum payload size along the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_payload_bytes: Option<u32>,
    /// The functions on the predicted way, both ends included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Bdf>,
    /// The hop at which it turns round; absent where both sides come together in the root complex only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns_at: Option<Bdf>,
    /// The last hop on the way up, where both sides come together in the root complex only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Bdf>,
    /// What decided the prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deciding: Option<DecidingFact>,
    /// What prevents binding or exporting.
    pub blockers: Vec<Cause>,
    /// What `observed` and `predicted` rest on.
    pub evidence: Vec<String>,
}

impl CellPath {
    /// Of which nothing is known, as long as nothing was mapped.
    pub fn unseen() -> Self {
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

/// The other end of a transfer between two hosts: the memory of the one that posted it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FarSide {
    /// The memory.
    pub source: Origin,
    /// The device that it was registered with.
    pub target: CellTarget,
    /// The way between them.
    pub path: CellPath,
}

/// How a cell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It ran, and its data were right.
    Passed,
    /// This host cannot do it; the reason stands beside it.
    Waived,
    /// It went wrong.
    Failed,
}

/// A latency distribution, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "percentiles explain themselves")]
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

/// One measured combination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Unique within the result, the same for the same combination in another run.
    pub id: String,
    /// The exported memory.
    pub source: Origin,
    /// The device.
    pub target: CellTarget,
    /// The way between them.
    pub path: CellPath,
    /// Between two hosts: the memory of the one that posted. `source`, `target` and `path` are the other one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub far: Option<FarSide>,
    /// The operation.
    pub op: String,
    /// `completion`, `bandwidth` or `pingpong`.
    pub mode: String,
    /// `into_source`, `out_of_source`, or null for control ops.
    pub direction: Option<String>,
    /// What moved the bytes: `device`, or `cpu` where RDMA is soft.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// How the buffer was registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<String>,
    /// `device` where the figures are by the device's own clock; absent where they are by this host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed_by: Option<String>,
    /// Bytes an operation.
    pub size_bytes: u64,
    /// Operations under way at once.
    pub depth: u32,
    /// Threads that post.
    pub threads: u32,
    /// Queue pairs of each thread.
    pub qps: u32,
    /// Both sides post at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bidirectional: bool,
    /// Operations measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u64>,
    /// Operations before measuring, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it did not pass, in a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Why it did not pass, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Bytes compared with what was sent, through the exporter's own view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_bytes: Option<u64>,
    /// Latency of single operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<Latency>,
    /// Bytes over the whole measured time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput_bytes_per_s: Option<f64>,
    /// Of a bidirectional cell: what went in its direction, and what went the other way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_each_way_bytes_per_s: Option<[f64; 2]>,
    /// The slowest of the windows that the measured time was cut into; of one thread that posts in one direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput_min_window_bytes_per_s: Option<f64>,
    /// Operations over the whole measured time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations_per_s: Option<f64>,
}
