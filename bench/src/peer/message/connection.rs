//! Queue pair options in messages.

use peerpath_importers::{QueuePairOptions, Transport};
use serde::{Deserialize, Serialize};

use super::default::is_default;

/// Queue pair options that both sides must share. Each side chooses the other options (MTU, source GID) itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueuePairSettings {
    /// Transport of the queue pairs.
    #[serde(skip_serializing_if = "is_default")]
    pub transport: Transport,
    /// Service level, 0 to 15.
    #[serde(skip_serializing_if = "is_default")]
    pub service_level: u8,
    /// Traffic class, in the packet headers.
    #[serde(skip_serializing_if = "is_default")]
    pub traffic_class: u8,
    /// Maximum length of a message whose data is copied into the work request (inline), in bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub inline_bytes: u32,
    /// Whether the device may reorder its memory accesses.
    #[serde(skip_serializing_if = "is_default")]
    pub relaxed_ordering: bool,
    /// Whether to sleep until a completion event, instead of polling.
    #[serde(skip_serializing_if = "is_default")]
    pub events: bool,
}

impl QueuePairSettings {
    /// Selects the shared options out of all options of this host.
    pub fn of(connection: &QueuePairOptions) -> Self {
        let QueuePairOptions {
            transport, service_level, traffic_class, inline_bytes, relaxed_ordering, events, ..
        } = *connection;
        Self { transport, service_level, traffic_class, inline_bytes, relaxed_ordering, events }
    }

    /// Returns the options `own` of this host with the shared options replaced by those of the peer.
    ///
    /// # Errors
    /// The reason and a remedy if a value is out of range.
    pub fn within(&self, own: &QueuePairOptions) -> Result<QueuePairOptions, (String, &'static str)> {
        let Self { transport, service_level, traffic_class, inline_bytes, relaxed_ordering, events } = *self;
        if service_level > 15 {
            return Err((format!("Service level {service_level} exceeds 15."), "Choose a service level from 0 to 15."));
        }
        if inline_bytes > MOST_INLINE_BYTES {
            let why = format!("{inline_bytes} inline bytes exceed the limit of {MOST_INLINE_BYTES}.");
            return Err((why, "Use fewer inline bytes."));
        }
        Ok(QueuePairOptions {
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

/// Maximum inline length that is accepted from a peer. No device supports more.
const MOST_INLINE_BYTES: u32 = 1 << 16;
