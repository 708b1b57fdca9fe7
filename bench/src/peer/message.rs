//! What the two sides say to each other, once they know that they may. See `docs/wire.md`.

use peerpath_exporter::Origin;
use peerpath_importers::Endpoint;
use peerpath_paths::{Cause, Explanation};
use serde::{Deserialize, Serialize};

use crate::result::{CellPath, CellTarget, Environment, Outcome, Tool};

/// What a peer can be asked, or can answer, and how it shows in between that it lives.
pub trait Talk: Serialize + serde::de::DeserializeOwned + Send + 'static {
    /// The sign of life.
    const ALIVE: Self;
    /// Whether it is one.
    fn is_alive(&self) -> bool;
}

/// What the active side says. Everything but `Alive` has one answer, and the next one waits for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// A sign of life.
    Alive,
    /// Export and register a source, and make queue pairs for it: [`Answer::Opened`] or [`Answer::Failed`].
    Open(Open),
    /// Connect the queue pairs: [`Answer::Connected`].
    Connect(Endpoint),
    /// Fill the window with a pattern: [`Answer::Filled`].
    Fill(Fill),
    /// Compare the window: [`Answer::Verified`].
    Verify(Verify),
    /// Give everything back that `Open` made: [`Answer::Closed`].
    Close,
}

/// What the passive side says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// A sign of life.
    Alive,
    /// Who it is and what it lends; comes once, unasked.
    Offer(Box<Offer>),
    /// The buffer is registered.
    Opened(Box<Opened>),
    /// The queue pairs are connected; where the op is `send`, receives wait.
    Connected,
    /// The window is filled.
    Filled,
    /// The window holds what was expected.
    Verified,
    /// Everything is given back.
    Closed(Box<Closed>),
    /// What was asked could not be done. After `Open` nothing is open; after anything else the cell still has to be closed.
    Failed(Box<Failed>),
    /// The conversation is over.
    Refused {
        /// Why.
        why: String,
    },
}

impl Talk for Request {
    const ALIVE: Self = Self::Alive;
    fn is_alive(&self) -> bool {
        matches!(self, Self::Alive)
    }
}

impl Talk for Answer {
    const ALIVE: Self = Self::Alive;
    fn is_alive(&self) -> bool {
        matches!(self, Self::Alive)
    }
}

/// The passive host and what it lends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The program.
    pub tool: Tool,
    /// The host.
    pub environment: Environment,
    /// The RDMA device.
    pub target: CellTarget,
    /// The sources, as the passive side's `--from` names them.
    pub sources: Vec<String>,
}

/// A cell that is to be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// One of [`Offer::sources`].
    pub source: String,
    /// The operation: `write`, `write_imm`, `read` or `send`.
    pub op: String,
    /// Bytes an operation.
    pub size_bytes: u64,
    /// Operations under way at once on each queue pair, at most.
    pub depth: u32,
    /// How many queue pairs.
    #[serde(default = "one")]
    pub queue_pairs: u32,
    /// Into how many ranges the source is to be cut; absent takes it as it is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<u32>,
    /// Each range in a dma-buf and a memory region of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mr_per_range: bool,
}

fn one() -> u32 {
    1
}

/// A cell that was opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// What was exported.
    pub source: Origin,
    /// How it was registered.
    pub mechanism: String,
    /// The part of the buffer that operations use.
    pub window: WindowAt,
    /// The way to it.
    pub endpoint: Endpoint,
}

/// The part of a buffer that a cell uses. It begins where the buffer begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowAt {
    /// Its length.
    pub length_bytes: u64,
    /// The length of each slot.
    pub slot_bytes: u64,
    /// Where each slot begins, in their order: operation `n` uses slot `n` modulo their number.
    pub slots: Vec<u64>,
}

/// What to fill the whole window with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// Of the pattern.
    pub seed: u64,
}

/// What the window should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// How many of the slots, from the first on, hold the pattern of `slots_seed`.
    pub used: u64,
    /// The seed of what those hold.
    pub slots_seed: u64,
    /// The seed of what stands everywhere else.
    pub rest_seed: u64,
}

/// A cell that was closed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// The way between the passive buffer and its RDMA device.
    pub path: CellPath,
    /// What the passive host's IOMMU reported meanwhile.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// What could not be done, as a result says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// `waived` where the passive host cannot do it, `failed` where it went wrong.
    pub outcome: Outcome,
    /// What happened, one sentence.
    pub reason: String,
    /// A word of the result's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Why, one sentence.
    pub why: String,
    /// What to do, one sentence.
    pub remedy: String,
    /// After `open`: the way that was seen or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<CellPath>,
}

impl Failed {
    /// Of what is known here.
    pub fn new(outcome: Outcome, reason: impl Into<String>, explanation: Explanation) -> Self {
        let Explanation { cause, why, remedy } = explanation;
        let cause = cause.map(|cause| cause.as_str().to_owned());
        Self { outcome, reason: reason.into(), cause, why, remedy, path: None }
    }

    /// Why and what to do; a cause that this version has no word for is left out.
    pub fn explanation(&self) -> Explanation {
        let known = |word: &String| Cause::ALL.iter().copied().find(|cause| cause.as_str() == word);
        Explanation { cause: self.cause.as_ref().and_then(known), why: self.why.clone(), remedy: self.remedy.clone() }
    }
}
