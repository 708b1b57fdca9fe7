//! The control connection between client and server, the two hosts of a run. `docs/wire.md` specifies all messages, so a third
//! party can implement either side.
//!
//! Measured data does not use this connection. The client first proves that it knows the token ([`handshake`]). The length of
//! every message and the time to transmit it are limited ([`frame`]). Each side sends a heartbeat every second, so that the
//! other detects a lost connection ([`connection`]).

pub mod address;
mod admission;
pub mod client;
pub mod connection;
pub mod error;
mod event_log;
pub mod frame;
pub mod handshake;
pub mod listener;
pub mod message;
pub mod remote_memory;
#[cfg(test)]
mod tests;
pub mod token;

/// Protocol version. Both sides must use the same version.
pub const VERSION: u32 = 1;

/// Parses messages of every type from untrusted bytes, and checks their values as a server or client does. Fuzzing and property
/// tests call this function.
///
/// # Panics
/// A parsed message differs after it is written and parsed again.
pub fn take_apart(bytes: &[u8]) {
    fn messages<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
        bytes: &[u8],
    ) -> Vec<T> {
        let mut input = bytes;
        let read: Vec<T> = std::iter::from_fn(|| frame::read(&mut input).ok()).collect();
        for message in &read {
            let mut written = Vec::new();
            if frame::write(&mut written, message).is_ok() {
                let same: T = frame::read(&mut &written[..]).expect("a written message can be read");
                assert_eq!(*message, same);
            }
        }
        read
    }
    messages::<handshake::Handshake>(bytes);
    for request in messages::<message::Request>(bytes) {
        match request {
            message::Request::Open(open) => {
                crate::plan::within_bounds(open.size_bytes, open.depth, open.queue_pairs, open.lanes, open.ranges);
                let _ = open.connection.within(&peerpath_importers::QueuePairOptions::default());
            }
            message::Request::Post(post) => {
                crate::plan::send_queue_drains(4, post.post_list, post.completion_moderation);
                let _ = post.limit();
                let own = crate::layout::Layout::new(64, 4, 4096).expect("a slot fits");
                post.at.iter().filter_map(|at| own.seen_from_near(*at)).for_each(|seen| drop(seen.near_offsets()));
            }
            _ => {}
        }
    }
    for answer in messages::<message::Response>(bytes) {
        match answer {
            message::Response::Opened(opened) => {
                let layouts = opened.window.layouts().unwrap_or_default();
                for layout in &layouts {
                    layout.transfer(peerpath_importers::Op::Write, u64::MAX);
                }
                opened.endpoint.lanes(layouts.len());
            }
            message::Response::Failed(failed) => drop(failed.explanation()),
            _ => {}
        }
    }
}
