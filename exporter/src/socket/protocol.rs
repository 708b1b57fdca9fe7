//! Messages of the socket. `SOCK_SEQPACKET` preserves message boundaries; each message starts with a line of JSON.
//!
//! | request | reply |
//! |---|---|
//! | `{"read":{"offset":N,"length":N}}` | `{"ok":{"length":N}}` and the bytes |
//! | `{"write":{"offset":N}}` and the bytes | `{"ok":{"length":N}}` |
//!
//! The reply to a request that fails is `{"error":TEXT}`. After an invalid request, the sender also closes the connection.
//!
//! When the function of the memory is removed, the sender sends `{"error":TEXT}` and a second line `{"cause":"removed"}`, even
//! without a request. It then closes the connection, and after that the function. A receiver that ignores the bytes after the
//! first line reads this message as the reply to its next request.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use peerpath_paths::{BarIndex, Bdf, Cause};
use serde::{Deserialize, Serialize};

use crate::range::total_bytes;
use crate::{BarRange, Error, Origin, SourceKind};

/// Maximum number of bytes of the shared memory per message.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// Maximum length of the JSON line of a request or a reply, in bytes.
const LINE_BYTES: usize = 1024;
/// Maximum length of the first message in bytes, enough for about 2000 ranges.
pub(super) const DESCRIPTION_BYTES: usize = 128 * 1024;
/// Maximum length of a message after the first message, in bytes.
pub(super) const MESSAGE_BYTES: usize = LINE_BYTES + CHUNK_BYTES;
/// Version of the request protocol.
pub(super) const VIEW_VERSION: u32 = 1;

/// First message, which describes the dma-buf that is sent with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) bdf: Option<Bdf>,
    pub(super) bar: Option<BarIndex>,
    pub(super) ranges: Vec<BarRange>,
    pub(super) size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<SourceKind>,
    /// Version of the request protocol that the sender serves. `None` if the sender serves no requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) view: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Request {
    Read { offset: u64, length: usize },
    Write { offset: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reply {
    Ok { length: usize },
    Error(String),
}

/// Second line of an error, which names its cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Reason {
    cause: String,
}

/// Sends the message that ends a connection when the function is removed. Does not wait for space in the receiver's queue: if
/// the queue is full, the receiver reads no replies, and it must not delay the removal.
pub(super) fn send_removal(socket: BorrowedFd<'_>, error: &Error) -> io::Result<()> {
    let mut reason = serde_json::to_vec(&Reason { cause: Cause::Removed.as_str().to_owned() })?;
    reason.push(b'\n');
    send_with(socket, &Reply::Error(error.to_string()), &reason, None, MsgFlags::MSG_DONTWAIT)
}

/// Whether a message is an error with the cause `removed`.
pub(super) fn is_removal(message: &[u8]) -> bool {
    let Some((Reply::Error(_), reason)) = parse(message) else { return false };
    parse::<Reason>(reason).is_some_and(|(reason, _)| reason.cause == Cause::Removed.as_str())
}

impl Description {
    pub(super) fn new(origin: &Origin, size_bytes: u64) -> Self {
        Self {
            bdf: origin.bdf,
            bar: origin.bar,
            ranges: origin.ranges.clone(),
            size_bytes,
            kind: Some(origin.kind),
            view: Some(VIEW_VERSION),
        }
    }

    /// Returns the origin of the buffer, or the reason why the description is inconsistent.
    pub(super) fn origin(self) -> Result<Origin, String> {
        let sum = total_bytes(&self.ranges);
        if self.ranges.is_empty() || self.size_bytes == 0 || sum != Some(self.size_bytes) {
            return Err(format!("the lengths of the ranges do not add up to the size of {} bytes", self.size_bytes));
        }
        if self.ranges.iter().any(|range| range.offset_bytes.checked_add(range.length_bytes).is_none()) {
            return Err("the end of a range exceeds 64 bits".to_owned());
        }
        let kind = match (self.kind, self.bdf) {
            (Some(SourceKind::Host), _) => return Err("host memory is not a dma-buf".to_owned()),
            (Some(kind), _) => kind,
            (None, Some(_)) => SourceKind::Vfio,
            (None, None) => return Err("bdf and kind are missing".to_owned()),
        };
        Ok(Origin { kind, bdf: self.bdf, bar: self.bar, ranges: self.ranges })
    }
}

