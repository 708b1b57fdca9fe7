//! The cells of a plan, and the legs that they belong to.

use peerpath_exporter::Source;
use peerpath_importers::{Op, OpSpec, Role};
use peerpath_paths::PathName;

use super::{Mechanism, Mode, Target};

/// Minimum length of a range. On most hosts a shorter range would be less than a page.
const SHORTEST_RANGE_BYTES: u64 = 4096;

/// A leg: a source, a target and a path. Source and target are opened once for all cells of the leg.
#[derive(Debug, Clone, Copy)]
pub struct Leg<'plan> {
    /// The memory to export.
    pub source: &'plan Source,
    /// The device to register the memory with. In a run with a peer: the device of this host.
    pub target: &'plan Target,
    /// Memory of this host that transfers use, in a run with a peer. `None` if the plan does not name any.
    pub far: Option<&'plan Source>,
    /// The path that the data must take.
    pub asked: Option<PathName>,
}

/// One cell of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellSpec {
    /// The path that the data must take.
    pub asked: Option<PathName>,
    /// The operation.
    pub op: Op,
    /// Properties of the operation on this target. `None` if the target does not offer it.
    pub spec: Option<OpSpec>,
    /// The measurement mode.
    pub mode: Mode,
    /// Bytes per operation.
    pub size_bytes: u64,
    /// Number of ranges to split the source into. `None`: do not split it.
    pub ranges: Option<u32>,
    /// Registration of the ranges.
    pub mechanism: Mechanism,
    /// Number of operations in flight on each queue pair.
    pub depth: u32,
    /// Number of queue pairs per thread.
    pub qps: u32,
    /// Number of threads.
    pub threads: u32,
    /// Whether both sides post.
    pub bidirectional: bool,
}

impl CellSpec {
    /// Whether the operation transfers data. An operation that the target does not offer counts as a transfer.
    pub fn transfers(&self) -> bool {
        self.spec.is_none_or(|spec| matches!(spec.role, Role::Transfer(_)))
    }

    /// Whether the ranges are too short to be exported. If each range has to contain a whole operation, its length is that of
    /// the operation.
    pub(super) fn has_too_short_ranges(&self) -> bool {
        let count = self.ranges.unwrap_or(1);
        let each = if self.transfers() && self.mechanism == Mechanism::MrPerRange {
            self.size_bytes
        } else {
            self.size_bytes / u64::from(count)
        };
        count > 1 && each < SHORTEST_RANGE_BYTES
    }
}
