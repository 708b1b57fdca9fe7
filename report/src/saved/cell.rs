//! A cell as it is found.

use peerpath_paths::PathName;

use super::histogram::Distribution;
use super::object::Object;

/// Most lines of evidence, hops and blockers of a cell.
const MOST: usize = 64;

/// How a cell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It went wrong.
    Failed,
    /// The host could not do it.
    Waived,
    /// The result does not say, or in a word that is not known.
    Unsaid,
    /// It ran, and its data were right.
    Passed,
}

impl Outcome {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Waived => "waived",
            Self::Unsaid => "not said",
            Self::Passed => "passed",
        }
    }
}

/// The exported memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SavedSource {
    /// Kind of memory.
    pub kind: String,
    /// The exporting function.
    pub bdf: Option<String>,
    /// The BAR's index.
    pub bar: Option<u64>,
    /// Offset and length of each range, in bytes.
    pub ranges: Vec<(u64, u64)>,
}

/// The device that a cell went to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SavedTarget {
    /// Kind of importer.
    pub kind: String,
    /// The device's name.
    pub device: String,
    /// Its PCI function.
    pub bdf: Option<String>,
}

/// What decided about a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SavedDeciding {
    /// The function that it is about.
    pub bdf: Option<String>,
    /// The fact.
    pub fact: String,
}

/// The path of a cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedPath {
    /// What was asked for.
    pub asked: Option<PathName>,
    /// What the kernel would decide.
    pub predicted: Option<PathName>,
    /// What was seen; `unknown` where nothing was.
    pub observed: Option<PathName>,
    /// The mapping attribute that the kernel used.
    pub attribute: Option<String>,
    /// Whether the DMA address was the physical one.
    pub dma_address_equals_physical: Option<bool>,
    /// The smallest maximum payload size along the way.
    pub max_payload_bytes: Option<u64>,
    /// The functions on the way, both ends included.
    pub hops: Vec<String>,
    /// The hop at which it turns round.
    pub turns_at: Option<String>,
    /// The last hop on the way up, where it turns round at none.
    pub up_to: Option<String>,
    /// What decided.
    pub deciding: Option<SavedDeciding>,
    /// What prevents binding or exporting.
    pub blockers: Vec<String>,
    /// What all this rests on.
    pub evidence: Vec<String>,
}

impl SavedPath {
    /// The path that was seen.
    pub fn seen(&self) -> Option<PathName> {
        self.observed.filter(|path| *path != PathName::Unknown)
    }

    /// The path that was seen, or the one that was to be expected.
    pub fn best_known(&self) -> PathName {
        self.seen().or(self.predicted).unwrap_or(PathName::Unknown)
    }

    /// Why the path is the one that it is. Older results have that among the evidence only.
    pub fn why(&self) -> Option<&str> {
        let told = || self.evidence.iter().find_map(|line| line.strip_prefix("predicted from: "));
        self.deciding.as_ref().map(|deciding| deciding.fact.as_str()).or_else(told)
    }
}

/// A latency distribution in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "percentiles explain themselves")]
pub struct SavedLatency {
    pub min: Option<f64>,
    pub p10: Option<f64>,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub max: Option<f64>,
    pub mean: Option<f64>,
    pub stdev: Option<f64>,
    /// HdrHistogram V2 compressed, base64.
    pub histogram: Option<String>,
}

impl SavedLatency {
    /// The samples.
    pub fn distribution(&self) -> Option<Distribution> {
        Distribution::decode(self.histogram.as_deref()?)
    }
}

/// One measured combination.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedCell {
    /// Unique within the result.
    pub id: String,
    /// The exported memory.
    pub source: SavedSource,
    /// The device.
    pub target: SavedTarget,
    /// Between two hosts: memory and device of the one that posted, `host at rxe1`. All else is of the other one.
    pub peer: Option<String>,
    /// The way between them.
    pub path: SavedPath,
    /// The operation.
    pub op: String,
    /// How it was measured.
    pub mode: String,
    /// `into_source`, `out_of_source`, or none.
    pub direction: Option<String>,
    /// Both directions at once.
    pub bidirectional: bool,
    /// What moved the bytes.
    pub engine: Option<String>,
    /// How the buffer was registered.
    pub mechanism: Option<String>,
    /// Bytes an operation.
    pub size_bytes: Option<u64>,
    /// Operations under way at once.
    pub depth: Option<u64>,
    /// Threads that post.
    pub threads: Option<u64>,
    /// Queue pairs.
    pub qps: Option<u64>,
    /// Operations measured.
    pub iterations: Option<u64>,
    /// Operations before measuring.
    pub warmup: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it did not pass, in a word.
    pub cause: Option<String>,
    /// Why it did not pass, in a sentence.
    pub reason: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Bytes compared with what was sent.
    pub verified_bytes: Option<u64>,
    /// Latency of single operations.
    pub latency: Option<SavedLatency>,
    /// Bytes a second over the whole measured time.
    pub throughput: Option<f64>,
    /// ... and in the slowest window.
    pub throughput_min_window: Option<f64>,
    /// Operations a second over the whole measured time.
    pub operations_per_s: Option<f64>,
}

impl SavedCell {
    /// Its 99th percentile, where there are samples enough to tell it from the slowest.
    pub fn p99(&self) -> Option<f64> {
        self.latency.as_ref()?.p99.filter(|_| self.iterations.is_none_or(|count| count >= 100))
    }

    /// The median latency.
    pub fn p50(&self) -> Option<f64> {
        self.latency.as_ref()?.p50.filter(|figure| *figure > 0.0)
    }

    /// Whether it moves bytes, rather than preparing that.
    pub fn transfers(&self) -> bool {
        self.direction.is_some() || self.throughput.is_some()
    }

    /// Whether it compared what arrived with what was sent.
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
        iterations: cell.count("iterations"),
        warmup: cell.count("warmup"),
        outcome: match cell.raw("outcome") {
            Some("passed") => Outcome::Passed,
            Some("waived") => Outcome::Waived,
            Some("failed") => Outcome::Failed,
            _ => Outcome::Unsaid,
        },
        cause: cell.name("cause"),
        reason: cell.sentence("reason"),
        remedy: cell.sentence("remedy"),
        verified_bytes: cell.count("verified_bytes"),
        latency: cell.value("latency_ns").map(|value| latency(Object::of(value))),
        throughput: cell.figure("throughput_bytes_per_s"),
        throughput_min_window: cell.figure("throughput_min_window_bytes_per_s"),
        operations_per_s: cell.figure("operations_per_s"),
    }
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
        hops: path.names("hops", MOST),
        turns_at: path.name("turns_at"),
        up_to: path.name("up_to"),
        deciding: deciding.sentence("fact").map(|fact| SavedDeciding { bdf: deciding.name("bdf"), fact }),
        blockers: path.names("blockers", MOST),
        evidence: path.sentences("evidence", MOST),
    }
}

fn latency(latency: Object<'_>) -> SavedLatency {
    SavedLatency {
        min: latency.figure("min"),
        p10: latency.figure("p10"),
        p50: latency.figure("p50"),
        p90: latency.figure("p90"),
        p99: latency.figure("p99"),
        p999: latency.figure("p999"),
        max: latency.figure("max"),
        mean: latency.figure("mean"),
        stdev: latency.figure("stdev"),
        histogram: latency.raw("histogram").map(str::to_owned),
    }
}
