//! What the two sides say to each other, once they know that they may. See `docs/wire.md`.

use std::time::Duration;

use peerpath_exporter::Origin;
use peerpath_importers::{Endpoint, QueuePairOptions, Transport};
use peerpath_paths::{Cause, Explanation};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::measure::{Flow, Limit};
use crate::result::{CellPath, CellTarget, Environment, Outcome, Tool};

/// What a peer can be asked, or can answer, and how it shows in between that it lives.
pub trait Talk: Serialize + serde::de::DeserializeOwned + Send + 'static {
    /// The sign of life.
    const ALIVE: Self;
    /// Whether it is one.
    fn is_alive(&self) -> bool;
}

/// What the client says. Everything but `Alive` has one answer, and the next one waits for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// A sign of life.
    Alive,
    /// Export and register a source, and make queue pairs for it: [`Answer::Opened`] or [`Answer::Failed`].
    Open(Open),
    /// Connect the queue pairs: [`Answer::Connected`].
    Connect(Endpoint),
    /// Fill a window with a pattern: [`Answer::Filled`].
    Fill(Fill),
    /// Compare a window: [`Answer::Verified`].
    Verify(Verify),
    /// Send back what comes: [`Answer::Echoing`].
    Echo(Echo),
    /// Post as well: [`Answer::Posting`].
    Post(Post),
    /// End that things are sent back: [`Answer::Resting`]; or wait until all is posted: [`Answer::Posted`].
    Rest,
    /// Give everything back that `Open` made: [`Answer::Closed`].
    Close,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// A sign of life.
    Alive,
    /// Who it is and what it serves; comes once, unasked.
    Offer(Box<Offer>),
    /// The buffer is registered.
    Opened(Box<Opened>),
    /// The queue pairs are connected; where the op is `send`, receives wait.
    Connected,
    /// The window is filled.
    Filled,
    /// The window holds what was expected.
    Verified,
    /// What comes is sent back from now on.
    Echoing(Echoing),
    /// Nothing is any more.
    Resting,
    /// The server posts from now on.
    Posting,
    /// All that it had to post has ended.
    Posted(Posted),
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

/// The server and the memory that it serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The program.
    pub tool: Tool,
    /// The host.
    pub environment: Environment,
    /// The RDMA device.
    pub target: CellTarget,
    /// The sources, as the server's `--from` names them.
    pub sources: Vec<String>,
}

/// A cell that is to be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// One of [`Offer::sources`].
    pub source: String,
    /// The operation, such as `write`.
    pub op: String,
    /// Bytes an operation.
    pub size_bytes: u64,
    /// Operations under way at once on each queue pair, at most.
    pub depth: u32,
    /// How many queue pairs, in each lane.
    #[serde(default = "one")]
    pub queue_pairs: u32,
    /// How many threads of the client post, each in a lane: on queue pairs and in a window of its own.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub lanes: u32,
    /// Whether the server is to post as well, for which each lane has a second window.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub both_ways: bool,
    /// Into how many ranges the source is to be cut; absent takes it as it is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<u32>,
    /// Each range in a dma-buf and a memory region of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mr_per_range: bool,
    /// How the queue pairs are made.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connection: Pairs,
}

/// What both ends of a connection have in common. The rest (the MTU, which GID is the source) is each side's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pairs {
    /// What a queue pair promises.
    #[serde(skip_serializing_if = "is_default")]
    pub transport: Transport,
    /// Service level, 0 to 15.
    #[serde(skip_serializing_if = "is_default")]
    pub service_level: u8,
    /// Traffic class of the packets' header.
    #[serde(skip_serializing_if = "is_default")]
    pub traffic_class: u8,
    /// Messages up to this length travel in the work request itself.
    #[serde(skip_serializing_if = "is_default")]
    pub inline_bytes: u32,
    /// The device may reorder its accesses to the memory.
    #[serde(skip_serializing_if = "is_default")]
    pub relaxed_ordering: bool,
    /// Sleep until a completion comes, rather than polling for it.
    #[serde(skip_serializing_if = "is_default")]
    pub events: bool,
}

