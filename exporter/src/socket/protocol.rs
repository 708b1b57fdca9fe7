//! What is said on the socket. Messages keep their bounds (SOCK_SEQPACKET); each starts with a line of JSON.
//!
//! | request | answer |
//! |---|---|
//! | `{"read":{"offset":N,"length":N}}` | `{"ok":{"length":N}}` and the bytes |
//! | `{"write":{"offset":N}}` and the bytes | `{"ok":{"length":N}}` |
//!
//! A request that cannot be served is answered `{"error":TEXT}`; one that makes no sense ends the connection as well.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use peerpath_paths::{BarIndex, Bdf};
use serde::{Deserialize, Serialize};

use crate::range::total_bytes;
use crate::{BarRange, Origin, SourceKind};

/// The most bytes of memory in one message.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// The longest line of a request or an answer.
const LINE_BYTES: usize = 1024;
/// The longest first message: room for some thousand ranges.
pub(super) const HELLO_BYTES: usize = 128 * 1024;
/// The longest message after the first one.
pub(super) const MESSAGE_BYTES: usize = LINE_BYTES + CHUNK_BYTES;
/// The version of the requests that we serve.
pub(super) const VIEW_VERSION: u32 = 1;

/// What comes with the fd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) bdf: Option<Bdf>,
    pub(super) bar: Option<BarIndex>,
    pub(super) ranges: Vec<BarRange>,
    pub(super) size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<SourceKind>,
    /// The version of the requests that will be answered; absent where none are.
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
pub(super) enum Answer {
    Ok { length: usize },
    Error(String),
}

impl Hello {
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

    /// Where the buffer comes from; an `Err` says what does not fit together.
    pub(super) fn origin(self) -> Result<Origin, String> {
        let sum = total_bytes(&self.ranges);
        if self.ranges.is_empty() || self.size_bytes == 0 || sum != Some(self.size_bytes) {
            return Err(format!("its ranges do not add up to its size of {} bytes", self.size_bytes));
        }
        if self.ranges.iter().any(|range| range.offset_bytes.checked_add(range.length_bytes).is_none()) {
            return Err("a range leaves the address space".to_owned());
        }
        let kind = match (self.kind, self.bdf) {
            (Some(SourceKind::Host), _) => return Err("host memory has no fd".to_owned()),
            (Some(kind), _) => kind,
            (None, Some(_)) => SourceKind::Vfio,
            (None, None) => return Err("it names neither a function nor a kind of memory".to_owned()),
        };
        Ok(Origin { kind, bdf: self.bdf, bar: self.bar, ranges: self.ranges })
    }
}

/// The line and the bytes behind it; `None` where the message has no line of JSON of this kind.
pub(super) fn parse<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Option<(T, &'a [u8])> {
    let end = message.iter().position(|&byte| byte == b'\n')?;
    let (line, bytes) = message.split_at(end);
    Some((serde_json::from_slice(line).ok()?, &bytes[1..]))
}

/// Sends a line, bytes and perhaps an fd as one message.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    line: &impl Serialize,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let parts = [IoSlice::new(&text), IoSlice::new(bytes)];
    let fds = fd.map(|fd| [fd.as_raw_fd()]);
    let control = fds.as_ref().map(|fds| ControlMessage::ScmRights(fds));
    loop {
        // A peer that went away is an error here and not a signal.
        match sendmsg::<()>(socket.as_raw_fd(), &parts, control.as_slice(), MsgFlags::MSG_NOSIGNAL, None) {
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
    fn requests_look_as_documented() {
        let text = |request| serde_json::to_string(&request).unwrap();
        assert_eq!(text(Request::Read { offset: 1, length: 2 }), r#"{"read":{"offset":1,"length":2}}"#);
        assert_eq!(text(Request::Write { offset: 1 }), r#"{"write":{"offset":1}}"#);
        assert_eq!(serde_json::to_string(&Answer::Ok { length: 3 }).unwrap(), r#"{"ok":{"length":3}}"#);
        assert_eq!(serde_json::to_string(&Answer::Error("no".into())).unwrap(), r#"{"error":"no"}"#);
    }

    #[test]
    fn a_foreign_hello_needs_only_the_four_fields() {
        let text =
            r#"{"bdf":"0000:03:00.0","bar":2,"ranges":[{"offset_bytes":0,"length_bytes":4096}],"size_bytes":4096}"#;
        let hello: Hello = serde_json::from_str(text).unwrap();
        assert_eq!(hello.view, None);
        let origin = hello.origin().unwrap();
        assert_eq!((origin.kind, origin.bar), (SourceKind::Vfio, BarIndex::new(2).ok()));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let range = |offset_bytes, length_bytes| BarRange { offset_bytes, length_bytes };
        let hello = |ranges, size_bytes| Hello {
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
            hello(ranges, size_bytes).origin().unwrap_err();
        }
        let nothing = Hello { bdf: None, ..hello(vec![range(0, 4096)], 4096) };
        nothing.clone().origin().unwrap_err();
        Hello { kind: Some(SourceKind::Host), ..nothing }.origin().unwrap_err();
    }

    proptest! {
        #[test]
        fn any_message_is_answered(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<Request>(&message);
            let _ = parse::<Hello>(&message);
        }

        #[test]
        fn bytes_come_after_the_line(offset: u64, bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut message = serde_json::to_vec(&Request::Write { offset }).unwrap();
            message.push(b'\n');
            message.extend(&bytes);
            prop_assert_eq!(parse::<Request>(&message), Some((Request::Write { offset }, &bytes[..])));
        }
    }
}
