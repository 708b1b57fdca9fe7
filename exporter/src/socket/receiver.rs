//! Receiver of a dma-buf that another process sends.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{connect, setsockopt, sockopt};
use nix::sys::time::TimeVal;
use peerpath_paths::printable_within;

use super::listen::{address, new_socket};
use super::protocol::{
    CHUNK_BYTES, DESCRIPTION_BYTES, Description, MESSAGE_BYTES, Reply, Request, VIEW_VERSION, is_removal, parse, send,
};
use super::sender::readable;
use crate::sys::{dma_buf, message};
use crate::{Buffer, Error, Exporter, Handle, Origin, Removal, View, check_length, check_span, page_bytes};

/// Maximum number of characters of the sender's text in an error.
const MOST_REASON_CHARACTERS: usize = 200;
/// Timeout for sending or receiving one message.
const TIMEOUT: TimeVal = TimeVal::new(10, 0);

/// Exporter of a dma-buf that another process sent. Each export duplicates the file descriptor, which gives access to the whole
/// dma-buf: use no more than the buffer's length.
#[derive(Debug)]
pub struct SocketExporter {
    origin: Origin,
    dma_buf: OwnedFd,
    connection: Arc<Connection>,
}

/// Maximum number of unrequested messages to read in search of the report of a removal.
const UNREQUESTED_MAX: usize = 16;

#[derive(Debug)]
struct Connection {
    // Locked from a request until its reply, because replies carry no request number.
    socket: Mutex<OwnedFd>,
    serves_view: bool,
    /// Whether a reply was lost or invalid, so that the next reply could belong to an earlier request.
    is_broken: AtomicBool,
    /// Removal that the sender reports.
    removal: Removal,
}

impl SocketExporter {
    /// Checks that the path exists, without connecting to it.
    ///
    /// # Errors
    /// [`Error::NoSocket`] or [`Error::Socket`].
    pub fn check(path: &Path) -> Result<(), Error> {
        std::fs::metadata(path).map(drop).map_err(|source| cannot_connect(path, source))
    }

    /// Connects to the sender's socket and receives the dma-buf. Waits at most 10 s for the sender.
    ///
    /// # Errors
    /// [`Error::BadSocketPath`], [`Error::NoSocket`], [`Error::Socket`] if no sender serves the socket or it does not send in
    /// time, and [`Error::BadSocketMessage`] if the message is not exactly one dma-buf with a matching description.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let this = Self::receive(path)?;
        let bad = |why| Error::BadSocketMessage { path: path.to_owned(), why };
        if !dma_buf::is_dma_buf(this.dma_buf.as_fd()).unwrap_or(false) {
            return Err(bad("the file descriptor is not a dma-buf".to_owned()));
        }
        Ok(this)
    }

    /// Like [`SocketExporter::connect`], but accepts any file of the described size instead of a dma-buf, for tests.
    pub(super) fn receive(path: &Path) -> Result<Self, Error> {
        let failed =
            |operation| move |errno: Errno| Error::Socket { path: path.to_owned(), operation, source: errno.into() };
        let address = address(path)?;
        let socket = new_socket(path)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TIMEOUT).map_err(failed("set a time limit for"))?;
        setsockopt(&socket, sockopt::SendTimeout, &TIMEOUT).map_err(failed("set a time limit for"))?;
        connect(socket.as_raw_fd(), &address).map_err(|errno| cannot_connect(path, errno.into()))?;
        let (description, dma_buf) = receive_description(&socket, path)?;
        let bad = |why| Error::BadSocketMessage { path: path.to_owned(), why };
        let serves_view = description.view == Some(VIEW_VERSION);
        let size_bytes = description.size_bytes;
        let origin = description.origin().map_err(bad)?;
        let real = dma_buf::size_bytes(dma_buf.as_fd()).map_err(|error| bad(error.to_string()))?;
        if real != size_bytes {
            return Err(bad(format!("the message declares {size_bytes} bytes, but the dma-buf has {real}")));
        }
        let connection = Connection {
            socket: Mutex::new(socket),
            serves_view,
            is_broken: AtomicBool::new(false),
            removal: Removal::of(origin.to_string()),
        };
        Ok(Self { origin, dma_buf, connection: Arc::new(connection) })
    }

    /// Whether the sender serves reads and writes of its view. Without them, the bytes cannot be verified.
    pub fn serves_view(&self) -> bool {
        self.connection.serves_view
    }
}

fn cannot_connect(path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => Error::NoSocket { path },
        _ => Error::Socket { path, operation: "connect to", source },
    }
}

