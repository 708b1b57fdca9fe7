//! The highest payload rate that the links of a path allow.
//!
//! A ceiling answers "is this figure normal?". It is an upper limit from the PCIe and network standards: speed and width of each
//! link, and the overhead of the packets at the payload sizes in force. Measured rates are below it; docs/ceilings.md describes
//! the model, its assumptions, and published figures next to it.
//!
//! [`PathHops::read`] collects the hops of a predicted path. GPUs lower the speed of their link when idle, so read the topology
//! while data moves. [`PathHops::ceiling`] then names the slowest one. It needs a
//! [`Transfer`], whose [`Engine`] says who moves the data: emulated devices and soft RDMA have no ceiling. `Engine` has no
//! default, so that a caller cannot forget it.
//!
//! ```
//! use peerpath_paths::ceiling::{Engine, Limit, Op, PathHops, Traffic, Transfer};
//! use peerpath_paths::{Inventory, Request, Tree};
//!
//! # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hosts");
//! let tree = Tree::open(format!("{fixtures}/07-turin-mi325x-bnxt/host.tar.gz").as_ref())?;
//! let inventory = Inventory::read(&tree);
//! let (gpu, nic) = ("0000:05:00.0".parse()?, "0000:06:00.0".parse()?);
//! let report = inventory.predictor(Request::default()).explain(gpu, nic).unwrap();
//!
//! let hops = PathHops::read(&inventory.topology, &report);
//! // An RDMA write into the GPU's memory. For a run between two hosts, add the port: `hops.across(Port::read(...)?)`.
//! let transfer = Transfer { op: Op::Write, traffic: Traffic::OneWay, engine: Engine::Hardware, round_trip: None };
//! match hops.ceiling(&transfer) {
//!     Limit::Known(ceiling) => {
//!         let measured_bytes_per_s = 26.0e9;
//!         println!("{:.0} % of the ceiling", 100.0 * measured_bytes_per_s / ceiling.bytes_per_s as f64);
//!         println!("slowest hop: {}", ceiling.limited_by);
//!     }
//!     Limit::Unknown(missing) => println!("unknown: {} is not readable", missing.join(", ")),
//!     Limit::None(reason) => println!("no ceiling: {}", reason.about()),
//! }
//! # assert!(matches!(hops.ceiling(&transfer), Limit::Known(ceiling) if ceiling.bytes_per_s > 25_000_000_000));
//! # let emulated = Transfer { engine: Engine::Emulated, ..transfer };
//! # assert!(matches!(hops.ceiling(&emulated), Limit::None(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assumption;
mod hops;
mod link;
mod port;
mod report;

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

pub use assumption::Assumption;
pub use hops::PathHops;
pub use link::LinkSettings;
pub use port::{Port, Wire};
pub use report::{CeilingReport, HopRates};

use crate::Bdf;

/// How the importer accesses the exported memory. An RDMA write, a send, an NVMe read and a `copy_in` are writes; an RDMA read,
/// an NVMe write and a `copy_out` are reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Posted writes of the importer into the exported memory.
    Write,
    /// Read requests of the importer, and completions of the exporter.
    Read,
}

/// Whether data travels in both directions at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// One direction. This is an upper limit for both.
    OneWay,
    /// Both directions at full rate: ACKs, credits and read requests of one direction take bytes of the other. The ceiling is
    /// that of one direction.
    BothWays,
}

/// Who moves the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// The devices of the path are hardware.
    Hardware,
    /// A function on the path is emulated: its links and rates do not exist.
    Emulated,
    /// The CPU moves the data of a soft RDMA device, not a PCI function.
    SoftRdma,
}

/// One kind of transfer on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Operation, seen from the exported memory.
    pub op: Op,
    /// Whether data also travels in the other direction.
    pub traffic: Traffic,
    /// Who moves the data.
    pub engine: Engine,
    /// Time from a read request to its completion, if it was measured without load. With it the ceiling of a read also considers
    /// the number of tags.
    pub round_trip: Option<Duration>,
}

/// The ceiling of a transfer, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// The ceiling is known.
    Known(Ceiling),
    /// The ceiling depends on facts that are not readable, as noun phrases.
    Unknown(Vec<String>),
    /// The path has no ceiling.
    None(NoCeiling),
}

