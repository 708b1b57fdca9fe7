//! Messages on a stream: four bytes of length, most significant first, and so many bytes of JSON.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message.
pub const LONGEST_BYTES: u32 = 1 << 20;

/// A message that did not come, or did not go.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side closed the connection between two messages.
    #[error("the peer closed the connection")]
    Closed,
    /// Not all of a message came, or went, in its time.
    #[error("the peer took too long")]
    TooSlow,
    /// The other side announced more than anyone may send.
    #[error("the peer announced a message of {0} bytes, and {LONGEST_BYTES} is the most")]
    TooLong(u32),
    /// It is no message of this kind.
    #[error("the peer sent what is no message")]
    Garbled(#[source] serde_json::Error),
    /// The connection broke.
    #[error("the connection to the peer broke")]
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

/// Reads one message.
///
/// # Errors
/// See [`FrameError`].
pub fn read<T: DeserializeOwned>(input: &mut impl Read) -> Result<T, FrameError> {
    let mut length = [0; 4];
    // The one place where an end is no surprise.
    if input.read(&mut length[..1])? == 0 {
        return Err(FrameError::Closed);
    }
    input.read_exact(&mut length[1..])?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST_BYTES {
        return Err(FrameError::TooLong(length));
    }
    // Memory is taken as bytes come, not as they are announced.
    let mut text = Vec::new();
    input.take(length.into()).read_to_end(&mut text)?;
    if text.len() < length as usize {
        return Err(FrameError::Broken(io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&text).map_err(FrameError::Garbled)
}

/// Writes one message.
///
/// # Errors
/// See [`FrameError`]; nothing was written of one that is too long.
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

/// A connection that reads and writes until a moment and no longer: however slowly the other side sends, the whole message
/// has to be there by then.
pub struct Timed<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl<'a> Timed<'a> {
    /// So long from now.
    pub fn within(stream: &'a TcpStream, time: Duration) -> Self {
        Self::until(stream, Instant::now() + time)
    }

    /// Until this moment.
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
    use serde_json::Value;

    fn framed(length: u32, bytes: &[u8]) -> Vec<u8> {
        [&length.to_be_bytes(), bytes].concat()
    }

    #[test]
    fn what_is_written_is_read() {
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
    fn a_message_ends_where_it_was_cut() {
        let whole = framed(5, b"\"one\"");
        for length in 1..whole.len() {
            let cut = read::<String>(&mut &whole[..length]);
            assert!(matches!(cut, Err(FrameError::Broken(_))), "{length}: {cut:?}");
        }
    }

    #[test]
    fn too_much_is_neither_read_nor_written() {
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
    fn what_is_no_json_is_garbled() {
        for bytes in [&b"GET / HTTP/1.1"[..], b"\xff\xff", b"{\"a\":", &b"[".repeat(10_000)] {
            let read = read::<Value>(&mut &framed(bytes.len() as u32, bytes)[..]);
            assert!(matches!(read, Err(FrameError::Garbled(_))), "{read:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read::<Value>(&mut &bytes[..]);
            let _ = read::<Value>(&mut &framed(bytes.len() as u32, &bytes)[..]);
        }
    }
}