/// Divides a message into its parsed line and the bytes after it. `None` if the line is missing or cannot be parsed.
pub(super) fn parse<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Option<(T, &'a [u8])> {
    let end = message.iter().position(|&byte| byte == b'\n')?;
    let (line, bytes) = message.split_at(end);
    Some((serde_json::from_slice(line).ok()?, &bytes[1..]))
}

/// Sends a line, bytes and optionally a file descriptor as one message.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    line: &impl Serialize,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    send_with(socket, line, bytes, fd, MsgFlags::empty())
}

fn send_with(
    socket: BorrowedFd<'_>,
    line: &impl Serialize,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
    flags: MsgFlags,
) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let parts = [IoSlice::new(&text), IoSlice::new(bytes)];
    let fds = fd.map(|fd| [fd.as_raw_fd()]);
    let control = fds.as_ref().map(|fds| ControlMessage::ScmRights(fds));
    loop {
        // With `MSG_NOSIGNAL`, a closed connection returns EPIPE instead of raising SIGPIPE.
        match sendmsg::<()>(socket.as_raw_fd(), &parts, control.as_slice(), MsgFlags::MSG_NOSIGNAL | flags, None) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_and_replies_have_the_documented_form() {
        let text = |request| serde_json::to_string(&request).unwrap();
        assert_eq!(text(Request::Read { offset: 1, length: 2 }), r#"{"read":{"offset":1,"length":2}}"#);
        assert_eq!(text(Request::Write { offset: 1 }), r#"{"write":{"offset":1}}"#);
        assert_eq!(serde_json::to_string(&Reply::Ok { length: 3 }).unwrap(), r#"{"ok":{"length":3}}"#);
        assert_eq!(serde_json::to_string(&Reply::Error("no".into())).unwrap(), r#"{"error":"no"}"#);
    }

    #[test]
    fn the_message_of_a_removal_is_an_error_with_a_cause() {
        let text = "{\"error\":\"cannot use 0000:03:00.0 any longer\"}\n{\"cause\":\"removed\"}\n";
        assert!(is_removal(text.as_bytes()));
        // A receiver that knows only the first line reads an error.
        let first: Option<(Reply, _)> = parse(text.as_bytes());
        assert!(matches!(first, Some((Reply::Error(_), _))));
        for other in
            ["{\"error\":\"no\"}\n", "{\"error\":\"no\"}\n{\"cause\":\"revoked\"}\n", "{\"ok\":{\"length\":1}}\n", ""]
        {
            assert!(!is_removal(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn four_fields_are_enough_for_a_description() {
        let text =
            r#"{"bdf":"0000:03:00.0","bar":2,"ranges":[{"offset_bytes":0,"length_bytes":4096}],"size_bytes":4096}"#;
        let description: Description = serde_json::from_str(text).unwrap();
        assert_eq!(description.view, None);
        let origin = description.origin().unwrap();
        assert_eq!((origin.kind, origin.bar), (SourceKind::Vfio, BarIndex::new(2).ok()));
    }

    #[test]
    fn rejects_inconsistent_descriptions() {
        let range = |offset_bytes, length_bytes| BarRange { offset_bytes, length_bytes };
        let description = |ranges, size_bytes| Description {
            bdf: Some("0000:03:00.0".parse().unwrap()),
            bar: BarIndex::new(2).ok(),
            ranges,
            size_bytes,
            kind: None,
            view: None,
        };
        for (ranges, size_bytes) in [
            (vec![], 0),
            (vec![range(0, 4096)], 8192),
            (vec![range(0, u64::MAX), range(0, 2)], 1),
            (vec![range(u64::MAX, 4096)], 4096),
        ] {
            description(ranges, size_bytes).origin().unwrap_err();
        }
        let unnamed = Description { bdf: None, ..description(vec![range(0, 4096)], 4096) };
        unnamed.clone().origin().unwrap_err();
        Description { kind: Some(SourceKind::Host), ..unnamed }.origin().unwrap_err();
    }

    proptest! {
        #[test]
        fn parsing_never_panics(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<Request>(&message);
            let _ = parse::<Description>(&message);
            let _ = is_removal(&message);
        }

        #[test]
        fn finds_the_bytes_after_the_line(offset: u64, bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut message = serde_json::to_vec(&Request::Write { offset }).unwrap();
            message.push(b'\n');
            message.extend(&bytes);
            prop_assert_eq!(parse::<Request>(&message), Some((Request::Write { offset }, &bytes[..])));
        }
    }
}
