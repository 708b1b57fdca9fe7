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

/// Maximum number of characters of a rejection's reason in an error.
pub(super) const MOST_REASON_CHARACTERS: usize = 200;

/// A request or a response. Both include a heartbeat, which can be sent at any time.
pub trait Message: Serialize + serde::de::DeserializeOwned + Send + 'static {
    /// The heartbeat message.
    const ALIVE: Self;
    /// Whether the message is the heartbeat.
    fn is_alive(&self) -> bool;
}

/// Message from the client. Each request except `Alive` has one response, and the client waits for it before the next request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Heartbeat.
    Alive,
    /// Export and register a source, and create queue pairs for it: [`Response::Opened`] or [`Response::Failed`].
    Open(Open),
    /// Connect the queue pairs: [`Response::Connected`].
    Connect(Endpoint),
    /// Fill a window with a pattern: [`Response::Filled`]. A window is the part of the source that one lane uses in one
    /// direction.
    Fill(Fill),
    /// Compare a window with the expected content: [`Response::Verified`].
    Verify(Verify),
    /// Send every received message back: [`Response::Echoing`].
    Echo(Echo),
    /// Post transfers from the server, too: [`Response::Posting`].
    Post(Post),
    /// After `Echo`, stop sending messages back: [`Response::Resting`]. After `Post`, wait until the last transfer completes:
    /// [`Response::Posted`].
    Rest,
    /// Release everything that `Open` created: [`Response::Closed`].
    Close,
}

/// Message from the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// Heartbeat.
    Alive,
    /// Description of the server and of the sources that it serves. Sent once, after the handshake.
    Offer(Box<Offer>),
    /// The buffer is exported and registered.
    Opened(Box<Opened>),
    /// The queue pairs are connected. For the operation `send`, receive work requests are posted.
    Connected,
    /// The window is filled.
    Filled,
    /// The window has the expected content.
    Verified,
    /// From now on, the server sends every received message back.
    Echoing(Echoing),
    /// The server has stopped sending messages back.
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
        /// Reason, one sentence.
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

/// Description of the server and of the sources that it serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Name and version of the server program.
    pub tool: Tool,
    /// Facts about the server's host.
    pub environment: Environment,
    /// The server's RDMA device.
    pub target: CellTarget,
    /// Names of the sources.
    pub sources: Vec<String>,
}

/// Request to open a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// One of [`Offer::sources`].
    pub source: String,
    /// The operation, e.g. `write`.
    pub op: String,
    /// Bytes per operation.
    pub size_bytes: u64,
    /// Maximum number of operations in flight on each queue pair.
    pub depth: u32,
    /// Queue pairs per lane.
    #[serde(default = "one")]
    pub queue_pairs: u32,
    /// Number of client threads. Each has a lane: its own queue pairs and its own part of the memory.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub lanes: u32,
    /// Whether the server posts transfers as well. Each lane then has a second part of the memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub both_ways: bool,
    /// Number of ranges to split the source into. Absent: do not split it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<u32>,
    /// Whether each range gets its own dma-buf and memory region.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mr_per_range: bool,
    /// Queue pair options that both sides share.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connection: QueuePairSettings,
}

/// A cell that was opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// Origin of the exported buffer.
    pub source: Origin,
    /// Call that registered the buffer, e.g. `uverbs-ioctl`.
    pub mechanism: String,
    /// The windows that operations use.
    pub window: WindowLayout,
    /// Address and queue pair numbers that the client connects to.
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
    /// What failed, in one sentence.
    pub reason: String,
    /// Cause code. Absent if the cause is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The cause, in one sentence.
    pub why: String,
    /// The remedy, in one sentence.
    pub remedy: String,
    /// After `open`: the path that the server observed, or that the kernel refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<CellPath>,
}

impl Failed {
    /// Creates the message for a failure on this host.
    pub fn new(outcome: Outcome, reason: impl Into<String>, explanation: Explanation) -> Self {
        let Explanation { cause, why, remedy, .. } = explanation;
        let cause = cause.map(|cause| cause.as_str().to_owned());
        Self { outcome, reason: reason.into(), cause, why, remedy, path: None }
    }

    /// The cause and the remedy. Omits a cause code that this version does not know.
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
