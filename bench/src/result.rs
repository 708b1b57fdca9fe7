//! The result file. Field names and meanings are stable: new versions add fields and never rename any. Fields without a value
//! are omitted.

use std::collections::BTreeMap;

use peerpath_exporter::Origin;
use peerpath_paths::{Bdf, Cause, DecidingFact, PathName, Severity};
use serde::{Deserialize, Serialize};

/// Version of the schema that [`RunResult`] writes.
pub const SCHEMA_VERSION: u32 = 2;

/// Content of one `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Version of this schema.
    pub schema_version: u32,
    /// The program that wrote the result.
    pub tool: Tool,
    /// Identity, time and parameters of the run.
    pub run: Run,
    /// Later runs that added their cells to this result, in their order. Program and environment are the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub appended: Vec<AppendedRun>,
    /// The host and its devices.
    pub environment: Environment,
    /// The cells, in the order in which they ran.
    pub cells: Vec<Cell>,
}

impl RunResult {
    /// The run that added cells last.
    pub fn last_run(&self) -> &Run {
        self.appended.last().map_or(&self.run, |appended| &appended.run)
    }

    pub(crate) fn last_run_mut(&mut self) -> &mut Run {
        self.appended.last_mut().map_or(&mut self.run, |appended| &mut appended.run)
    }

    /// Removes the cell with this identifier that an earlier run measured, if there is one. Returns whether there was.
    pub(crate) fn remove_earlier(&mut self, id: &str) -> bool {
        let Some(last) = self.appended.last() else { return false };
        let Some(at) = self.cells.iter().take(last.first_cell).position(|cell| cell.id == id) else { return false };
        self.cells.remove(at);
        for run in self.appended.iter_mut().filter(|run| run.first_cell > at) {
            run.first_cell -= 1;
        }
        true
    }

    /// The cells of the last run.
    pub fn last_cells(&self) -> &[Cell] {
        let first = self.appended.last().map_or(0, |appended| appended.first_cell);
        self.cells.get(first..).unwrap_or_default()
    }
}

/// A run that added cells to the result of an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppendedRun {
    /// Index of its first cell in the list of cells.
    pub first_cell: usize,
    /// Identity, time and parameters of the run.
    #[serde(flatten)]
    pub run: Run,
}

/// The program that wrote a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Name of the program, e.g. `peerpath`.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Git revision of the source. Absent if the program was not built from a checkout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_revision: Option<String>,
}

/// Identity, time and parameters of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Identifier: start time and process ID of the run.
    pub id: String,
    /// Start time in UTC, RFC 3339.
    pub started_at: String,
    /// The command line, split into arguments.
    pub arguments: Vec<String>,
    /// The plan, including all default values.
    pub plan: serde_json::Value,
    /// Whether the run was interrupted, so that cells may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Conditions that may have affected the figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Facts about a host and the devices that the run used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Kernel release, as `uname -r` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Kernel build, as `uname -v` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_build: Option<String>,
    /// Public parameters of the kernel command line ([`peerpath_paths::public_command_line`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// CPU model, as in `/proc/cpuinfo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// Kind of IOMMU: `intel`, `amd`, `smmu`, `virtio` or `other`; several kinds are joined by `+`. `none` if no IOMMU is in
    /// use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iommu: Option<String>,
    /// Whether devices are emulated, so that the figures do not describe hardware.
    pub emulated: bool,
    /// Name of the emulator, e.g. `QEMU`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator: Option<String>,
    /// Whether the CPU executes RDMA operations (rxe, siw).
    pub soft_rdma: bool,
    /// Clock of the time stamps: `tsc` or `clock_monotonic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_source: Option<String>,
    /// Settings that affect figures, e.g. `cpu_governor` ([`crate::conditions`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: BTreeMap<String, String>,
    /// The PCI functions that the run used.
    pub devices: Vec<DeviceRecord>,
    /// In a run between two hosts: facts about the server, whose memory was exported. Absent in a run on one host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Box<Environment>>,
}

/// Facts about a PCI function that the run used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Address of the function.
    pub bdf: Bdf,
    /// Other facts at the start of the run: `name`, `driver`, `firmware`, `numa_node`, `link`, `link_limit`, `max_payload_bytes`,
    /// `max_read_request_bytes`, `relaxed_ordering`, `tags`, `iommu_group`, `domain_type`, `acs`, `ats`. The evidence of a cell lists the changes that were made for it.
    #[serde(flatten)]
    pub facts: BTreeMap<String, serde_json::Value>,
}

/// The target of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellTarget {
    /// Kind of importer, e.g. `verbs`.
    pub kind: String,
    /// Name of the device, e.g. `mlx5_0`.
    pub device: String,
    /// PCI function of the device. Absent if the device has none.
    pub bdf: Option<Bdf>,
}

