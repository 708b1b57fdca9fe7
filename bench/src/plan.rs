//! What a run is asked to do, and the cells that follow from it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use peerpath_exporter::Source;
use peerpath_importers::{Importer, Op, OpSpec, QueuePairOptions, Role};
use peerpath_paths::{Explained, Explanation, PathName, Severity};
use serde::{Deserialize, Serialize, Serializer};

use crate::measure::{Limit, greatest_common_divisor};

/// A target as `--to` names it: an importer and what it calls its device.
#[derive(Clone)]
pub struct Target {
    /// Which importer.
    pub importer: &'static dyn Importer,
    /// The text after the colon.
    pub address: String,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.importer.kind(), self.address))
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Target {
    /// A target of one of these importers, which need not be built in.
    ///
    /// # Errors
    /// None of them is named.
    pub fn among(importers: &[&'static dyn Importer], text: &str) -> Result<Self, peerpath_importers::Error> {
        let (importer, address) = peerpath_importers::parse_target_among(importers, text)?;
        Ok(Self { importer, address: address.to_owned() })
    }
}

impl FromStr for Target {
    type Err = peerpath_importers::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::among(peerpath_importers::IMPORTERS, text)
    }
}

/// How a transfer is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One operation at a time, from its posting to its completion: latency.
    Completion,
    /// There and back again: half of each round trip.
    PingPong,
    /// As many operations under way as the depth says: throughput.
    Bandwidth,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Completion, Self::PingPong, Self::Bandwidth];

    /// The name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::PingPong => "pingpong",
            Self::Bandwidth => "bandwidth",
        }
    }
}

/// How a buffer of many ranges is handed to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// All ranges in one dma-buf, registered as whatever the device offers.
    #[default]
    Auto,
    /// Each range in a dma-buf and a memory region of its own.
    MrPerRange,
}

/// What a run is asked to do, every default filled in.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Memory to export.
    #[serde(serialize_with = "source_names")]
    pub sources: Vec<Source>,
    /// With a peer, whose memory the sources are: memory of this host at the other end of transfers. Empty takes host memory
    /// that fits.
    #[serde(serialize_with = "source_names", skip_serializing_if = "Vec::is_empty")]
    pub far: Vec<Source>,
    /// Devices to import it.
    pub targets: Vec<Target>,
    /// Ways to take; none takes the one that is there.
    pub paths: Vec<Option<PathName>>,
    /// Operations; a target that lacks one waives it.
    #[serde(serialize_with = "op_names")]
    pub ops: Vec<Op>,
    /// Ways to measure transfers.
    pub modes: Vec<Mode>,
    /// Bytes an operation.
    pub sizes_bytes: Vec<u64>,
    /// Into how many ranges a BAR is cut; empty takes it as it is named.
    pub ranges: Vec<u32>,
    /// What becomes of many ranges.
    pub mechanism: Mechanism,
    /// Operations under way in bandwidth mode, on each queue pair.
    pub depths: Vec<u32>,
    /// Queue pairs that a thread uses in turn, in bandwidth mode.
    pub qps: Vec<u32>,
    /// Threads, each with queue pairs and a part of the source of its own.
    pub threads: Vec<u32>,
    /// In bandwidth mode both sides post.
    pub bidirectional: bool,
    /// Operations handed to the device at once; none as many as there is room for.
    pub post_list: Option<u32>,
    /// Of so many operations on a queue pair one has a completion, in bandwidth mode.
    pub completion_moderation: u32,
    /// How queue pairs are made and connected.
    pub connection: QueuePairOptions,
    /// Processors for the threads, one each, in turn.
    pub cpus: Vec<u32>,
    /// Operations before measuring.
    pub warmup: u64,
    /// Most operations of a cell; no end where only a time is given.
    pub iterations: Option<u64>,
    /// Most time of a cell; no end where only a number is given.
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

/// What is asked cannot be carried out by anyone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct PlanError {
    what: String,
    why: String,
    remedy: String,
}

impl Explained for PlanError {
    fn explanation(&self) -> Explanation {
        Explanation::uncaused(&self.why, &self.remedy)
    }
    fn severity(&self) -> Severity {
        Severity::BadInput
    }
}

