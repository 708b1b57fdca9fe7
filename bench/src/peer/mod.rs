//! Two hosts, one run: the channel between `peerpath serve` and `peerpath run --peer`. `docs/wire.md` tells what is said on
//! it, in enough detail to write the other side anew.
//!
//! Nothing that is measured goes through it. Whoever connects first proves that it knows the token ([`handshake`]); every
//! message has a bound in length and in time ([`frame`]); both sides say every second that they live, so that neither waits
//! for one that died ([`connection`]).

pub mod address;
pub mod client;
pub mod connection;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod listener;
pub mod message;
#[cfg(test)]
mod tests;
pub mod token;

/// The version of what is said. Two programs work together where it is the same.
pub const VERSION: u32 = 1;

/// Reads messages of every kind from bytes of anyone's, and checks what they ask for as a conversation would: what fuzzing and a
/// property test go through. Nothing may panic, and what was read can be said again.
pub fn take_apart(bytes: &[u8]) {
    fn all<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Vec<T> {
        let mut input = bytes;
        let read: Vec<T> = std::iter::from_fn(|| frame::read(&mut input).ok()).collect();
        for message in &read {
            let mut again = Vec::new();
            if frame::write(&mut again, message).is_ok() {
                let same: T = frame::read(&mut &again[..]).expect("what was written can be read");
                assert_eq!(*message, same);
            }
        }
        read
    }
    all::<handshake::Word>(bytes);
    for request in all::<message::Request>(bytes) {
        match request {
            message::Request::Open(open) => {
                crate::plan::within_bounds(open.size_bytes, open.depth, open.queue_pairs, open.lanes, open.ranges);
                let _ = open.connection.within(&peerpath_importers::QueuePairOptions::default());
            }
            message::Request::Post(post) => {
                crate::plan::can_flow(4, post.post_list, post.completion_moderation);
                let _ = post.limit();
                let own = crate::layout::Layout::new(64, 4, 4096).expect("a slot fits");
                post.at.iter().filter_map(|at| own.seen_from_near(*at)).for_each(|seen| drop(seen.places()));
            }
            _ => {}
        }
    }
    for answer in all::<message::Answer>(bytes) {
        match answer {
            message::Answer::Opened(opened) => {
                let layouts = opened.window.layouts().unwrap_or_default();
                for layout in &layouts {
                    layout.transfer(peerpath_importers::Op::Write, u64::MAX);
                }
                opened.endpoint.lanes(layouts.len());
            }
            message::Answer::Failed(failed) => drop(failed.explanation()),
            _ => {}
        }
    }
}