impl Pairs {
    /// What of this side's connection the other one has to know.
    pub fn of(connection: &QueuePairOptions) -> Self {
        let QueuePairOptions {
            transport, service_level, traffic_class, inline_bytes, relaxed_ordering, events, ..
        } = *connection;
        Self { transport, service_level, traffic_class, inline_bytes, relaxed_ordering, events }
    }

    /// This side's connection, with what the peer asks for; none where there is no such thing.
    pub fn within(&self, own: &QueuePairOptions) -> Option<QueuePairOptions> {
        let Self { transport, service_level, traffic_class, inline_bytes, relaxed_ordering, events } = *self;
        let exists = service_level <= 15 && inline_bytes <= MOST_INLINE_BYTES;
        exists.then(|| QueuePairOptions {
            transport,
            service_level,
            traffic_class,
            inline_bytes,
            relaxed_ordering,
            events,
            ..own.clone()
        })
    }
}

/// More has no device.
const MOST_INLINE_BYTES: u32 = 1 << 16;

/// What is not said is what is usual, and whoever does not know of it need not read it.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn one() -> u32 {
    1
}

fn is_one(count: &u32) -> bool {
    *count == 1
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

/// The part of a buffer that a lane uses; the same for each lane, and for each direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowAt {
    /// Its length.
    pub length_bytes: u64,
    /// The length of each slot.
    pub slot_bytes: u64,
    /// Where each slot begins in it, in their order: operation `n` uses slot `n` modulo their number.
    pub slots: Vec<u64>,
    /// Where each window begins in the buffer: that of each lane, or both of them.
    #[serde(default = "at_the_beginning", skip_serializing_if = "is_at_the_beginning")]
    pub starts: Vec<u64>,
}

impl WindowAt {
    /// That of these layouts, which differ in where they begin alone; none where there is no layout.
    pub fn of(layouts: &[Layout]) -> Option<Self> {
        let first = layouts.first()?;
        Some(Self {
            length_bytes: first.length_bytes(),
            slot_bytes: first.size_bytes(),
            slots: first.slot_offsets().to_vec(),
            starts: layouts.iter().map(Layout::near_start).collect(),
        })
    }

    /// The layouts that it stands for; none where it makes no sense.
    pub fn layouts(&self) -> Option<Vec<Layout>> {
        Layout::at(&self.starts, self.slots.clone(), self.slot_bytes, self.length_bytes)
    }
}

fn at_the_beginning() -> Vec<u64> {
    vec![0]
}

fn is_at_the_beginning(starts: &[u64]) -> bool {
    starts == [0]
}

/// What to fill a whole window with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// The how-manieth one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub window: u32,
    /// Of the pattern.
    pub seed: u64,
    /// Words in the slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<WordsAt>,
}

/// The words of atomic operations: that of slot `s` is `first` plus `s` times 2^32 plus the number of operations that the slot
/// has seen of so many in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordsAt {
    /// That of the first slot, before any.
    pub first: u64,
    /// How many operations there were, on slot after slot.
    pub operations: u64,
}

/// What a window should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// The how-manieth one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub window: u32,
    /// How many of the slots, from the first on, hold the pattern of `slots_seed`.
    pub used: u64,
    /// The seed of what those hold.
    pub slots_seed: u64,
    /// The seed of what stands everywhere else.
    pub rest_seed: u64,
    /// Words in all slots, whatever `used` and `slots_seed` say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<WordsAt>,
}

/// What comes is to be sent back, in each lane by a thread of its own: a write when it changes the last byte of the first slot,
/// everything else when a receive tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Where in the client's memory it goes, in each lane.
    pub back: Vec<u64>,
}

/// See [`Echo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echoing {
    /// The last byte of the first slot of each lane, as it is now.
    pub last_bytes: Vec<u8>,
}