/// The largest single operation: RDMA messages end at 2 GiB, and no BAR copy needs more.
const LARGEST_OPERATION_BYTES: u64 = 1 << 30;
/// Deeper queues than any device offers would only cost memory.
const DEEPEST: u32 = 65_536;
/// What an atomic operation works on.
pub(crate) const ATOMIC_BYTES: u64 = 8;
/// More queue pairs or threads than any host has use for.
const MOST_QUEUES: u32 = 65_536;
const MOST_THREADS: u32 = 4096;
/// More ranges than this are no question that anybody asks.
const MOST_RANGES: u32 = 65_536;
/// Ranges shorter than this are left out: on most hosts they would be less than a page.
const SHORTEST_RANGE_BYTES: u64 = 4096;

/// Whether a cell of a peer's is of a size that could be asked for here.
pub fn within_bounds(size_bytes: u64, depth: u32, qps: u32, threads: u32, ranges: Option<u32>) -> bool {
    (1..=LARGEST_OPERATION_BYTES).contains(&size_bytes)
        && (1..=DEEPEST).contains(&depth)
        && qps > 0
        && (1..=MOST_THREADS).contains(&threads)
        // Each slot of a thread, and each queue pair, is told to the peer.
        && depth.checked_mul(qps).is_some_and(|slots| slots <= DEEPEST)
        && threads.checked_mul(qps).is_some_and(|pairs| pairs <= MOST_QUEUES)
        && ranges.is_none_or(|count| (1..=MOST_RANGES).contains(&count))
}

/// Whether operations can be handed over and told of like that on a queue of that depth: it must never be full of such as do not
/// tell that they ended.
pub fn can_flow(depth: u32, post_list: Option<u32>, moderation: u32) -> bool {
    let possible = 1..=depth;
    possible.contains(&moderation)
        && post_list.is_none_or(|list| {
            let untold = moderation - greatest_common_divisor(list.into(), moderation.into()) as u32;
            possible.contains(&list) && depth.is_multiple_of(list) && untold + list <= depth
        })
}

/// A source, a target and the way between them, opened together for all of their cells.
#[derive(Debug, Clone, Copy)]
pub struct Leg<'plan> {
    /// What is exported.
    pub source: &'plan Source,
    /// What imports it; with a peer, what this host's end is registered with.
    pub target: &'plan Target,
    /// With a peer: this host's end, where it is named.
    pub far: Option<&'plan Source>,
    /// Which way was asked for.
    pub asked: Option<PathName>,
}

/// One combination to run on a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellSpec {
    /// Which way was asked for.
    pub asked: Option<PathName>,
    /// What is done.
    pub op: Op,
    /// What that is for this target; none where the target lacks the op.
    pub spec: Option<OpSpec>,
    /// How it is measured.
    pub mode: Mode,
    /// Bytes an operation.
    pub size_bytes: u64,
    /// Into how many ranges the source is cut; none takes it as it is named.
    pub ranges: Option<u32>,
    /// What becomes of them.
    pub mechanism: Mechanism,
    /// Operations under way, on each queue pair.
    pub depth: u32,
    /// Queue pairs of each thread.
    pub qps: u32,
    /// Threads.
    pub threads: u32,
    /// Both sides post.
    pub bidirectional: bool,
}

impl CellSpec {
    /// Whether bytes are moved; an op that the target lacks is taken for one.
    pub fn transfers(&self) -> bool {
        self.spec.is_none_or(|spec| matches!(spec.role, Role::Transfer(_)))
    }

    /// Ranges too short to be exported. An operation that has to lie within one of them makes them as long as itself.
    fn is_too_fine(&self) -> bool {
        let count = self.ranges.unwrap_or(1);
        let each = if self.transfers() && self.mechanism == Mechanism::MrPerRange {
            self.size_bytes
        } else {
            self.size_bytes / u64::from(count)
        };
        count > 1 && each < SHORTEST_RANGE_BYTES
    }
}

