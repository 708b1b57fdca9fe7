//! The legs and the cells of a plan.

use peerpath_exporter::Source;
use peerpath_importers::{Op, OpSpec, Role};
use peerpath_paths::PathName;

use super::bounds::ATOMIC_BYTES;
use super::{Mechanism, Mode, Plan, Target};

/// Minimum length of a range. On most hosts a shorter range would be less than a page.
pub(super) const SHORTEST_RANGE_BYTES: u64 = 4096;

/// A leg: a source, a target and a path. Source and target are opened once for all cells of the leg.
#[derive(Debug, Clone, Copy)]
pub struct Leg<'plan> {
    /// The memory to export.
    pub source: &'plan Source,
    /// The device to register the memory with. In a run with a peer: the device of this host.
    pub target: &'plan Target,
    /// Memory of this host that transfers use, in a run with a peer. `None` if the plan does not name any.
    pub far: Option<&'plan Source>,
    /// The path that the data must take; `None` for the path that the kernel chooses.
    pub asked: Option<PathName>,
}

/// One cell of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellSpec {
    /// The path that the data must take; `None` for the path that the kernel chooses.
    pub asked: Option<PathName>,
    /// Operation to measure.
    pub op: Op,
    /// Properties of the operation on this target. `None` if the target does not offer it.
    pub spec: Option<OpSpec>,
    /// Measurement mode; `Completion` for control operations.
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
    /// Offered rate in operations per second, in load mode.
    pub rate_per_s: Option<u64>,
    /// Whether both sides post.
    pub bidirectional: bool,
}

impl CellSpec {
    /// Whether the operation transfers data. An operation that the target does not offer counts as a transfer.
    pub fn transfers(&self) -> bool {
        transfers(self.spec)
    }

    /// Whether the ranges are too short to be exported. With `mr-per-range`, each range contains a whole operation, so a range
    /// is as long as the operation.
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

/// Properties of an operation on a target. `None` if the target does not offer it.
pub(super) fn spec_of(target: &Target, op: Op) -> Option<OpSpec> {
    target.importer.capabilities().ops.iter().copied().find(|spec| spec.op == op)
}

fn transfers(spec: Option<OpSpec>) -> bool {
    spec.is_none_or(|spec| matches!(spec.role, Role::Transfer(_)))
}

/// Whether a cell of the operation has one thread: a trace of the kernel does not distinguish threads, and a revocation affects
/// all of them.
fn has_one_thread(spec: Option<OpSpec>) -> bool {
    spec.is_some_and(|spec| spec.role.is_traced() || matches!(spec.role, Role::Revoke(_)))
}

impl Plan {
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
            if !cell.has_too_short_ranges() && !self.omits_on_staged_path(&cell) {
                self.expand_modes(cell, &mut cells);
            }
        }
        cells
    }

    /// Whether a control operation has no cell on the staged path because the plan has another path: it would measure host memory,
    /// not the BAR. A plan with only this path has the cell, which reports the reason if it cannot run.
    fn omits_on_staged_path(&self, cell: &CellSpec) -> bool {
        cell.asked == Some(PathName::Staged) && self.paths.len() > 1 && !cell.transfers()
    }

    /// The combinations of operation, size and number of ranges, each as a cell with the default of every other value.
    pub(super) fn combinations<'a>(&'a self, leg: Leg<'a>) -> impl Iterator<Item = CellSpec> + 'a {
        let Leg { target, asked, .. } = leg;
        self.ops.iter().flat_map(move |&op| {
            let spec = spec_of(target, op);
            let sizes_bytes: &[u64] = if op.is_atomic() { &[ATOMIC_BYTES] } else { &self.sizes_bytes };
            sizes_bytes.iter().flat_map(move |&size_bytes| {
                self.range_counts().into_iter().map(move |ranges| CellSpec {
                    asked,
                    op,
                    spec,
                    mode: Mode::Completion,
                    size_bytes,
                    ranges,
                    mechanism: self.mechanism,
                    depth: 1,
                    qps: 1,
                    threads: 1,
                    rate_per_s: None,
                    bidirectional: false,
                })
            })
        })
    }

    fn range_counts(&self) -> Vec<Option<u32>> {
        if self.ranges.is_empty() { vec![None] } else { self.ranges.iter().copied().map(Some).collect() }
    }

    /// Adds a cell for each combination of mode, depth, number of queue pairs and number of threads.
    fn expand_modes(&self, cell: CellSpec, cells: &mut Vec<CellSpec>) {
        if !cell.transfers() {
            let threads = if has_one_thread(cell.spec) { &[1][..] } else { &self.threads };
            cells.extend(threads.iter().map(|&threads| CellSpec { threads, ..cell }));
            return;
        }
        for &mode in &self.modes {
            let is_bandwidth = mode == Mode::Bandwidth;
            let (depths, qps): (&[u32], &[u32]) =
                if mode.has_depth() { (&self.depths, &self.qps) } else { (&[1], &[1]) };
            let rates: Vec<_> =
                if mode == Mode::Load { self.rates_per_s.iter().copied().map(Some).collect() } else { vec![None] };
            for &threads in &self.threads {
                for &qps in qps {
                    let bidirectional = is_bandwidth && self.bidirectional;
                    for &depth in depths {
                        let of =
                            |&rate_per_s| CellSpec { mode, depth, qps, threads, rate_per_s, bidirectional, ..cell };
                        cells.extend(rates.iter().map(of));
                    }
                }
            }
        }
    }

    /// Number of combinations of the values, including those that [`Plan::cells`] omits. Does not list the combinations: even a
    /// short plan may have more of them than fit into memory. Saturates at `u64::MAX`.
    pub(super) fn combination_count(&self) -> u64 {
        let count = |length: usize| length.max(1) as u64;
        let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
        let of_op = |target: &Target, op: Op| {
            let spec = spec_of(target, op);
            let sizes = if op.is_atomic() { 1 } else { self.sizes_bytes.len() as u64 };
            let threads = if has_one_thread(spec) { 1 } else { self.threads.len() as u64 };
            let queues = (self.qps.len() as u64).saturating_mul(self.depths.len() as u64);
            let rates = self.rates_per_s.len() as u64;
            let of_mode = |mode: &Mode| match mode {
                Mode::Bandwidth => queues,
                Mode::Load => queues.saturating_mul(rates),
                Mode::Completion | Mode::PingPong => 1,
            };
            let modes = if transfers(spec) { sum(&mut self.modes.iter().map(of_mode)) } else { 1 };
            [count(self.ranges.len()), threads, modes].into_iter().fold(sizes, u64::saturating_mul)
        };
        let cells = sum(&mut self.targets.iter().flat_map(|target| self.ops.iter().map(move |op| of_op(target, *op))));
        let paths = sum(&mut self.sources.iter().map(|source| self.paths_of(source).len() as u64));
        cells.saturating_mul(paths).saturating_mul(count(self.far.len()))
    }

    /// Total number of cells of all legs.
    pub fn cell_count(&self) -> usize {
        self.legs().map(|leg| self.cells(leg).len()).sum()
    }
}
