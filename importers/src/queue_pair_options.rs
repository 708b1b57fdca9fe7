//! How the queue pairs of an RDMA device are made and connected.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a queue pair promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Reliable connection: every op, in order, repeated until it arrived.
    #[default]
    Rc,
    /// Unreliable connection: writes and sends, in order or not at all.
    Uc,
    /// Unreliable datagram: sends of one packet.
    Ud,
}

impl Transport {
    /// Every transport.
    pub const ALL: [Self; 3] = [Self::Rc, Self::Uc, Self::Ud];

    /// The word on the command line and in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rc => "rc",
            Self::Uc => "uc",
            Self::Ud => "ud",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no transport.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no transport; write rc, uc or ud")]
pub struct ParseTransportError(String);

impl FromStr for Transport {
    type Err = ParseTransportError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|transport| transport.as_str() == text);
        named.ok_or_else(|| ParseTransportError(text.chars().take(64).collect()))
    }
}

/// How queue pairs are made and connected. The default is what suits most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueuePairOptions {
    /// What a queue pair promises.
    pub transport: Transport,
    /// Bytes a packet carries: 256, 512, 1024, 2048 or 4096; none takes what the port has.
    pub mtu_bytes: Option<u32>,
    /// Which of the port's GIDs is the source address; none finds the best one (RoCE v2 over IPv4 before others).
    pub gid_index: Option<u8>,
    /// Service level, 0 to 15.
    pub service_level: u8,
    /// Traffic class of the packets' header.
    pub traffic_class: u8,
    /// Messages up to this length travel in the work request itself.
    pub inline_bytes: u32,
    /// The device may reorder its accesses to the buffer (`IBV_ACCESS_RELAXED_ORDERING`).
    pub relaxed_ordering: bool,
    /// Sleep until a completion comes, rather than polling for it.
    pub events: bool,
    /// The far side lies in huge pages.
    pub huge_pages: bool,
}

impl QueuePairOptions {
    /// Most bytes of a packet, by the encoding of the InfiniBand specification (`enum ibv_mtu`).
    pub const MTUS_BYTES: [u32; 5] = [256, 512, 1024, 2048, 4096];
}