impl Plan {
    /// Refuses what could only fail later.
    ///
    /// # Errors
    /// Nothing to run, or figures out of bounds.
    pub fn check(&self) -> Result<(), PlanError> {
        let refuse = |what: String, why: &str, remedy: &str| {
            Err(PlanError { what, why: why.to_owned(), remedy: remedy.to_owned() })
        };
        if self.sources.is_empty() || self.targets.is_empty() {
            return refuse(
                "there is nothing to run".into(),
                "a run needs at least one source and one target",
                "name them with --from and --to; `peerpath list` shows what this host has",
            );
        }
        if self.paths.contains(&Some(PathName::Unknown)) {
            return refuse(
                "no path is named unknown".into(),
                "it stands in results where a path could not be told",
                "ask for bypass, translated, bus-address, host-memory, staged or refused",
            );
        }
        if let Some(size) = self.sizes_bytes.iter().find(|size| **size == 0 || **size > LARGEST_OPERATION_BYTES) {
            return refuse(
                format!("an operation of {size} bytes cannot be run"),
                "sizes go from 1 byte to 1 GiB",
                "choose another --size",
            );
        }
        if let Some(depth) = self.depths.iter().find(|depth| **depth == 0 || **depth > DEEPEST) {
            return refuse(
                format!("a depth of {depth} cannot be run"),
                "depths go from 1 to 65536",
                "choose another --depth",
            );
        }
        if let Some(ranges) = self.ranges.iter().find(|ranges| **ranges == 0 || **ranges > MOST_RANGES) {
            return refuse(
                format!("a BAR cannot be cut into {ranges} ranges"),
                "numbers of ranges go from 1 to 65536",
                "choose another --ranges",
            );
        }
        self.check_connections()?;
        let has_ranges = |source: &&Source| matches!(source, Source::Vfio { ranges, .. } if !ranges.is_empty());
        if let Some(source) =
            self.sources.iter().find(has_ranges).filter(|_| self.ranges.iter().any(|count| *count > 1))
        {
            return refuse(
                format!("{source} cannot be cut into ranges"),
                "it names its ranges itself",
                "leave out either --ranges or what stands behind the @",
            );
        }
        if self.cell_count() == 0 {
            return refuse(
                "no cell is left to run".into(),
                "ranges of less than 4 KiB are not exported, and every size is cut into such",
                "choose a larger --size or fewer --ranges",
            );
        }
        if self.iterations == Some(0) {
            return refuse(
                "no operation would be measured".into(),
                "--iterations is 0",
                "ask for at least one iteration",
            );
        }
        Ok(())
    }

    /// What is said of queue pairs and threads.
    fn check_connections(&self) -> Result<(), PlanError> {
        let refuse = |what: String, why: &str, remedy: &str| {
            Err(PlanError { what, why: why.to_owned(), remedy: remedy.to_owned() })
        };
        for (counts, most, option) in [(&self.qps, MOST_QUEUES, "--qps"), (&self.threads, MOST_THREADS, "--threads")] {
            if let Some(count) = counts.iter().find(|count| **count == 0 || **count > most) {
                return refuse(
                    format!("{option} {count} cannot be run"),
                    &format!("numbers go from 1 to {most}"),
                    "choose another number",
                );
            }
        }
        let shallowest = self.depths.iter().copied().min().unwrap_or(1);
        for (count, option) in
            [(self.completion_moderation, "--completion-moderation"), (self.post_list.unwrap_or(1), "--post-list")]
        {
            if count == 0 || count > shallowest {
                return refuse(
                    format!("{option} {count} does not fit a depth of {shallowest}"),
                    "so many operations could never be under way together",
                    "choose a number from 1 to --depth",
                );
            }
        }
        if self.depths.iter().any(|depth| !can_flow(*depth, self.post_list, self.completion_moderation)) {
            return refuse(
                format!(
                    "--post-list {} does not go with --completion-moderation {} and this depth",
                    self.post_list.unwrap_or(1),
                    self.completion_moderation
                ),
                "the queue would be full of operations none of which tells that it ended",
                "use a depth that is a multiple of --post-list, and larger than both together",
            );
        }
        let QueuePairOptions { mtu_bytes, service_level, .. } = self.connection;
        if let Some(bytes) = mtu_bytes.filter(|bytes| !QueuePairOptions::MTUS_BYTES.contains(bytes)) {
            return refuse(
                format!("an MTU of {bytes} bytes does not exist"),
                "it is 256, 512, 1024, 2048 or 4096",
                "choose one of these for --mtu",
            );
        }
        if service_level > 15 {
            return refuse(
                format!("a service level of {service_level} does not exist"),
                "levels go from 0 to 15",
                "choose another --service-level",
            );
        }
        let has_none = |target: &&Target| !target.importer.capabilities().queue_pairs;
        let defaults = QueuePairOptions { huge_pages: self.connection.huge_pages, ..QueuePairOptions::default() };
        if let Some(target) = self.targets.iter().find(has_none).filter(|_| self.connection != defaults) {
            return refuse(
                format!("{target} has no queue pairs"),
                "transport, MTU, GID, service level, traffic class, inline, ordering and events are those of RDMA devices",
                "leave these options out, or run the two kinds of targets apart",
            );
        }
        Ok(())
    }