/// Path of the data of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellPath {
    /// The path that the plan asks for; null if the plan asks for none.
    pub asked: Option<PathName>,
    /// The path that the kernel is expected to choose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<PathName>,
    /// The path that was observed.
    pub observed: PathName,
    /// Attributes with which the kernel mapped the memory, e.g. `MMIO`; absent if they were not observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    /// Whether the DMA address equals the physical address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dma_address_equals_physical: Option<bool>,
    /// Smallest maximum payload size (MPS) of the functions on the path, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_payload_bytes: Option<u32>,
    /// The functions on the predicted path, including source and target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Bdf>,
    /// The closest port above both source and target; absent if the path passes through the root complex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns_at: Option<Bdf>,
    /// The last function before the root complex; absent if the path does not reach the root complex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Bdf>,
    /// Whether the target's untranslated requests pass through the root complex; absent if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through_root_complex: Option<bool>,
    /// The fact that decided the prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deciding: Option<DecidingFact>,
    /// Reasons why the function cannot be bound or its memory exported.
    pub blockers: Vec<Cause>,
    /// The observations and facts that `observed` and `predicted` are based on.
    pub evidence: Vec<String>,
}

impl CellPath {
    /// Returns an unknown path, the initial value before anything is mapped.
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
            through_root_complex: None,
            deciding: None,
            blockers: Vec::new(),
            evidence: Vec::new(),
        }
    }
}

/// The client's memory, device and path, in a cell between two hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FarSide {
    /// The client's memory.
    pub source: Origin,
    /// The device that the memory is registered with.
    pub target: CellTarget,
    /// The path between that memory and that device.
    pub path: CellPath,
}

/// The outcome of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The cell ran without an error, and every compared byte matched.
    Passed,
    /// The host, the device or the size does not support the cell. `reason` explains why.
    Waived,
    /// The cell could not complete, its data is wrong, or its data took another path.
    Failed,
}

impl Outcome {
    /// Converts the severity of a failure to an outcome. A cell that this host does not support, or does not support with this
    /// size, is waived.
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
    /// Histogram in nanoseconds: HdrHistogram V2 compressed, base64.
    pub histogram: String,
}

/// One measurement: a source, a target, a path, an operation, a mode and a size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Identifier that is unique in the result. The same cell in another run has the same identifier.
    pub id: String,
    /// The exported memory.
    pub source: Origin,
    /// The device that the memory is registered with.
    pub target: CellTarget,
    /// The path between the memory and the device.
    pub path: CellPath,
    /// In a run between two hosts: the client's memory, device and path. `source`, `target` and `path` are the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub far: Option<FarSide>,
    /// The operation, e.g. `write`.
    pub op: String,
    /// `completion`, `bandwidth` or `pingpong`.
    pub mode: String,
    /// Direction of the data: `into_source`, `out_of_source`, or null for control operations.
    pub direction: Option<String>,
    /// The component that transferred the data: `device`, or `cpu` for soft RDMA and staged copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Call that registered the buffer, e.g. `uverbs-ioctl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<String>,
    /// Clock of the times: `device` for the device's clock; absent for the clock of this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed_by: Option<String>,
    /// Bytes per operation.
    pub size_bytes: u64,
    /// Number of operations in flight on each queue pair.
    pub depth: u32,
    /// Number of threads that post.
    pub threads: u32,
    /// Number of queue pairs per thread.
    pub qps: u32,
    /// Rate at which operations were scheduled, in operations per second. Only in mode `load`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_operations_per_s: Option<u64>,
    /// Whether both sides post at the same time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bidirectional: bool,
    /// The highest throughput that the links of the path allow. Only for transfers by hardware whose links are readable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<CellCeiling>,
    /// Whether the cell passed, was waived, or failed.
    pub outcome: Outcome,
    /// Cause code, if the cell did not pass and the cause is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What failed and why. Absent if the cell passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about the failure, in the imperative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The figures of the repeat whose main figure is the median of all repeats ([`Cell::median_of`]). Empty if the cell did not
    /// pass.
    #[serde(flatten)]
    pub measured: Measurement,
    /// The figures of each repeat, in the order in which they ran. An interrupted run has fewer repeats than the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repeats: Vec<Measurement>,
}

impl Cell {
    /// Returns the repeat whose main figure is the median: the throughput, or the median latency of a cell without a throughput. If
    /// the number of repeats is even, the lower of the two in the middle. `None` without repeats.
    ///
    /// So all figures of a cell were measured together, and none is a mean of different repeats.
    pub fn median_of(repeats: &[Measurement]) -> Option<&Measurement> {
        let mut sorted: Vec<&Measurement> = repeats.iter().collect();
        let figure = |repeat: &Measurement| repeat.main_figure().unwrap_or(0.0);
        sorted.sort_by(|one, other| figure(one).total_cmp(&figure(other)));
        sorted.get(sorted.len().checked_sub(1)? / 2).copied()
    }

    /// Adds the conditions to the figures of a cell with one repeat. A cell without figures keeps none.
    pub(crate) fn note_conditions(&mut self, note: impl FnOnce(&mut Measurement)) {
        if let [repeat] = &mut self.repeats[..] {
            note(repeat);
            self.measured = repeat.clone();
        }
    }
}