/// Receives the first message. Closes all file descriptors if there is not exactly one.
fn receive_description(socket: &OwnedFd, path: &Path) -> Result<(Description, OwnedFd), Error> {
    let bad = |why: &str| Error::BadSocketMessage { path: path.to_owned(), why: why.to_owned() };
    let mut bytes = vec![0; DESCRIPTION_BYTES];
    let mut received = message::receive(socket.as_fd(), &mut bytes).map_err(|source| Error::Socket {
        path: path.to_owned(),
        operation: "receive the dma-buf from",
        source: timed_out(source),
    })?;
    let message = &bytes[..received.length];
    if message.is_empty() {
        return Err(bad(
            "the sender closed the connection without a message; it does so if the receiver runs as another user",
        ));
    }
    if received.truncated {
        return Err(bad("the message is too long"));
    }
    if received.fds_lost {
        return Err(bad("the kernel truncated the list of file descriptors of the message"));
    }
    if let Some((Reply::Error(why), _)) = parse(message) {
        return Err(bad(&printable_within(&why, MOST_REASON_CHARACTERS)));
    }
    // The newline is optional, because the end of the message also ends the line.
    let line = message.strip_suffix(b"\n").unwrap_or(message);
    let description = serde_json::from_slice(line).map_err(|error| {
        // The error quotes the message.
        let quoted = printable_within(&error.to_string(), MOST_REASON_CHARACTERS);
        bad(&format!("cannot parse the message: {quoted}"))
    })?;
    match (received.fds.pop(), received.fds.len()) {
        (Some(fd), 0) => Ok((description, fd)),
        (None, _) => Err(bad("the message has no file descriptor")),
        (Some(_), more) => Err(bad(&format!("the message has {} file descriptors", more + 1))),
    }
}

impl Exporter for SocketExporter {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The sender reports a removal before it revokes the memory, so the report has arrived by the time that an access fails
    /// because of the removal.
    fn removal(&self) -> Option<&Removal> {
        if !self.connection.removal.is_requested() {
            let socket = self.connection.lock();
            self.connection.notice_removal(socket.as_fd());
        }
        Some(&self.connection.removal)
    }

    fn export(&self, length_bytes: u64) -> Result<Arc<Buffer>, Error> {
        check_length(self, length_bytes, page_bytes())?;
        let dma_buf = self.dma_buf.try_clone().map_err(|source| Error::Socket {
            path: PathBuf::from("the dma-buf"),
            operation: "duplicate",
            source,
        })?;
        let view = RemoteView { connection: Arc::clone(&self.connection), length_bytes };
        let origin = Origin { ranges: self.origin.front(length_bytes), ..self.origin.clone() };
        Ok(Arc::new(Buffer::new(Handle::DmaBuf(dma_buf), origin, Arc::new(view))))
    }
}

/// View that reads and writes through requests to the sender.
struct RemoteView {
    connection: Arc<Connection>,
    length_bytes: u64,
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, OwnedFd> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the messages that have arrived without a request, to find one that reports a removal.
    fn notice_removal(&self, socket: BorrowedFd<'_>) {
        let mut bytes = vec![0; MESSAGE_BYTES];
        let mut failed = false;
        for _ in 0..UNREQUESTED_MAX {
            if self.removal.is_requested() || !readable(socket, Duration::ZERO).unwrap_or(false) {
                return;
            }
            match message::receive(socket, &mut bytes) {
                Ok(received) if received.length == 0 => return,
                Ok(received) if is_removal(&bytes[..received.length]) => self.removal.request(),
                Ok(_) => {}
                // If the sender closed the connection with unread requests, the first call fails, and the next ones return the
                // messages.
                Err(_) if failed => return,
                Err(_) => failed = true,
            }
        }
        // More unrequested messages violate the protocol. Later replies could belong to any request.
        self.is_broken.store(true, Ordering::Relaxed);
    }

    /// Sends a request with at most [`CHUNK_BYTES`] of payload, and fills `into` with the bytes of the reply.
    fn request(&self, request: Request, payload: &[u8], into: &mut [u8]) -> io::Result<()> {
        if !self.serves_view {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the sender does not serve reads and writes"));
        }
        let socket = self.lock();
        // Replies carry no request number. After a lost or invalid reply, the next reply could belong to an earlier request.
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "an earlier reply of the sender was lost"));
        }
        let result = self.exchange(socket.as_fd(), request, payload, into);
        if result.is_err() {
            self.notice_removal(socket.as_fd());
            self.removal.refuse()?;
        }
        if result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Other) {
            self.is_broken.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Sends a request and receives its reply. An error that the sender reports has the kind `Other`.
    fn exchange(&self, socket: BorrowedFd<'_>, request: Request, payload: &[u8], into: &mut [u8]) -> io::Result<()> {
        send(socket, &request, payload, None)?;
        let mut bytes = vec![0; MESSAGE_BYTES];
        let received = message::receive(socket, &mut bytes).map_err(timed_out)?;
        if received.length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the sender closed the connection"));
        }
        if is_removal(&bytes[..received.length]) {
            self.removal.request();
        }
        let expected = into.len().max(payload.len());
        match parse(&bytes[..received.length]) {
            Some((Reply::Ok { length }, bytes)) if length == expected && bytes.len() == into.len() => {
                into.copy_from_slice(bytes);
                Ok(())
            }
            Some((Reply::Error(why), _)) => {
                let why = printable_within(&why, MOST_REASON_CHARACTERS);
                Err(io::Error::other(format!("the sender reports: {why}")))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the sender sent an invalid reply")),
        }
    }
}

/// Replaces EAGAIN, the errno of a timeout, by an error that names the timeout.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        return io::Error::new(io::ErrorKind::TimedOut, "the sender did not send in time");
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
            self.connection.request(Request::Read { offset: at, length: part.len() }, &[], part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        check_span(offset, from.len(), self.length_bytes)?;
        let mut at = offset;
        for part in from.chunks(CHUNK_BYTES) {
            self.connection.request(Request::Write { offset: at }, part, &mut [])?;
            at += part.len() as u64;
        }
        Ok(())
    }
}
