//! A cell of a result.

use peerpath_paths::PathName;

use super::histogram::Distribution;
use super::object::Object;

/// Maximum number of repeats of a cell that are read.
pub(super) const MAX_REPEATS: usize = 1000;
/// Maximum number of hops, of blockers and of lines of evidence of a cell, and of disturbances of a repeat.
const MAX_ENTRIES: usize = 64;

/// Outcome of a cell. Ordered by severity, failures first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The cell ran with an error, e.g. mismatched bytes or another path than requested.
    Failed,
    /// The cell could not run on this host.
    Waived,
    /// The result does not record the outcome, or records an unknown one.
    Unknown,
    /// The cell ran without an error.
    Passed,
}

impl Outcome {
    /// `passed`, `waived`, `failed` or `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Waived => "waived",
            Self::Unknown => "unknown",
            Self::Passed => "passed",
        }
    }
}

/// The memory under test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SavedSource {
    /// Kind of memory: `vfio`, `host`, `udmabuf`, `heap`, `cuda`.
    pub kind: String,
    /// PCI function that exports the memory.
    pub bdf: Option<String>,
    /// Index of the BAR, 0 to 5.
    pub bar: Option<u64>,
    /// Offset and length of each range of the BAR, in bytes.
    pub ranges: Vec<(u64, u64)>,
}

/// The device that imports the source and moves data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SavedTarget {
    /// Kind of importer: `verbs`, `iommufd`, `cuda`.
    pub kind: String,
    /// Name of the device, e.g. `mlx5_0`.
    pub device: String,
    /// PCI function of the device.
    pub bdf: Option<String>,
}

/// Fact that determines a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SavedDecision {
    /// PCI function that the fact is about. `None` for the root complex or the kernel.
    pub bdf: Option<String>,
    /// The fact, in a sentence without a full stop.
    pub fact: String,
}

/// The path between source and target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedPath {
    /// Path that the run requested.
    pub asked: Option<PathName>,
    /// Path predicted from the topology by the kernel's rules.
    pub predicted: Option<PathName>,
    /// Path that tracing recorded; [`PathName::Unknown`] if it recorded none.
    pub observed: Option<PathName>,
    /// DMA mapping attribute that the kernel used.
    pub attribute: Option<String>,
    /// Whether the DMA address was the physical address.
    pub dma_address_equals_physical: Option<bool>,
    /// Smallest Max Payload Size of the hops.
    pub max_payload_bytes: Option<u64>,
    /// PCI functions that the data passes through, from source to target inclusive.
    pub hops: Vec<String>,
    /// Bridge above source and target. The direction changes here from up to down.
    pub turns_at: Option<String>,
    /// Last upward hop, if no bridge is above both source and target.
    pub up_to: Option<String>,
    /// Whether requests pass through the root complex. `None` in results of older versions, and if unknown.
    pub through_root_complex: Option<bool>,
    /// Fact that determines the path.
    pub deciding: Option<SavedDecision>,
    /// Conditions that prevent binding or exporting.
    pub blockers: Vec<String>,
    /// Evidence of the prediction and the observation.
    pub evidence: Vec<String>,
}

impl SavedPath {
    /// The observed path, if it is known.
    pub fn observed_path(&self) -> Option<PathName> {
        self.observed.filter(|path| *path != PathName::Unknown)
    }

    /// The observed path, otherwise the predicted one, otherwise [`PathName::Unknown`].
    pub fn best_known(&self) -> PathName {
        self.observed_path().or(self.predicted).unwrap_or(PathName::Unknown)
    }

    /// Fact that determines the path. Older results record the fact only as evidence.
    pub fn why(&self) -> Option<&str> {
        let from_evidence = || self.evidence.iter().find_map(|line| line.strip_prefix("predicted from: "));
        self.deciding.as_ref().map(|deciding| deciding.fact.as_str()).or_else(from_evidence)
    }
}

/// A latency distribution in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SavedLatency {
    /// Smallest sample.
    pub min: Option<f64>,
    /// 10th percentile.
    pub p10: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// 99.9th percentile.
    pub p999: Option<f64>,
    /// Largest sample.
    pub max: Option<f64>,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Standard deviation.
    pub stdev: Option<f64>,
    /// Compressed HdrHistogram V2 in base64.
    pub histogram: Option<String>,
}

