//! Queue pair options in messages.

use peerpath_importers::{QueuePairOptions, Transport};
use serde::{Deserialize, Serialize};

use super::default::is_default;

/// The options that both ends of a connection have in common. Each side chooses the others (MTU, source GID) itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueuePairSettings {
    /// Transport of the queue pairs.
    #[serde(skip_serializing_if = "is_default")]
    pub transport: Transport,
    /// Service level, 0 to 15.
    #[serde(skip_serializing_if = "is_default")]
    pub service_level: u8,
    /// Traffic class in the packet headers.
    #[serde(skip_serializing_if = "is_default")]
    pub traffic_class: u8,
    /// Messages up to this length are copied into the work request.
    #[serde(skip_serializing_if = "is_default")]
    pub inline_bytes: u32,
    /// The device may reorder its memory accesses.
    #[serde(skip_serializing_if = "is_default")]
    pub relaxed_ordering: bool,
    /// Sleep until a completion arrives, rather than poll.
    #[serde(skip_serializing_if = "is_default")]
    pub events: bool,
}

impl QueuePairSettings {
    /// The common part of this side's options.
    pub fn of(connection: &QueuePairOptions) -> Self {
        let QueuePairOptions {
            transport, service_level, traffic_class, inline_bytes, relaxed_ordering, events, ..
        } = *connection;
        Self { transport, service_level, traffic_class, inline_bytes, relaxed_ordering, events }
    }

    /// This side's options, with the common part replaced by the peer's. `None` if a value is out of range.
    pub fn within(&self, own: &QueuePairOptions) -> Option<QueuePairOptions> {
        let Self { transport, service_level, traffic_class, inline_bytes, relaxed_ordering, events } = *self;
        let is_valid = service_level <= 15 && inline_bytes <= MOST_INLINE_BYTES;
        is_valid.then(|| QueuePairOptions {
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

/// No device supports more.
const MOST_INLINE_BYTES: u32 = 1 << 16;
