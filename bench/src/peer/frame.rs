//! Message framing on a stream: a length of four bytes, big-endian, followed by JSON of that length.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use peerpath_paths::printable;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Maximum length of a message, in bytes.
pub const LONGEST_BYTES: u32 = 1 << 20;

/// Reason why sending or receiving a message failed.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed the connection between two messages.
    #[error("the peer closed the connection")]
    Closed,
    /// The message was not complete before the deadline.
    #[error("the peer did not respond in time")]
    TooSlow,
    /// The length in the header exceeds the limit.
    #[error("the peer announced a message of {0} bytes, which exceeds the limit")]
    TooLong(u32),
    /// The bytes are not a valid message of the expected type.
    #[error("the peer sent an invalid message")]
    Garbled(#[source] serde_json::Error),
    /// The connection is lost.
    #[error("lost the connection to the peer")]
    Broken(#[source] io::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TooSlow,
            _ => Self::Broken(error),
        }
    }
}

/// Reads one message. Makes its string values printable (see [`printable`]), so that any code may print them.
///
/// # Errors
/// See [`FrameError`].
pub fn read<T: DeserializeOwned>(input: &mut impl Read) -> Result<T, FrameError> {
    read_within(input, LONGEST_BYTES)
}

/// Reads one message of at most `longest_bytes`, as [`read`] does.
///
/// # Errors
/// See [`FrameError`].
pub(super) fn read_within<T: DeserializeOwned>(input: &mut impl Read, longest_bytes: u32) -> Result<T, FrameError> {
    let mut length = [0; 4];
    // The peer may close the connection between two messages.
    if input.read(&mut length[..1])? == 0 {
        return Err(FrameError::Closed);
    }
    input.read_exact(&mut length[1..])?;
    let length = u32::from_be_bytes(length);
    if length > longest_bytes {
        return Err(FrameError::TooLong(length));
    }
    // Allocate memory for the received bytes, not for the length in the header, which is untrusted.
    let mut text = Vec::new();
    input.take(length.into()).read_to_end(&mut text)?;
    if text.len() < length as usize {
        return Err(FrameError::Broken(io::ErrorKind::UnexpectedEof.into()));
    }
    let mut message = serde_json::from_slice(&text).map_err(FrameError::Garbled)?;
    make_printable(&mut message);
    serde_json::from_value(message).map_err(FrameError::Garbled)
}

fn make_printable(value: &mut Value) {
    match value {
        Value::String(text) => *text = printable(text),
        Value::Array(list) => list.iter_mut().for_each(make_printable),
        Value::Object(fields) => fields.values_mut().for_each(make_printable),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Writes one message.
///
/// # Errors
/// See [`FrameError`]. Nothing is written if the message is too long.
pub fn write(output: &mut impl Write, message: &impl Serialize) -> Result<(), FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).map_err(FrameError::Garbled)?;
    let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    if length > LONGEST_BYTES {
        return Err(FrameError::Broken(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a message of {length} bytes is longer than {LONGEST_BYTES}"),
        )));
    }
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(output.write_all(&bytes)?)
}

/// A stream with a deadline for a whole message. The deadline also holds if the peer keeps sending, but slowly.
pub struct Timed<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl<'a> Timed<'a> {
    /// Sets the deadline to `time` from now.
    pub fn within(stream: &'a TcpStream, time: Duration) -> Self {
        Self::until(stream, Instant::now() + time)
    }

    /// Sets the deadline to this time.
    pub fn until(stream: &'a TcpStream, deadline: Instant) -> Self {
        Self { stream, deadline }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        match self.deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        let mut stream = self.stream;
        stream.read(into)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        let mut stream = self.stream;
        stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(length: u32, bytes: &[u8]) -> Vec<u8> {
        [&length.to_be_bytes(), bytes].concat()
    }

    #[test]
    fn reads_what_was_written() {
        let mut bytes = Vec::new();
        for text in ["one", ""] {
            write(&mut bytes, &text).unwrap();
        }
        assert_eq!(&bytes[..9], b"\0\0\0\x05\"one\"");
        let mut input = &bytes[..];
        assert_eq!(read::<String>(&mut input).unwrap(), "one");
        assert_eq!(read::<String>(&mut input).unwrap(), "");
        assert!(matches!(read::<String>(&mut input), Err(FrameError::Closed)));
    }

    #[test]
    fn detects_truncated_messages() {
        let whole = framed(5, b"\"one\"");
        for length in 1..whole.len() {
            let cut = read::<String>(&mut &whole[..length]);
            assert!(matches!(cut, Err(FrameError::Broken(_))), "{length}: {cut:?}");
        }
    }

    #[test]
    fn rejects_too_long_messages() {
        for length in [LONGEST_BYTES + 1, u32::MAX] {
            let long = read::<String>(&mut &framed(length, b"\"")[..]);
            assert!(matches!(long, Err(FrameError::TooLong(announced)) if announced == length), "{long:?}");
        }
        let mut bytes = Vec::new();
        assert!(write(&mut bytes, &"x".repeat(LONGEST_BYTES as usize)).is_err());
        assert!(bytes.is_empty());
        write(&mut bytes, &"x".repeat(LONGEST_BYTES as usize - 2)).unwrap();
        assert_eq!(read::<String>(&mut &bytes[..]).unwrap().len(), LONGEST_BYTES as usize - 2);
    }

    #[test]
    fn rejects_invalid_json() {
        for bytes in [&b"GET / HTTP/1.1"[..], b"\xff\xff", b"{\"a\":", &b"[".repeat(10_000)] {
            let read = read::<Value>(&mut &framed(bytes.len() as u32, bytes)[..]);
            assert!(matches!(read, Err(FrameError::Garbled(_))), "{read:?}");
        }
    }

    #[test]
    fn texts_of_the_peer_are_printable() {
        let message =
            r#"{"refused":{"why":"a\u001b[31m\u202e\nb","list":["\u061c",1,null],"count":18446744073709551615}}"#;
        let read: Value = read(&mut &framed(message.len() as u32, message.as_bytes())[..]).unwrap();
        let expected = serde_json::json!({"refused": {"why": "a\u{fffd}[31m\u{fffd} b", "list": ["\u{fffd}", 1, null], "count": u64::MAX}});
        assert_eq!(read, expected);
    }

    proptest! {
        #[test]
        fn does_not_panic_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read::<Value>(&mut &bytes[..]);
            let _ = read::<Value>(&mut &framed(bytes.len() as u32, &bytes)[..]);
        }
    }
}