impl SavedLatency {
    /// The samples, decoded from the histogram. `None` without a valid histogram.
    pub fn distribution(&self) -> Option<Distribution> {
        Distribution::decode(self.histogram.as_deref()?)
    }
}

/// The figures of one repeat of a cell, with the meaning of the fields of [`SavedCell`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SavedRepeat {
    /// Measured operations.
    pub iterations: Option<u64>,
    /// Operations before the measurement.
    pub warmup: Option<u64>,
    /// Whether the rate was steady when the warm-up ended. `None` if unknown.
    pub steady: Option<bool>,
    /// Bytes that were compared with the expected data.
    pub verified_bytes: Option<u64>,
    /// Latency per operation.
    pub latency: Option<SavedLatency>,
    /// Bytes per second over the whole measured time.
    pub throughput: Option<f64>,
    /// Lowest throughput of any time window of the measurement, in bytes per second.
    pub throughput_min_window: Option<f64>,
    /// Operations per second over the whole measured time.
    pub operations_per_s: Option<f64>,
    /// What disturbed the repeat, e.g. `the hypervisor took 12 % of the CPU time`. Each is a phrase. Empty in older results.
    pub disturbed: Vec<String>,
}

impl SavedRepeat {
    /// 99th percentile of the latency in nanoseconds, if at least 100 operations were measured.
    pub fn p99(&self) -> Option<f64> {
        p99(self.latency.as_ref(), self.iterations)
    }

    /// Median latency in nanoseconds, if it is above zero.
    pub fn p50(&self) -> Option<f64> {
        p50(self.latency.as_ref())
    }
}

fn p99(latency: Option<&SavedLatency>, iterations: Option<u64>) -> Option<f64> {
    latency?.p99.filter(|_| iterations.is_none_or(|count| count >= 100))
}

fn p50(latency: Option<&SavedLatency>) -> Option<f64> {
    latency?.p50.filter(|median| *median > 0.0)
}

/// Highest payload rate that the links of a path allow: see `docs/ceilings.md`.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedCeiling {
    /// The rate, above zero.
    pub bytes_per_s: f64,
    /// The slowest hop, e.g. `link 0000:00:01.0 - 0000:03:00.0 (8 GT/s x16, MPS 256, MRRS 512)`.
    pub limited_by: Option<String>,
}

/// One measurement: source x target x path x operation x mode x size, and every other setting.
///
/// The figures are those of the repeat with the median main figure: throughput, otherwise the median latency.
///
/// A field is `None` if the result does not record it, or records a value of another type.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedCell {
    /// Identifier, unique within the result.
    pub id: String,
    /// The memory under test.
    pub source: SavedSource,
    /// The device that moves data.
    pub target: SavedTarget,
    /// In a run between two hosts: memory and device of the client, e.g. `host at rxe1`. Source and target belong to the server.
    pub peer: Option<String>,
    /// The path between source and target.
    pub path: SavedPath,
    /// Operation, e.g. `write`, `read`, `register`.
    pub op: String,
    /// `completion`, `pingpong` or `bandwidth`.
    pub mode: String,
    /// `into_source` or `out_of_source`; `None` for an operation that moves no data.
    pub direction: Option<String>,
    /// Whether data moves in both directions at once.
    pub bidirectional: bool,
    /// Engine that transferred the data: `device` or `cpu`.
    pub engine: Option<String>,
    /// Call that made the buffer accessible to the target, e.g. `uverbs-ioctl`.
    pub mechanism: Option<String>,
    /// Bytes per operation.
    pub size_bytes: Option<u64>,
    /// Outstanding operations per queue pair.
    pub depth: Option<u64>,
    /// Threads that post operations.
    pub threads: Option<u64>,
    /// Queue pairs per thread.
    pub qps: Option<u64>,
    /// Rate at which operations were scheduled, in operations per second. Only in mode `load`.
    pub offered_operations_per_s: Option<u64>,
    /// Measured operations.
    pub iterations: Option<u64>,
    /// Operations before the measurement.
    pub warmup: Option<u64>,
    /// Outcome of the cell.
    pub outcome: Outcome,
    /// Cause, e.g. `dma-mask`, if the cell did not pass.
    pub cause: Option<String>,
    /// Why the cell did not pass, in a sentence.
    pub reason: Option<String>,
    /// How to make the cell pass.
    pub remedy: Option<String>,
    /// Bytes that were compared with the expected data.
    pub verified_bytes: Option<u64>,
    /// Latency distribution of single operations.
    pub latency: Option<SavedLatency>,
    /// Bytes per second over the whole measured time.
    pub throughput: Option<f64>,
    /// Lowest throughput of any time window of the measurement, in bytes per second.
    pub throughput_min_window: Option<f64>,
    /// Operations per second over the whole measured time.
    pub operations_per_s: Option<f64>,
    /// Ceiling of the path in the direction of the data. `None` in older results, and if the path has no ceiling or its ceiling
    /// is unknown.
    pub ceiling: Option<SavedCeiling>,
    /// The repeats, in the order in which they ran, at most 1000. Empty in results of format version 1.
    pub repeats: Vec<SavedRepeat>,
}

