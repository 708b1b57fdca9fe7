//! The messages between client and server after the handshake. See `docs/wire.md`.

mod connection;
mod default;
mod posting;
#[cfg(test)]
mod tests;
mod window;

use peerpath_exporter::Origin;
use peerpath_importers::Endpoint;
use peerpath_paths::{Cause, Explanation};
use serde::{Deserialize, Serialize};

pub use connection::QueuePairSettings;
use default::{is_default, is_one, one};
pub use posting::{Echo, Echoing, Post, Posted};
pub use window::{AtomicState, Fill, Verify, WindowLayout};

use crate::result::{CellPath, CellTarget, Environment, Outcome, Tool};

/// A request or a response. Both have a sign of life, which is sent between the others.
pub trait Message: Serialize + serde::de::DeserializeOwned + Send + 'static {
    /// The sign of life.
    const ALIVE: Self;
    /// Whether the message is the sign of life.
    fn is_alive(&self) -> bool;
}

/// What the client sends. Each request except `Alive` has one response, and the client waits for it before the next request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// A sign of life.
    Alive,
    /// Export and register a source, and create queue pairs for it: [`Response::Opened`] or [`Response::Failed`].
    Open(Open),
    /// Connect the queue pairs: [`Response::Connected`].
    Connect(Endpoint),
    /// Fill a window with a pattern: [`Response::Filled`].
    Fill(Fill),
    /// Compare a window: [`Response::Verified`].
    Verify(Verify),
    /// Send back what arrives: [`Response::Echoing`].
    Echo(Echo),
    /// Post as well: [`Response::Posting`].
    Post(Post),
    /// After `Echo`, stop sending back: [`Response::Resting`]. After `Post`, wait until the last transfer completes:
    /// [`Response::Posted`].
    Rest,
    /// Release everything that `Open` created: [`Response::Closed`].
    Close,
}

/// What the server sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// A sign of life.
    Alive,
    /// The server and what it serves. It is sent once, after the handshake.
    Offer(Box<Offer>),
    /// The buffer is registered.
    Opened(Box<Opened>),
    /// The queue pairs are connected. For operation `send`, receives are posted.
    Connected,
    /// The window is filled.
    Filled,
    /// The window has the expected content.
    Verified,
    /// From now on, the server sends back what arrives.
    Echoing(Echoing),
    /// The server has stopped sending back.
    Resting,
    /// The server has started to post.
    Posting,
    /// The server's transfers are complete.
    Posted(Posted),
    /// The cell is closed, and everything is released.
    Closed(Box<Closed>),
    /// The request failed. After `Open`, no cell is open. After any other request, the client still has to close the cell.
    Failed(Box<Failed>),
    /// The server closes the connection.
    Refused {
        /// Why.
        why: String,
    },
}

impl Message for Request {
    const ALIVE: Self = Self::Alive;
    fn is_alive(&self) -> bool {
        matches!(self, Self::Alive)
    }
}

impl Message for Response {
    const ALIVE: Self = Self::Alive;
    fn is_alive(&self) -> bool {
        matches!(self, Self::Alive)
    }
}

/// The server and the memory that it serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The program.
    pub tool: Tool,
    /// The host.
    pub environment: Environment,
    /// The RDMA device.
    pub target: CellTarget,
    /// The names of the sources.
    pub sources: Vec<String>,
}

/// Request to open a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// One of [`Offer::sources`].
    pub source: String,
    /// The operation, such as `write`.
    pub op: String,
    /// Bytes per operation.
    pub size_bytes: u64,
    /// Most operations in flight on each queue pair.
    pub depth: u32,
    /// Queue pairs per lane.
    #[serde(default = "one")]
    pub queue_pairs: u32,
    /// Threads of the client. Each has a lane: queue pairs and a window of its own.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub lanes: u32,
    /// The server posts as well, so each lane has a second window.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub both_ways: bool,
    /// Number of ranges to split the source into. Absent: the source as it is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<u32>,
    /// Each range in a dma-buf and a memory region of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mr_per_range: bool,
    /// Options of the queue pairs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connection: QueuePairSettings,
}

/// A cell that was opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// Origin of the exported buffer.
    pub source: Origin,
    /// How it was registered.
    pub mechanism: String,
    /// The windows that operations use.
    pub window: WindowLayout,
    /// Where to connect to.
    pub endpoint: Endpoint,
}

/// A cell that was closed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// The path between the server's buffer and its RDMA device.
    pub path: CellPath,
    /// Faults that the server's IOMMU reported during the cell.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// A request that failed, described as in a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// `waived` if the server does not support the request, `failed` otherwise.
    pub outcome: Outcome,
    /// What failed, one sentence.
    pub reason: String,
    /// The cause word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Why, one sentence.
    pub why: String,
    /// What to do, one sentence.
    pub remedy: String,
    /// After `open`: the path that was observed or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<CellPath>,
}

impl Failed {
    /// A failure on this host.
    pub fn new(outcome: Outcome, reason: impl Into<String>, explanation: Explanation) -> Self {
        let Explanation { cause, why, remedy, .. } = explanation;
        let cause = cause.map(|cause| cause.as_str().to_owned());
        Self { outcome, reason: reason.into(), cause, why, remedy, path: None }
    }

    /// Why, and what to do. A cause word that this version does not know is omitted.
    pub fn explanation(&self) -> Explanation {
        let known = |word: &String| Cause::ALL.iter().copied().find(|cause| cause.as_str() == word);
        Explanation {
            cause: self.cause.as_ref().and_then(known),
            severity: None,
            why: self.why.clone(),
            remedy: self.remedy.clone(),
        }
    }
}
