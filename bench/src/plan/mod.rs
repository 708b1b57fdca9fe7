//! A plan: the parameters of a run, and the cells that follow from them.

mod bounds;
mod cell;
mod check;
mod notes;
mod possible;
mod target;
#[cfg(test)]
mod tests;

use std::time::Duration;

use peerpath_exporter::Source;
use peerpath_importers::{Op, QueuePairOptions, Role};
use peerpath_paths::PathName;
use serde::{Deserialize, Serialize, Serializer};

use crate::measure::Limit;
pub(crate) use bounds::{ATOMIC_BYTES, send_queue_drains, within_bounds};
pub use cell::{CellSpec, Leg};
pub use check::PlanError;
pub(crate) use possible::unsupported;
pub use target::Target;

/// Measurement mode of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Latency of one operation at a time, from posting to work completion.
    Completion,
    /// Latency as half of each round trip between initiator and responder.
    PingPong,
    /// Throughput with as many operations in flight as the depth allows.
    Bandwidth,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Completion, Self::PingPong, Self::Bandwidth];

    /// Name of the mode in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::PingPong => "pingpong",
            Self::Bandwidth => "bandwidth",
        }
    }
}

/// Registration of a buffer that consists of several ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// All ranges in one dma-buf. The importer chooses how to register it.
    #[default]
    Auto,
    /// A separate dma-buf and memory region for each range.
    MrPerRange,
}

/// Parameters of a run. The run has a cell for each combination of the listed values.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Memory to export.
    #[serde(serialize_with = "source_names")]
    pub sources: Vec<Source>,
    /// Memory of this host that transfers use, in a run with a peer that exports the sources. Empty: host memory of the size
    /// that each cell needs.
    #[serde(serialize_with = "source_names", skip_serializing_if = "Vec::is_empty")]
    pub far: Vec<Source>,
    /// Devices to register the memory with.
    pub targets: Vec<Target>,
    /// Paths that the data must take. `None`: the path that the kernel chooses.
    pub paths: Vec<Option<PathName>>,
    /// Operations. Each is offered by a target. A cell whose target does not offer its operation is waived.
    #[serde(serialize_with = "op_names")]
    pub ops: Vec<Op>,
    /// Measurement modes.
    pub modes: Vec<Mode>,
    /// Bytes per operation: 1 byte to 1 GiB.
    pub sizes_bytes: Vec<u64>,
    /// Number of ranges to split a BAR into. Empty: do not split the BAR.
    pub ranges: Vec<u32>,
    /// Registration of a buffer that consists of several ranges.
    pub mechanism: Mechanism,
    /// Number of operations in flight on each queue pair, in bandwidth mode.
    pub depths: Vec<u32>,
    /// Number of queue pairs per thread, used in turn, in bandwidth mode.
    pub qps: Vec<u32>,
    /// Number of threads. Each has its own queue pairs and its own part of the source.
    pub threads: Vec<u32>,
    /// Whether both sides post, in bandwidth mode.
    pub bidirectional: bool,
    /// Number of work requests posted at once, in bandwidth mode. `None`: as many as the send queue has room for.
    pub post_list: Option<u32>,
    /// Signaling interval in bandwidth mode: one of this many work requests on a queue pair is signaled.
    pub completion_moderation: u32,
    /// Options of queue pairs.
    pub connection: QueuePairOptions,
    /// CPUs to bind the threads to, in turn. Empty: threads are not bound.
    pub cpus: Vec<u32>,
    /// Number of operations before the measurement.
    pub warmup: u64,
    /// Maximum number of operations per cell. `None`: no limit.
    pub iterations: Option<u64>,
    /// Maximum duration per cell. `None`: no limit. A cell ends at whichever limit it reaches first.
    #[serde(serialize_with = "seconds", rename = "duration_s")]
    pub duration: Option<Duration>,
}

fn source_names<S: Serializer>(sources: &[Source], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(sources.iter().map(Source::to_string))
}

fn op_names<S: Serializer>(ops: &[Op], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ops.iter().map(|op| op.as_str()))
}

fn seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

impl Plan {
    /// Creates a plan with one cell for each pair of source and target: 1000 writes of 4 KiB, one at a time.
    pub fn new(sources: Vec<Source>, targets: Vec<Target>) -> Self {
        Self {
            sources,
            far: Vec::new(),
            targets,
            paths: vec![None],
            ops: vec![Op::Write],
            modes: vec![Mode::Completion],
            sizes_bytes: vec![4096],
            ranges: Vec::new(),
            mechanism: Mechanism::Auto,
            depths: vec![1],
            qps: vec![1],
            threads: vec![1],
            bidirectional: false,
            post_list: None,
            completion_moderation: 1,
            connection: QueuePairOptions::default(),
            cpus: Vec::new(),
            warmup: 0,
            iterations: Some(1000),
            duration: None,
        }
    }