impl SavedCell {
    /// Largest minus smallest figure of the repeats, in percent of the cell's figure: the throughput, or else the median latency.
    /// `None` with fewer than two repeats.
    pub fn spread_percent(&self) -> Option<f64> {
        let p50 = |latency: &Option<SavedLatency>| latency.as_ref()?.p50;
        let figures = || self.repeats.iter().filter_map(|repeat| repeat.throughput.or_else(|| p50(&repeat.latency)));
        let shown = self.throughput.or_else(|| p50(&self.latency)).filter(|shown| *shown > 0.0)?;
        let (smallest, largest) = (figures().reduce(f64::min)?, figures().reduce(f64::max)?);
        (figures().count() > 1).then_some((largest - smallest) / shown * 100.0)
    }

    /// 99th percentile of the latency in nanoseconds, if at least 100 operations were measured.
    pub fn p99(&self) -> Option<f64> {
        p99(self.latency.as_ref(), self.iterations)
    }

    /// Median latency in nanoseconds, if it is above zero.
    pub fn p50(&self) -> Option<f64> {
        p50(self.latency.as_ref())
    }

    /// Throughput in percent of the ceiling of the path. `None` without a throughput or a ceiling.
    pub fn percent_of_ceiling(&self) -> Option<f64> {
        let percent = self.throughput? / self.ceiling.as_ref()?.bytes_per_s * 100.0;
        percent.is_finite().then_some(percent)
    }

    /// What disturbed the repeats: each reason with the number of its repeat from 1, e.g. `repeat 2: ...`.
    pub fn disturbances(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..)
            .zip(&self.repeats)
            .flat_map(|(number, repeat)| repeat.disturbed.iter().map(move |why| (number, why.as_str())))
    }

    /// Whether the operation moves data, e.g. `write` but not `register`.
    pub fn transfers(&self) -> bool {
        self.direction.is_some() || self.throughput.is_some()
    }

    /// Whether data was compared with the expected data.
    pub fn verified(&self) -> bool {
        self.verified_bytes.is_some_and(|bytes| bytes > 0)
    }
}

pub(super) fn read(cell: Object<'_>) -> SavedCell {
    let (source, target) = (cell.object("source"), cell.object("target"));
    let unnamed = |text: Option<String>| text.unwrap_or_else(|| "unnamed".to_owned());
    SavedCell {
        id: cell.name("id").unwrap_or_default(),
        source: SavedSource {
            kind: unnamed(source.name("kind")),
            bdf: source.name("bdf"),
            bar: source.count("bar"),
            ranges: ranges(source),
        },
        target: SavedTarget {
            kind: unnamed(target.name("kind")),
            device: unnamed(target.name("device")),
            bdf: target.name("bdf"),
        },
        peer: cell.value("far").map(|far| peer(Object::of(far))),
        path: path(cell.object("path")),
        op: unnamed(cell.name("op")),
        mode: cell.name("mode").unwrap_or_default(),
        direction: cell.name("direction"),
        bidirectional: cell.flag("bidirectional") == Some(true),
        engine: cell.name("engine"),
        mechanism: cell.name("mechanism"),
        size_bytes: cell.count("size_bytes"),
        depth: cell.count("depth"),
        threads: cell.count("threads"),
        qps: cell.count("qps"),
        offered_operations_per_s: cell.count("offered_operations_per_s"),
        iterations: cell.count("iterations"),
        warmup: cell.count("warmup"),
        outcome: match cell.raw("outcome") {
            Some("passed") => Outcome::Passed,
            Some("waived") => Outcome::Waived,
            Some("failed") => Outcome::Failed,
            _ => Outcome::Unknown,
        },
        cause: cell.name("cause"),
        reason: cell.sentence("reason"),
        remedy: cell.sentence("remedy"),
        verified_bytes: cell.count("verified_bytes"),
        latency: cell.value("latency_ns").map(|value| latency(Object::of(value))),
        throughput: cell.number("throughput_bytes_per_s"),
        throughput_min_window: cell.number("throughput_min_window_bytes_per_s"),
        operations_per_s: cell.number("operations_per_s"),
        ceiling: ceiling(cell.object("ceiling")),
        repeats: repeats(cell).map(repeat).collect(),
    }
}

