//! Ceilings of both operations, for JSON.

use serde::{Serialize, Serializer};

use super::{Ceiling, Engine, Hop, Limit, Op, PathHops, Traffic, Transfer};

/// The ceilings of a pair, one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CeilingReport {
    /// Ceiling of writes into the exported memory.
    pub write: Limit,
    /// Ceiling of reads from it.
    pub read: Limit,
    /// The hops in the order from exporter to importer, with their rates; empty without a ceiling.
    pub hops: Vec<HopRates>,
    /// The port of the importer. It limits only transfers from and to other hosts, so `write` and `read` do not consider it.
    pub port: Option<HopRates>,
}

/// A hop and its rates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HopRates {
    /// The hop.
    #[serde(flatten)]
    pub hop: Hop,
    /// Upper limit of writes; `None` if it is unknown.
    pub write_bytes_per_s: Option<u64>,
    /// Upper limit of reads; `None` if it is unknown.
    pub read_bytes_per_s: Option<u64>,
}

impl From<Hop> for HopRates {
    fn from(hop: Hop) -> Self {
        let rate = |op| hop.bytes_per_s(op, Traffic::OneWay);
        Self { write_bytes_per_s: rate(Op::Write), read_bytes_per_s: rate(Op::Read), hop }
    }
}

impl CeilingReport {
    /// Computes the ceilings of a path. `port` is the port of the importer, if the importer has one.
    pub fn of(hops: &PathHops, port: Option<super::Port>, engine: Engine) -> Self {
        let limit = |op| hops.ceiling(&Transfer { op, traffic: Traffic::OneWay, engine, round_trip: None });
        let (write, read) = (limit(Op::Write), limit(Op::Read));
        let exists = !matches!(write, Limit::None(_));
        let shown = if exists { hops.hops().cloned().map(HopRates::from).collect() } else { Vec::new() };
        Self { write, read, hops: shown, port: port.filter(|_| exists).map(|port| Hop::Port(port).into()) }
    }
}

impl Serialize for Limit {
    /// One object with the same keys in every case.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Default, Serialize)]
        struct Record<'a> {
            bytes_per_s: Option<u64>,
            limited_by: Option<&'a Hop>,
            assumptions: &'a [super::Assumption],
            unknown: &'a [String],
            no_ceiling: Option<super::NoCeiling>,
        }
        match self {
            Self::Known(Ceiling { bytes_per_s, limited_by, assumptions }) => Record {
                bytes_per_s: Some(*bytes_per_s),
                limited_by: Some(limited_by),
                assumptions,
                ..Record::default()
            },
            Self::Unknown(missing) => Record { unknown: missing, ..Record::default() },
            Self::None(reason) => Record { no_ceiling: Some(*reason), ..Record::default() },
        }
        .serialize(serializer)
    }
}
