//! A plan: the parameters of a run, and the cells that follow from them.

mod bounds;
mod cells;
mod check;
mod notes;
mod possible;
mod target;
#[cfg(test)]
mod tests;

use std::time::Duration;

use peerpath_exporter::Source;
use peerpath_importers::{Op, QueuePairOptions};
use peerpath_paths::PathName;
use serde::{Deserialize, Serialize, Serializer};

use crate::measure::Limit;
pub use bounds::MOST_CELLS;
pub(crate) use bounds::{ATOMIC_BYTES, send_queue_drains, why_not_draining, within_bounds};
pub use cells::{CellSpec, Leg};
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
    /// Latency at an offered rate, from the scheduled time of an operation to its work completion.
    Load,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Completion, Self::PingPong, Self::Bandwidth, Self::Load];

    /// Whether several operations are in flight, so that depth and queue pairs matter.
    pub(crate) fn has_depth(self) -> bool {
        matches!(self, Self::Bandwidth | Self::Load)
    }

    /// Name of the mode in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::PingPong => "pingpong",
            Self::Bandwidth => "bandwidth",
            Self::Load => "load",
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
    /// Initiator memory of a run with a peer. Empty: host memory, allocated per cell in the required size.
    #[serde(serialize_with = "source_names", skip_serializing_if = "Vec::is_empty")]
    pub far: Vec<Source>,
    /// Devices to register the memory with.
    pub targets: Vec<Target>,
    /// Paths that the data must take. `None`: the path that the kernel chooses.
    pub paths: Vec<Option<PathName>>,
    /// Operations. At least one target offers each of them. A cell whose target does not offer its operation is waived.
    #[serde(serialize_with = "op_names")]
    pub ops: Vec<Op>,
    /// Measurement modes.
    pub modes: Vec<Mode>,
    /// Bytes per operation: 1 byte to 1 GiB.
    pub sizes_bytes: Vec<u64>,
    /// Numbers of ranges to split a BAR into. Empty: do not split the BAR.
    pub ranges: Vec<u32>,
    /// Registration of a buffer that consists of several ranges.
    pub mechanism: Mechanism,
    /// Number of operations in flight on each queue pair, in bandwidth mode; in load mode, the maximum.
    pub depths: Vec<u32>,
    /// Number of queue pairs per thread, used in turn, in the modes bandwidth and load.
    pub qps: Vec<u32>,
    /// Offered rates in load mode, in operations per second of all threads together.
    pub rates_per_s: Vec<u64>,
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
    /// CPUs to bind the threads to, in turn. Empty: `pin` decides.
    pub cpus: Vec<u32>,
    /// Whether to bind the threads to CPUs near the target ([`cpus::near`](crate::cpus::near)) if `cpus` is empty.
    pub pin: bool,
    /// Number of operations per block of the warm-up, which ends when the time per operation is steady
    /// ([`warm_up`](crate::measure::warm_up)). 0: no warm-up.
    pub warmup: u64,
    /// Number of repeats of each cell. Repeats of different cells take turns.
    pub repeats: u32,
    /// Determines the order in which the cells of a leg take turns. The same seed leads to the same order.
    pub seed: u64,
    /// Maximum number of operations per cell, in all repeats together. `None`: no limit.
    pub iterations: Option<u64>,
    /// Maximum duration per cell, of all repeats together. `None`: no limit. A cell ends at whichever limit it reaches first.
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
            rates_per_s: Vec::new(),
            threads: vec![1],
            bidirectional: false,
            post_list: None,
            completion_moderation: 1,
            connection: QueuePairOptions::default(),
            cpus: Vec::new(),
            pin: false,
            warmup: 0,
            repeats: 1,
            seed: 0,
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

    /// The number of repeats of each cell: that of the plan, or fewer if there are fewer operations.
    pub fn repeats(&self) -> u32 {
        self.iterations.map_or(self.repeats, |most| self.repeats.min(u32::try_from(most).unwrap_or(u32::MAX)))
    }

    /// The limit of one repeat of a cell: an equal share of the maximum number of operations and of the maximum duration. If the
    /// operations cannot be divided equally, the first repeats have one more.
    pub fn limit(&self, repeat: u32) -> Limit {
        let repeats = self.repeats().max(1);
        let share = |all: u64| {
            let rest = u64::from(u64::from(repeat) < all % u64::from(repeats));
            all / u64::from(repeats) + rest
        };
        Limit {
            iterations: self.iterations.map_or(u64::MAX, share),
            duration: self.duration.map_or(Duration::MAX, |all| all / repeats),
        }
    }
}
