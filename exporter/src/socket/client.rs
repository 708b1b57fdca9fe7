//! The receiving side: `socket:PATH` as a source.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::{connect, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::listen::{address, new_socket};
use super::protocol::{Answer, CHUNK_BYTES, HELLO_BYTES, Hello, MESSAGE_BYTES, Request, VIEW_VERSION, parse, send};
use crate::sys::dma_buf;
use crate::sys::message::receive;
use crate::{Buffer, Error, Exporter, Handle, Origin, View, check_length, check_span, page_bytes};

/// How long the other process may take for anything.
const PATIENCE: TimeVal = TimeVal::new(10, 0);

/// A dma-buf that another process handed over. There is one, made elsewhere: an export of its first part is the whole
/// dma-buf, of which the buffer's length says how much is meant.
#[derive(Debug)]
pub struct SocketExporter {
    origin: Origin,
    dma_buf: OwnedFd,
    connection: Arc<Connection>,
}

#[derive(Debug)]
struct Connection {
    // One request at a time: answers carry no number.
    socket: Mutex<OwnedFd>,
    serves_view: bool,
    is_broken: AtomicBool,
}

impl SocketExporter {
    /// Connects and takes what is handed over.
    ///
    /// # Errors
    /// Nobody serves the socket, or what came is not one described dma-buf.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let this = Self::take(path)?;
        let bad = |why| Error::BadHandover { path: path.to_owned(), why };
        if !dma_buf::is_dma_buf(this.dma_buf.as_fd()).unwrap_or(false) {
            return Err(bad("the fd is no dma-buf".to_owned()));
        }
        Ok(this)
    }

    /// All of [`SocketExporter::connect`] except that the fd be a dma-buf.
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let failed =
            |operation| move |errno: Errno| Error::Socket { path: path.to_owned(), operation, source: errno.into() };
        let address = address(path)?;
        let socket = new_socket(path)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE).map_err(failed("set a time limit for"))?;
        setsockopt(&socket, sockopt::SendTimeout, &PATIENCE).map_err(failed("set a time limit for"))?;
        connect(socket.as_raw_fd(), &address).map_err(failed("connect to"))?;
        let (hello, dma_buf) = take_hello(&socket, path)?;
        let bad = |why| Error::BadHandover { path: path.to_owned(), why };
        let serves_view = hello.view == Some(VIEW_VERSION);
        let size_bytes = hello.size_bytes;
        let origin = hello.origin().map_err(bad)?;
        let real = dma_buf::size_bytes(dma_buf.as_fd()).map_err(|error| bad(error.to_string()))?;
        if real != size_bytes {
            return Err(bad(format!("it was announced with {size_bytes} bytes and has {real}")));
        }
        Ok(Self {
            origin,
            dma_buf,
            connection: Arc::new(Connection {
                socket: Mutex::new(socket),
                serves_view,
                is_broken: AtomicBool::new(false),
            }),
        })
    }

    /// Whether the other process lets its bytes be looked at; without that nothing can be verified.
    pub fn serves_view(&self) -> bool {
        self.connection.serves_view
    }
}

/// The first message, with exactly one fd. Whatever else came with it is closed.
fn take_hello(socket: &OwnedFd, path: &Path) -> Result<(Hello, OwnedFd), Error> {
    let bad = |why: &str| Error::BadHandover { path: path.to_owned(), why: why.to_owned() };
    let mut message = vec![0; HELLO_BYTES];
    let mut received = receive(socket.as_fd(), &mut message).map_err(|source| Error::Socket {
        path: path.to_owned(),
        operation: "receive the dma-buf from",
        source: timed_out(source),
    })?;
    let message = &message[..received.length];
    if message.is_empty() {
        return Err(bad("the connection ended without a message (are you another user?)"));
    }
    if received.truncated {
        return Err(bad("the message is too long"));
    }
    if received.fds_lost {
        return Err(bad("fds were lost on the way"));
    }
    if let Some((Answer::Error(why), _)) = parse(message) {
        return Err(bad(&why.chars().take(200).collect::<String>()));
    }
    // The line's end may be missing: the message has an end of its own.
    let line = message.strip_suffix(b"\n").unwrap_or(message);
    let hello = serde_json::from_slice(line).map_err(|error| bad(&format!("the message cannot be read: {error}")))?;
    match (received.fds.pop(), received.fds.len()) {
        (Some(fd), 0) => Ok((hello, fd)),
        (None, _) => Err(bad("no fd came with the message")),
        (Some(_), more) => Err(bad(&format!("{} fds came with the message", more + 1))),
    }
}

impl Exporter for SocketExporter {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn export(&self, length_bytes: u64) -> Result<Arc<Buffer>, Error> {
        check_length(self, length_bytes, page_bytes())?;
        let dma_buf = self.dma_buf.try_clone().map_err(|source| Error::Socket {
            path: PathBuf::from("the dma-buf"),
            operation: "duplicate the dma-buf of",
            source,
        })?;
        let view = RemoteView { connection: Arc::clone(&self.connection), length_bytes };
        let origin = Origin { ranges: self.origin.front(length_bytes), ..self.origin.clone() };
        Ok(Arc::new(Buffer::new(Handle::DmaBuf(dma_buf), origin, Arc::new(view))))
    }
}

/// The exporter's own look at the bytes, from here.
struct RemoteView {
    connection: Arc<Connection>,
    length_bytes: u64,
}

impl Connection {
    /// One request, at most [`CHUNK_BYTES`] of memory either way; the answer's bytes fill `into`.
    fn ask(&self, request: Request, payload: &[u8], into: &mut [u8]) -> io::Result<()> {
        if !self.serves_view {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the exporting process does not let its bytes be looked at",
            ));
        }
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // Answers carry no number: after one that did not come or made no sense, the next could be taken for another's.
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "an earlier answer of the exporting process was lost",
            ));
        }
        let answered = Self::exchange(socket.as_fd(), request, payload, into);
        if answered.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Other) {
            self.is_broken.store(true, Ordering::Relaxed);
        }
        answered
    }

    /// A request and its answer; an error of the kind `Other` is what the exporting process itself answered.
    fn exchange(socket: BorrowedFd<'_>, request: Request, payload: &[u8], into: &mut [u8]) -> io::Result<()> {
        send(socket, &request, payload, None)?;
        let mut message = vec![0; MESSAGE_BYTES];
        let received = receive(socket, &mut message).map_err(timed_out)?;
        if received.length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the exporting process is gone"));
        }
        let expected = into.len().max(payload.len());
        match parse(&message[..received.length]) {
            Some((Answer::Ok { length }, bytes)) if length == expected && bytes.len() == into.len() => {
                into.copy_from_slice(bytes);
                Ok(())
            }
            Some((Answer::Error(why), _)) => Err(io::Error::other(format!("the exporting process answered: {why}"))),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the exporting process answered nonsense")),
        }
    }
}

/// A receive timeout says EAGAIN, which would tell the user nothing.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        return io::Error::new(io::ErrorKind::TimedOut, "the exporting process did not answer in time");
    }
    error
}

impl View for RemoteView {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        check_span(offset, into.len(), self.length_bytes)?;
        let mut at = offset;
        for part in into.chunks_mut(CHUNK_BYTES) {
            self.connection.ask(Request::Read { offset: at, length: part.len() }, &[], part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        check_span(offset, from.len(), self.length_bytes)?;
        let mut at = offset;
        for part in from.chunks(CHUNK_BYTES) {
            self.connection.ask(Request::Write { offset: at }, part, &mut [])?;
            at += part.len() as u64;
        }
        Ok(())
    }
}