/// An upper limit of the payload rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    /// Payload bytes per second in one direction.
    pub bytes_per_s: u64,
    /// The slowest hop; the first of several.
    pub limited_by: Hop,
    /// What the ceiling assumes, in the order of [`Assumption::ALL`].
    pub assumptions: Vec<Assumption>,
}

/// Why a path has no ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoCeiling {
    /// A function on the path is emulated.
    Emulated,
    /// The CPU moves the data.
    SoftRdma,
    /// The kernel refuses the mapping.
    Refused,
    /// Exporter and importer are functions of one device, and the data may stay inside it.
    InsideDevice,
    /// No PCIe link is on the path.
    NoLink,
}

impl NoCeiling {
    /// Every reason.
    pub const ALL: &[Self] = &[Self::Emulated, Self::SoftRdma, Self::Refused, Self::InsideDevice, Self::NoLink];

    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emulated => "emulated",
            Self::SoftRdma => "soft-rdma",
            Self::Refused => "refused",
            Self::InsideDevice => "inside-device",
            Self::NoLink => "no-link",
        }
    }

    /// The reason as a clause.
    pub fn about(self) -> &'static str {
        match self {
            Self::Emulated => "a function on the path is emulated, so its links do not exist",
            Self::SoftRdma => "a CPU moves the data of a soft RDMA device",
            Self::Refused => "the kernel refuses the mapping",
            Self::InsideDevice => "exporter and importer are functions of one device, and the data may stay inside it",
            Self::NoLink => "the path contains no PCIe link",
        }
    }
}

/// A part of a path with a rate of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Hop {
    /// A PCIe link.
    Link {
        /// Root port or downstream port of a switch.
        upper: Bdf,
        /// Function or upstream port below it.
        lower: Bdf,
        /// Speed, width and packet sizes.
        #[serde(flatten)]
        settings: LinkSettings,
    },
    /// The port to another host.
    Port(Port),
    /// The read requests that an importer can have outstanding.
    OutstandingReads {
        /// The importer.
        requester: Bdf,
        /// Number of tags that are enabled.
        tags: u16,
        /// Size of a read request (MRRS) in bytes.
        read_request_bytes: u16,
        /// Time from a read request to its completion, in nanoseconds.
        round_trip_ns: u64,
    },
}

impl Hop {
    /// Upper limit of the payload rate of one direction, in bytes per second; `None` if it is unknown.
    pub fn bytes_per_s(&self, op: Op, traffic: Traffic) -> Option<u64> {
        let rate = match self {
            Self::Link { settings, .. } => settings.bytes_per_s(op, traffic)?,
            Self::Port(port) => port.bytes_per_s(),
            Self::OutstandingReads { tags, read_request_bytes, round_trip_ns, .. } => {
                let outstanding_bytes = f64::from(*tags) * f64::from(*read_request_bytes);
                outstanding_bytes * 1e9 / (*round_trip_ns).max(1) as f64
            }
        };
        Some(rate as u64)
    }
}

impl fmt::Display for Hop {
    /// `link 0000:00:01.0 - 0000:03:00.0 (8 GT/s x16, MPS 256, MRRS 512)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link { upper, lower, settings } => {
                write!(f, "link {upper} - {lower} ({}, {})", settings.link, settings.sizes())
            }
            Self::Port(Port { device, port, bits_per_s, path_mtu_bytes, .. }) => {
                let gbit = *bits_per_s as f64 / 1e9;
                write!(f, "port {port} of {device} ({gbit:.0} Gb/s, MTU {path_mtu_bytes})")
            }
            Self::OutstandingReads { requester, tags, read_request_bytes, round_trip_ns } => {
                write!(f, "reads of {requester} ({tags} tags, MRRS {read_request_bytes}, {round_trip_ns} ns each)")
            }
        }
    }
}

impl Serialize for NoCeiling {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A rate in bytes per second for a sentence: `15.8 GB/s`.
pub(crate) fn gigabytes_per_s(rate: f64) -> String {
    let digits = if rate >= 100e9 {
        0
    } else if rate >= 10e9 {
        1
    } else {
        2
    };
    format!("{:.digits$} GB/s", rate / 1e9)
}
