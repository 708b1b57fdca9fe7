//! Messages about transfers that the server posts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::default::{is_one, one};
use crate::measure::{Flow, Limit};

/// Request to send every received message back, with one thread per lane. A write has arrived when the last byte of the first
/// slot changes. Other operations have arrived when a receive completes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Offset in the client's memory to which the server sends the message back, per lane.
    pub back: Vec<u64>,
}

/// The server sends every received message back: see [`Echo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echoing {
    /// Current value of the last byte of the first slot, per lane.
    pub last_bytes: Vec<u8>,
}

/// Request to the server to post the operation of the cell, with one thread per lane. The transfers are between the lane's
/// second window and the client's memory. They end after `operations` or `nanoseconds`, whichever comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// Offset of the client's window in its memory, per lane.
    pub at: Vec<u64>,
    /// Maximum number of operations per lane. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<u64>,
    /// Maximum duration. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nanoseconds: Option<u64>,
    /// Number of work requests posted at once. Absent: as many as the send queue has room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_list: Option<u32>,
    /// Signaling interval: one of this many work requests on a queue pair is signaled.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub completion_moderation: u32,
}

impl Post {
    /// Creates the request with this limit. A limit that is unbounded is absent from the message.
    pub fn new(at: Vec<u64>, limit: Limit, flow: Flow) -> Self {
        let Flow { post_list, moderation: completion_moderation, .. } = flow;
        let operations = (limit.iterations < u64::MAX).then_some(limit.iterations);
        let nanoseconds = u64::try_from(limit.duration.as_nanos()).ok();
        Self { at, operations, nanoseconds, post_list, completion_moderation }
    }

    /// The limit at which the operations end.
    pub fn limit(&self) -> Limit {
        Limit {
            iterations: self.operations.unwrap_or(u64::MAX),
            duration: self.nanoseconds.map_or(Duration::MAX, Duration::from_nanos),
        }
    }
}

/// Result of [`Post`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posted {
    /// Completed operations per lane.
    pub operations: Vec<u64>,
    /// Time from the start of the first operation to the completion of the last one, over all lanes.
    pub nanoseconds: u64,
}