/// The highest throughput that the links of a cell's path allow ([`peerpath_paths::ceiling`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellCeiling {
    /// Payload bytes per second; of both directions together if the cell is bidirectional.
    pub bytes_per_s: u64,
    /// The slowest hop, e.g. `link 0000:00:01.0 - 0000:03:00.0 (8 GT/s x16, MPS 256, MRRS 512)`.
    pub limited_by: String,
}

/// The figures of one repeat of a cell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Number of measured operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u64>,
    /// Number of operations before the measurement, of each thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<u64>,
    /// Whether the time per operation was steady at the end of the warm-up. Absent if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady: Option<bool>,
    /// Number of bytes that were compared with the sent data, through the exporter's own mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_bytes: Option<u64>,
    /// Latency distribution of single operations; in mode `pingpong`, of half the round trip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<Latency>,
    /// Bytes divided by the measured time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_bytes_per_s: Option<f64>,
    /// Throughput of each direction of a bidirectional cell: first the direction of the cell, then the opposite one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_each_way_bytes_per_s: Option<[f64; 2]>,
    /// Lowest throughput of any window of the measured time. Only for cells with one thread and one direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_min_window_bytes_per_s: Option<f64>,
    /// Operations divided by the measured time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations_per_s: Option<f64>,
    /// CPUs that the threads were bound to, in turn. Empty if the threads were not bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u32>,
    /// Number of times that the kernel took the CPU from a thread of the program during the repeat, from export to verification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub involuntary_context_switches: Option<u64>,
    /// Share of the CPU time that the hypervisor gave to others, in percent: of the CPUs that the threads were bound to, or of
    /// all. The kernel counts it in units of 10 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal_percent: Option<f64>,
    /// Increase of each counter of the RDMA device that changed, by its path below `/sys/class/infiniband/DEVICE`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub device_counters: BTreeMap<String, u64>,
    /// What disturbed the measurement, one sentence each: more than 1 % of stolen CPU time, more than 100 involuntary context
    /// switches per second and thread (except with soft RDMA), a throttled CPU, or retransmissions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disturbed: Vec<String>,
    /// Revocations of the memory. Only for the operations `revoke_*`; `latency_ns` is then the distribution of the time from the
    /// start of the call that revokes the memory until transfers of both directions have failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,
}

/// What an importer saw when the exporter revoked its memory, over all operations of a repeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revocation {
    /// `reset`, `memory_off`, `d3`, `hot_reset` or `close`.
    pub kind: String,
    /// Number of outstanding writes, and of outstanding reads, during the revocation.
    pub outstanding_each_way: u32,
    /// Time from the start of the call to the post of the last transfer that succeeded: the lower bound of the time until the
    /// memory was unreachable, whose upper bound is `latency_ns`. 0 if that transfer was posted before the call.
    pub last_access_ns: Spread,
    /// Duration of the call that revokes the memory.
    pub call_ns: Spread,
    /// Duration of the call, of making the memory usable (memory decoding on, D0, or open), and of a new export, registration,
    /// write and read with verification.
    pub usable_again_ns: Spread,
    /// Number of operations per completion status of the first failed write; `none` if no write failed.
    pub write_statuses: BTreeMap<String, u64>,
    /// Number of operations per completion status of the first failed read; `none` if no read failed.
    pub read_statuses: BTreeMap<String, u64>,
    /// Number of operations after which the old registration reached the memory again without a new one, as a driver with
    /// on-demand paging permits.
    pub resumed_operations: u64,
    /// Bytes that the importer wrote to revoked memory, or read from it. A cell that passed has none.
    pub stale_bytes: u64,
}

/// Minimum, median and maximum of a few values. If their number is even, the median is the lower of the two in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the statistics")]
pub struct Spread {
    pub min: u64,
    pub p50: u64,
    pub max: u64,
}

impl Spread {
    /// Summarizes values. `None` without values.
    pub fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let p50 = values.get(values.len().checked_sub(1)? / 2).copied()?;
        Some(Self { min: values.first().copied()?, p50, max: values.last().copied()? })
    }
}

impl Measurement {
    /// The main figure: the throughput in bytes per second, or else the median latency in nanoseconds. `None` without both.
    pub fn main_figure(&self) -> Option<f64> {
        self.throughput_bytes_per_s.or_else(|| Some(self.latency_ns.as_ref()?.p50 as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_cell_are_those_of_the_median_repeat() {
        let repeat = |rate| Measurement { throughput_bytes_per_s: Some(rate), ..Measurement::default() };
        let median = |rates: &[f64]| {
            let repeats: Vec<_> = rates.iter().map(|rate| repeat(*rate)).collect();
            Cell::median_of(&repeats).and_then(|median| median.throughput_bytes_per_s)
        };
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 3.0, 1.0, 2.0]), Some(2.0), "the lower of the two in the middle");
        assert_eq!(median(&[]), None);
    }
}
