//! Options for the queue pairs of an RDMA device.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Op;

/// Transport service of a queue pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Reliable connection (RC): all operations, in order. Lost packets are retransmitted.
    #[default]
    Rc,
    /// Unreliable connection (UC): writes and sends, in order. Lost packets are not retransmitted.
    Uc,
    /// Unreliable datagram (UD): sends of at most one packet.
    Ud,
}

impl Transport {
    /// All transports.
    pub const ALL: [Self; 3] = [Self::Rc, Self::Uc, Self::Ud];

    /// Name in text and in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rc => "rc",
            Self::Uc => "uc",
            Self::Ud => "ud",
        }
    }

    /// Whether the transport supports a transfer: RC supports all, UC all except reads and atomics, and UD only sends.
    pub fn has(self, op: Op) -> bool {
        match self {
            Self::Rc => true,
            Self::Uc => matches!(op, Op::Write | Op::WriteImm | Op::Send),
            Self::Ud => op == Op::Send,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Error: the text does not name a transport.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a transport: use rc, uc or ud")]
pub struct ParseTransportError(String);

impl FromStr for Transport {
    type Err = ParseTransportError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|transport| transport.as_str() == text);
        named.ok_or_else(|| ParseTransportError(text.chars().take(64).collect()))
    }
}

/// Options for creating and connecting queue pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueuePairOptions {
    /// Transport service of a queue pair.
    pub transport: Transport,
    /// MTU in bytes: 256, 512, 1024, 2048 or 4096. `None` uses the MTU of the port.
    pub mtu_bytes: Option<u32>,
    /// Index of the source GID. `None` chooses the best GID of the port, RoCE v2 over IPv4 first.
    pub gid_index: Option<u8>,
    /// Service level, 0 to 15.
    pub service_level: u8,
    /// Traffic class in the global routing header (GRH), 0 to 255.
    pub traffic_class: u8,
    /// Maximum size in bytes of a message that is sent as inline data of its work request.
    pub inline_bytes: u32,
    /// Whether the device may reorder accesses to the buffer (`IBV_ACCESS_RELAXED_ORDERING`).
    pub relaxed_ordering: bool,
    /// Whether to sleep until a completion event arrives, instead of polling.
    pub events: bool,
    /// Whether initiator memory uses huge pages.
    pub huge_pages: bool,
}

impl QueuePairOptions {
    /// MTUs in bytes, in the order of `enum ibv_mtu`.
    pub const MTUS_BYTES: [u32; 5] = [256, 512, 1024, 2048, 4096];
}
