//! Transfers of the server in messages.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::default::{is_one, one};
use crate::measure::{Flow, Limit};

/// Request to send back what arrives, in each lane by a thread of its own. A write has arrived when the last byte of the first slot
/// changes, other operations when a receive completes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Offset in the client's memory to send to, per lane.
    pub back: Vec<u64>,
}

/// The server sends back what arrives: see [`Echo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echoing {
    /// Current value of the last byte of the first slot, per lane.
    pub last_bytes: Vec<u8>,
}

/// Request to the server to post the operation of the cell itself, in each lane by a thread of its own, between the lane's second
/// window and the client's memory. It ends after `operations` or `nanoseconds`, whichever comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// Offset of the client's window in its memory, per lane.
    pub at: Vec<u64>,
    /// Most operations per lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<u64>,
    /// Most time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nanoseconds: Option<u64>,
    /// Work requests posted at once. Absent: as many as the send queue has room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_list: Option<u32>,
    /// One of this many work requests on a queue pair is signaled.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub completion_moderation: u32,
}

impl Post {
    /// The request for this limit. A limit without a bound is absent.
    pub fn new(at: Vec<u64>, limit: Limit, flow: Flow) -> Self {
        let Flow { post_list, moderation: completion_moderation, .. } = flow;
        let operations = (limit.iterations < u64::MAX).then_some(limit.iterations);
        let nanoseconds = u64::try_from(limit.duration.as_nanos()).ok();
        Self { at, operations, nanoseconds, post_list, completion_moderation }
    }

    /// When the operations end.
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
    /// From the start of the first operation to the completion of the last one in any lane.
    pub nanoseconds: u64,
}