/// The server is to do the op of the cell itself, in each lane by a thread of its own, between the lane's second window and
/// the client's memory: until there were so many operations, or for so long, whichever comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// Where in the client's memory the window begins that belongs to it, in each lane.
    pub at: Vec<u64>,
    /// Most operations of each lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<u64>,
    /// Most time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nanoseconds: Option<u64>,
    /// Operations handed to the device at once; absent as many as there is room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_list: Option<u32>,
    /// Of so many operations on a queue pair, one has a completion.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub completion_moderation: u32,
}

impl Post {
    /// Without what has no end.
    pub fn new(at: Vec<u64>, limit: Limit, flow: Flow) -> Self {
        let Flow { post_list, moderation: completion_moderation, .. } = flow;
        let operations = (limit.iterations < u64::MAX).then_some(limit.iterations);
        let nanoseconds = u64::try_from(limit.duration.as_nanos()).ok();
        Self { at, operations, nanoseconds, post_list, completion_moderation }
    }

    /// When it ends.
    pub fn limit(&self) -> Limit {
        Limit {
            iterations: self.operations.unwrap_or(u64::MAX),
            duration: self.nanoseconds.map_or(Duration::MAX, Duration::from_nanos),
        }
    }
}

/// See [`Post`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posted {
    /// How many operations ended in each lane.
    pub operations: Vec<u64>,
    /// How long it took, from the beginning of the first to the end of the last one in any lane.
    pub nanoseconds: u64,
}

/// A cell that was closed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// The way between the server's buffer and its RDMA device.
    pub path: CellPath,
    /// What the server's IOMMU reported meanwhile.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// What could not be done, as a result says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// `waived` where the server cannot do it, `failed` where it went wrong.
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
        let Explanation { cause, why, remedy, .. } = explanation;
        let cause = cause.map(|cause| cause.as_str().to_owned());
        Self { outcome, reason: reason.into(), cause, why, remedy, path: None }
    }

    /// Why and what to do; a cause that this version has no word for is left out.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A peer that knows of no connections, or of no lanes, has to be able to serve a run that wants the usual one.
    #[test]
    fn what_is_usual_is_not_said() {
        let open = |connection| Open {
            source: "host:16M".into(),
            op: "write".into(),
            size_bytes: 4096,
            depth: 16,
            queue_pairs: 1,
            lanes: 1,
            both_ways: false,
            ranges: None,
            mr_per_range: false,
            connection,
        };
        let said = |pairs| serde_json::to_value(open(pairs)).unwrap();
        let usual = said(Pairs::default());
        assert!(["connection", "lanes", "both_ways"].iter().all(|word| usual.get(word).is_none()), "{usual}");
        let uc = Pairs { transport: Transport::Uc, ..Pairs::default() };
        assert_eq!(said(uc)["connection"], json!({ "transport": "uc" }));
        let words: [Value; 2] = [
            serde_json::to_value(Fill { window: 0, seed: 1, words: None }).unwrap(),
            serde_json::to_value(WindowAt::of(&Layout::at(&[0], vec![0], 8, 8).unwrap()).unwrap()).unwrap(),
        ];
        assert!(words.iter().all(|said| said.get("window").is_none() && said.get("starts").is_none()), "{words:?}");
    }

    #[test]
    fn windows_of_lanes_are_told_and_understood() {
        let layouts = Layout::side_by_side(64, 3, 1 << 20, 4, 1).unwrap();
        let window = WindowAt::of(&layouts).unwrap();
        let read: WindowAt = serde_json::from_value(serde_json::to_value(&window).unwrap()).unwrap();
        let understood = read.layouts().unwrap();
        let starts = |layouts: &[Layout]| layouts.iter().map(Layout::places).collect::<Vec<_>>();
        assert_eq!(starts(&understood), starts(&layouts));
        // On the far side all of them share one buffer.
        let ends = understood.iter().map(|layout| layout.far_start() + layout.length_bytes());
        assert!(ends.zip(&understood[1..]).all(|(end, next)| end <= next.far_start()));
    }
}