    /// When each cell ends.
    pub fn limit(&self) -> Limit {
        Limit { iterations: self.iterations.unwrap_or(u64::MAX), duration: self.duration.unwrap_or(Duration::MAX) }
    }

    /// The legs, in the order in which they run.
    ///
    /// Of several paths a source is asked to take those that its kind has: a BAR and its baseline stand in one plan.
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

    /// All of them where none fits: what was asked for is waived with its reason, not left out in silence.
    fn paths_of(&self, source: &Source) -> Vec<Option<PathName>> {
        let fits = |asked: &Option<PathName>| {
            asked.is_none_or(|path| match source {
                Source::Vfio { .. } | Source::Cuda { .. } => path != PathName::HostMemory,
                Source::Udmabuf { .. } | Source::Heap { .. } | Source::Host { .. } => path == PathName::HostMemory,
                // What it is, its exporter will say.
                Source::Socket { .. } => true,
            })
        };
        let fitting: Vec<_> = self.paths.iter().copied().filter(fits).collect();
        if fitting.is_empty() { self.paths.clone() } else { fitting }
    }

    /// The cells of a leg, in the order in which they run.
    pub fn cells(&self, leg: Leg<'_>) -> Vec<CellSpec> {
        let Leg { target, asked, .. } = leg;
        let (mechanism, mode, depth, qps, threads) = (self.mechanism, Mode::Completion, 1, 1, 1);
        let bidirectional = false;
        let mut cells = Vec::new();
        for &op in &self.ops {
            let spec = target.importer.capabilities().ops.iter().copied().find(|spec| spec.op == op);
            let sizes_bytes: &[u64] = if op.is_atomic() { &[ATOMIC_BYTES] } else { &self.sizes_bytes };
            for &size_bytes in sizes_bytes {
                for ranges in self.cuts() {
                    let cell = CellSpec {
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
                    };
                    if !cell.is_too_fine() {
                        self.modes_of(cell, &mut cells);
                    }
                }
            }
        }
        cells
    }

    fn cuts(&self) -> Vec<Option<u32>> {
        if self.ranges.is_empty() { vec![None] } else { self.ranges.iter().copied().map(Some).collect() }
    }

    /// A cell in every way in which it is to be measured.
    fn modes_of(&self, cell: CellSpec, cells: &mut Vec<CellSpec>) {
        if !cell.transfers() {
            // What the kernel does inside a registration is seen one at a time.
            let is_inside = cell.spec.is_some_and(|spec| matches!(spec.role, Role::Attach | Role::Map));
            let threads = if is_inside { &[1][..] } else { &self.threads };
            cells.extend(threads.iter().map(|&threads| CellSpec { threads, ..cell }));
            return;
        }
        for &mode in &self.modes {
            let is_flow = mode == Mode::Bandwidth;
            let (depths, qps): (&[u32], &[u32]) = if is_flow { (&self.depths, &self.qps) } else { (&[1], &[1]) };
            for &threads in &self.threads {
                for &qps in qps {
                    let bidirectional = is_flow && self.bidirectional;
                    let of = |&depth| CellSpec { mode, depth, qps, threads, bidirectional, ..cell };
                    cells.extend(depths.iter().map(of));
                }
            }
        }
    }