/// The repeats of a cell, up to the limit.
pub(super) fn repeats(cell: Object<'_>) -> impl Iterator<Item = Object<'_>> {
    cell.list("repeats").unwrap_or_default().iter().take(MAX_REPEATS).map(Object::of)
}

fn repeat(repeat: Object<'_>) -> SavedRepeat {
    SavedRepeat {
        iterations: repeat.count("iterations"),
        warmup: repeat.count("warmup"),
        steady: repeat.flag("steady"),
        verified_bytes: repeat.count("verified_bytes"),
        latency: repeat.value("latency_ns").map(|value| latency(Object::of(value))),
        throughput: repeat.number("throughput_bytes_per_s"),
        throughput_min_window: repeat.number("throughput_min_window_bytes_per_s"),
        operations_per_s: repeat.number("operations_per_s"),
        disturbed: repeat.sentences("disturbed", MAX_ENTRIES),
    }
}

fn ceiling(ceiling: Object<'_>) -> Option<SavedCeiling> {
    let bytes_per_s = ceiling.number("bytes_per_s").filter(|rate| *rate > 0.0)?;
    Some(SavedCeiling { bytes_per_s, limited_by: ceiling.sentence("limited_by") })
}

fn peer(far: Object<'_>) -> String {
    let (source, device) = (far.object("source"), far.object("target").name("device"));
    let memory = match (source.name("bdf"), source.count("bar")) {
        (Some(bdf), Some(bar)) => Some(format!("{bdf}:{bar}")),
        _ => source.name("kind"),
    };
    let unnamed = |text: Option<String>| text.unwrap_or_else(|| "unnamed".to_owned());
    format!("{} at {}", unnamed(memory), unnamed(device))
}

fn ranges(source: Object<'_>) -> Vec<(u64, u64)> {
    let range = |value| {
        let range = Object::of(value);
        Some((range.count("offset_bytes")?, range.count("length_bytes")?))
    };
    source.list("ranges").unwrap_or_default().iter().filter_map(range).collect()
}

fn path(path: Object<'_>) -> SavedPath {
    let named = |key| path.raw(key).map(|name| name.parse().unwrap_or(PathName::Unknown));
    let deciding = path.object("deciding");
    SavedPath {
        asked: named("asked"),
        predicted: named("predicted"),
        observed: named("observed"),
        attribute: path.name("attribute"),
        dma_address_equals_physical: path.flag("dma_address_equals_physical"),
        max_payload_bytes: path.count("max_payload_bytes"),
        hops: path.names("hops", MAX_ENTRIES),
        turns_at: path.name("turns_at"),
        up_to: path.name("up_to"),
        through_root_complex: path.flag("through_root_complex"),
        deciding: deciding.sentence("fact").map(|fact| SavedDecision { bdf: deciding.name("bdf"), fact }),
        blockers: path.names("blockers", MAX_ENTRIES),
        evidence: path.sentences("evidence", MAX_ENTRIES),
    }
}

fn latency(latency: Object<'_>) -> SavedLatency {
    SavedLatency {
        min: latency.number("min"),
        p10: latency.number("p10"),
        p50: latency.number("p50"),
        p90: latency.number("p90"),
        p99: latency.number("p99"),
        p999: latency.number("p999"),
        max: latency.number("max"),
        mean: latency.number("mean"),
        stdev: latency.number("stdev"),
        histogram: latency.raw("histogram").map(str::to_owned),
    }
}