    /// Rejects a plan that cannot run on any host.
    ///
    /// # Errors
    /// The plan has no cell, a value is out of bounds, or an operation, target or mode has no cell that can run.
    pub fn check(&self) -> Result<(), PlanError> {
        check::check(self)
    }

    /// The limit of each cell: its maximum number of operations and its maximum duration.
    pub fn limit(&self) -> Limit {
        Limit { iterations: self.iterations.unwrap_or(u64::MAX), duration: self.duration.unwrap_or(Duration::MAX) }
    }

    /// The legs, in the order in which they run.
    ///
    /// Each source has a leg only for the paths that its kind supports. So one plan can contain a BAR and its host-memory
    /// baseline.
    pub fn legs(&self) -> impl Iterator<Item = Leg<'_>> {
        let ends = move |target| {
            let far = self.far.iter().map(Some).chain(self.far.is_empty().then_some(None));
            far.map(move |far| (target, far))
        };
        self.sources.iter().flat_map(move |source| {
            self.targets.iter().flat_map(ends).flat_map(move |(target, far)| {
                self.paths_of(source).into_iter().map(move |asked| Leg { source, target, far, asked })
            })
        })
    }

    /// The paths of the plan that this kind of source supports. If it supports none, returns all of them, so that the cells
    /// report the reason.
    fn paths_of(&self, source: &Source) -> Vec<Option<PathName>> {
        let fits = |asked: &Option<PathName>| {
            asked.is_none_or(|path| match source {
                Source::Vfio { .. } | Source::Cuda { .. } => path != PathName::HostMemory,
                Source::Udmabuf { .. } | Source::Heap { .. } | Source::Host { .. } => path == PathName::HostMemory,
                // The kind of memory is known only when the socket is opened.
                Source::Socket { .. } => true,
            })
        };
        let fitting: Vec<_> = self.paths.iter().copied().filter(fits).collect();
        if fitting.is_empty() { self.paths.clone() } else { fitting }
    }

    /// The cells of a leg, in the order in which they run.
    pub fn cells(&self, leg: Leg<'_>) -> Vec<CellSpec> {
        let mut cells = Vec::new();
        for cell in self.combinations(leg) {
            if !cell.has_too_short_ranges() {
                self.expand_modes(cell, &mut cells);
            }
        }
        cells
    }

    /// The combinations of operation, size and number of ranges, each as a cell with the default of every other value.
    fn combinations(&self, leg: Leg<'_>) -> Vec<CellSpec> {
        let Leg { target, asked, .. } = leg;
        let (mechanism, mode, depth, qps, threads) = (self.mechanism, Mode::Completion, 1, 1, 1);
        let bidirectional = false;
        let mut cells = Vec::new();
        for &op in &self.ops {
            let spec = target.importer.capabilities().ops.iter().copied().find(|spec| spec.op == op);
            let sizes_bytes: &[u64] = if op.is_atomic() { &[ATOMIC_BYTES] } else { &self.sizes_bytes };
            for &size_bytes in sizes_bytes {
                for ranges in self.range_counts() {
                    cells.push(CellSpec {
                        asked,
                        op,
                        spec,
                        mode,
                        size_bytes,
                        ranges,
                        mechanism,
                        depth,
                        qps,
                        threads,
                        bidirectional,
                    });
                }
            }
        }
        cells
    }

    fn range_counts(&self) -> Vec<Option<u32>> {
        if self.ranges.is_empty() { vec![None] } else { self.ranges.iter().copied().map(Some).collect() }
    }

    /// Adds a cell for each combination of mode, depth, number of queue pairs and number of threads.
    fn expand_modes(&self, cell: CellSpec, cells: &mut Vec<CellSpec>) {
        if !cell.transfers() {
            // The trace of the kernel's calls does not distinguish threads, so these cells have one thread.
            let is_traced = cell.spec.is_some_and(|spec| matches!(spec.role, Role::Attach | Role::Map));
            let threads = if is_traced { &[1][..] } else { &self.threads };
            cells.extend(threads.iter().map(|&threads| CellSpec { threads, ..cell }));
            return;
        }
        for &mode in &self.modes {
            let is_bandwidth = mode == Mode::Bandwidth;
            let (depths, qps): (&[u32], &[u32]) = if is_bandwidth { (&self.depths, &self.qps) } else { (&[1], &[1]) };
            for &threads in &self.threads {
                for &qps in qps {
                    let bidirectional = is_bandwidth && self.bidirectional;
                    let of = |&depth| CellSpec { mode, depth, qps, threads, bidirectional, ..cell };
                    cells.extend(depths.iter().map(of));
                }
            }
        }
    }

    /// Total number of cells of all legs.
    pub fn cell_count(&self) -> usize {
        self.legs().map(|leg| self.cells(leg).len()).sum()
    }
}