    /// How many cells there are in all.
    pub fn cell_count(&self) -> usize {
        self.legs().map(|leg| self.cells(leg).len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(ops: &[Op], sizes_bytes: &[u64], ranges: &[u32], mechanism: Mechanism) -> Plan {
        Plan {
            sources: vec!["0000:03:00.0:2".parse().unwrap()],
            far: Vec::new(),
            targets: vec!["verbs:rxe0".parse().unwrap()],
            paths: vec![None],
            ops: ops.to_vec(),
            modes: vec![Mode::Completion, Mode::Bandwidth],
            sizes_bytes: sizes_bytes.to_vec(),
            ranges: ranges.to_vec(),
            mechanism,
            depths: vec![8, 16],
            qps: vec![1],
            threads: vec![1],
            bidirectional: false,
            post_list: None,
            completion_moderation: 1,
            connection: QueuePairOptions::default(),
            cpus: Vec::new(),
            warmup: 0,
            iterations: Some(1),
            duration: None,
        }
    }

    fn cells(plan: &Plan) -> Vec<(u64, u32, Mode, u32)> {
        let leg = plan.legs().next().unwrap();
        let cells = plan.cells(leg);
        cells.iter().map(|cell| (cell.size_bytes, cell.ranges.unwrap_or(0), cell.mode, cell.depth)).collect()
    }

    #[test]
    fn ranges_of_less_than_4_kib_are_left_out() {
        let control = plan(&[Op::Register], &[4096, 65_536], &[1, 2, 8, 64], Mechanism::Auto);
        let expected = [(4096, 1), (65_536, 1), (65_536, 2), (65_536, 8)]
            .map(|(size, ranges)| (size, ranges, Mode::Completion, 1));
        assert_eq!(cells(&control), expected);
        assert_eq!(control.cell_count(), 4);
        for ranges in [&[][..], &[1]] {
            let whole = plan(&[Op::Register], &[100], ranges, Mechanism::Auto);
            assert_eq!(cells(&whole).len(), 1, "what was named is never left out");
        }
        plan(&[Op::Register], &[4096], &[8], Mechanism::Auto).check().unwrap_err();
    }

    #[test]
    fn with_a_region_for_each_range_an_operation_makes_the_range() {
        let transfers = plan(&[Op::Write], &[4096], &[8], Mechanism::MrPerRange);
        assert_eq!(
            cells(&transfers),
            [(4096, 8, Mode::Completion, 1), (4096, 8, Mode::Bandwidth, 8), (4096, 8, Mode::Bandwidth, 16)]
        );
        assert_eq!(cells(&plan(&[Op::Register], &[4096], &[8], Mechanism::MrPerRange)), []);
        assert_eq!(cells(&plan(&[Op::Write], &[4096], &[8], Mechanism::Auto)), []);
    }

    #[test]
    fn a_source_takes_the_paths_of_its_kind() {
        let paths = |names: &[PathName]| {
            let plan = Plan {
                sources: ["0000:03:00.0:2", "host:16M"].map(|source| source.parse().unwrap()).to_vec(),
                paths: names.iter().copied().map(Some).collect(),
                ..plan(&[Op::Write], &[4096], &[], Mechanism::Auto)
            };
            plan.legs().map(|leg| (leg.source.to_string(), leg.asked.unwrap())).collect::<Vec<_>>()
        };
        let (bar, host) = ("0000:03:00.0:2".to_owned(), "host:16M".to_owned());
        let (bypass, memory) = (PathName::HostBridgeBypass, PathName::HostMemory);
        assert_eq!(paths(&[bypass, memory]), [(bar.clone(), bypass), (host.clone(), memory)]);
        assert_eq!(paths(&[bypass]), [(bar, bypass), (host, bypass)], "what was asked for is not left out");
    }

    #[test]
    fn ranges_are_named_once() {
        let named: Source = "0000:03:00.0:2@0x0+0x1000,0x4000+0x1000".parse().unwrap();
        let plan = |ranges: &[u32]| Plan {
            sources: vec![named.clone()],
            ..plan(&[Op::Register], &[8192], ranges, Mechanism::Auto)
        };
        plan(&[1]).check().unwrap();
        for ranges in [&[1, 2][..], &[0], &[65_537]] {
            plan(ranges).check().unwrap_err();
        }
    }
}
