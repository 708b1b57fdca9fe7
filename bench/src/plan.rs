//! What a run is asked to do, and the cells that follow from it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use peerpath_exporter::Source;
use peerpath_importers::{Importer, Op, OpSpec, Role};
use peerpath_paths::{Class, Explained, Explanation, PathName};
use serde::{Serialize, Serializer};

use crate::measure::Limit;

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

impl FromStr for Target {
    type Err = peerpath_importers::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (importer, address) = peerpath_importers::parse_target(text)?;
        Ok(Self { importer, address: address.to_owned() })
    }
}

/// How a transfer is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One operation at a time, from its posting to its completion: latency.
    Completion,
    /// As many operations under way as the depth says: throughput.
    Bandwidth,
}

impl Mode {
    /// The name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Bandwidth => "bandwidth",
        }
    }
}

/// What a run is asked to do, every default filled in.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Memory to export.
    #[serde(serialize_with = "source_names")]
    pub sources: Vec<Source>,
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
    /// Operations under way in bandwidth mode.
    pub depths: Vec<u32>,
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
    fn class(&self) -> Class {
        Class::BadInput
    }
}

/// The largest single operation: RDMA messages end at 2 GiB, and no BAR copy needs more.
const LARGEST_OPERATION_BYTES: u64 = 1 << 30;
/// Deeper queues than any device offers would only cost memory.
const DEEPEST: u32 = 65_536;

/// A source, a target and the way between them, opened together for all of their cells.
#[derive(Debug, Clone, Copy)]
pub struct Leg<'plan> {
    /// What is exported.
    pub source: &'plan Source,
    /// What imports it.
    pub target: &'plan Target,
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
    /// Operations under way.
    pub depth: u32,
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
        if self.iterations == Some(0) {
            return refuse(
                "no operation would be measured".into(),
                "--iterations is 0",
                "ask for at least one iteration",
            );
        }
        Ok(())
    }

    /// When each cell ends.
    pub fn limit(&self) -> Limit {
        Limit { iterations: self.iterations.unwrap_or(u64::MAX), duration: self.duration.unwrap_or(Duration::MAX) }
    }

    /// The legs, in the order in which they run.
    pub fn legs(&self) -> impl Iterator<Item = Leg<'_>> {
        self.sources.iter().flat_map(move |source| {
            self.targets
                .iter()
                .flat_map(move |target| self.paths.iter().map(move |&asked| Leg { source, target, asked }))
        })
    }

    /// The cells of a leg, in the order in which they run.
    pub fn cells(&self, leg: Leg<'_>) -> Vec<CellSpec> {
        let Leg { target, asked, .. } = leg;
        let mut cells = Vec::new();
        for &op in &self.ops {
            let spec = target.importer.ops().iter().copied().find(|spec| spec.op == op);
            let transfers = spec.is_none_or(|spec| matches!(spec.role, Role::Transfer(_)));
            for &size_bytes in &self.sizes_bytes {
                if !transfers {
                    cells.push(CellSpec { asked, op, spec, mode: Mode::Completion, size_bytes, depth: 1 });
                    continue;
                }
                for &mode in &self.modes {
                    let depths: &[u32] = if mode == Mode::Completion { &[1] } else { &self.depths };
                    cells.extend(depths.iter().map(|&depth| CellSpec { asked, op, spec, mode, size_bytes, depth }));
                }
            }
        }
        cells
    }

    /// How many cells there are in all.
    pub fn cell_count(&self) -> usize {
        self.legs().map(|leg| self.cells(leg).len()).sum()
    }
}
