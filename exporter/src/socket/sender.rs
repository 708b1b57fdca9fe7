//! Sender of a dma-buf to other processes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, SockFlag, accept4, getsockopt, setsockopt, shutdown, sockopt};
use nix::sys::time::TimeVal;

use super::listen::Listener;
use super::protocol::{CHUNK_BYTES, Description, MESSAGE_BYTES, Reply, Request, parse, send, send_removal};
use crate::sys::message::receive;
use crate::{Buffer, Error, Exporter, Removal};

/// Maximum number of connected receivers, to limit the number of threads.
const RECEIVERS_MAX: usize = 32;
/// Timeout for sending one message to a receiver.
const SEND_TIMEOUT: TimeVal = TimeVal::new(5, 0);
/// Interval between checks of the stop flag.
const TICK: Duration = Duration::from_millis(200);

/// Sends the file descriptor of a dma-buf to each receiver that connects. Only processes of the same user or of root
/// may receive it.
pub struct DmaBufSender {
    listener: Listener,
    buffer: Arc<Buffer>,
    removal: Option<Removal>,
}

/// Sockets of the connected receivers.
type Connected = Mutex<Vec<Arc<OwnedFd>>>;

impl DmaBufSender {
    /// Exports the whole source as one dma-buf and listens on a socket at `path` with mode 0600.
    ///
    /// # Errors
    /// Same as [`Exporter::export`]. [`Error::NotADmaBuf`] if the source is not exported as one dma-buf.
    /// [`Error::BadSocketPath`], [`Error::SocketTaken`] or [`Error::Socket`] if the socket cannot be created.
    pub fn new(path: &Path, exporter: &dyn Exporter) -> Result<Self, Error> {
        let buffer = exporter.export(exporter.length_bytes())?;
        if buffer.dma_buf().is_none() {
            return Err(Error::NotADmaBuf { source_name: exporter.origin().to_string() });
        }
        Ok(Self { listener: Listener::bind(path)?, buffer, removal: exporter.removal().cloned() })
    }

    /// Returns the exported buffer.
    pub fn buffer(&self) -> &Arc<Buffer> {
        &self.buffer
    }

    /// Serves receivers until `stop` is set, which is checked every 200 ms, or until the kernel requests the release of the
    /// memory's function. Then closes every connection.
    ///
    /// # Errors
    /// [`Error::Removed`] if the kernel requests the release of the function: drop the sender and the exporter, so that the
    /// removal can proceed. The sender has then tried to report the removal to every receiver. [`Error::Socket`] if the
    /// listening socket fails. An error of one receiver's connection only closes that connection.
    pub fn serve(&self, stop: &AtomicBool) -> Result<(), Error> {
        let connected = Connected::default();
        let has_ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let served = loop {
                if stop.load(Ordering::Relaxed) {
                    break Ok(());
                }
                if let Some(removal) = self.requested_removal() {
                    break Err(removal.error());
                }
                match self.accept() {
                    Ok(None) => {}
                    Ok(Some(socket)) if lock(&connected).len() >= RECEIVERS_MAX => {
                        let busy = Reply::Error(format!("{RECEIVERS_MAX} receivers are connected already"));
                        let _ = send(socket.as_fd(), &busy, &[], None);
                    }
                    Ok(Some(socket)) => {
                        let socket = Arc::new(socket);
                        lock(&connected).push(Arc::clone(&socket));
                        let (connected, has_ended) = (&connected, &has_ended);
                        let receiver = Arc::clone(&socket);
                        let serve = move || {
                            // An error closes only the connection of this receiver.
                            let _ = self.serve_receiver(receiver.as_fd(), has_ended);
                            lock(connected).retain(|other| !Arc::ptr_eq(other, &receiver));
                        };
                        if let Err(error) = thread::Builder::new().spawn_scoped(scope, serve) {
                            let busy = Reply::Error(format!("the sender cannot start a thread: {error}"));
                            let _ = send(socket.as_fd(), &busy, &[], None);
                            lock(connected).retain(|other| !Arc::ptr_eq(other, &socket));
                        }
                    }
                    Err(source) => {
                        let path = self.listener.path().to_owned();
                        break Err(Error::Socket { path, operation: "wait for receivers at", source });
                    }
                }
            };
            has_ended.store(true, Ordering::Relaxed);
            for socket in &*lock(&connected) {
                if let Err(error @ Error::Removed { .. }) = &served {
                    let _ = send_removal(socket.as_fd(), error);
                }
                // Wakes the thread that serves the receiver, even while its send waits for the receiver to read.
                let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
            }
            served
        })
    }

    fn requested_removal(&self) -> Option<&Removal> {
        self.removal.as_ref().filter(|removal| removal.is_requested())
    }

    /// Accepts a connection and sets its send timeout. `None` if none arrived in time or the peer's user has no
    /// permission.
    fn accept(&self) -> io::Result<Option<OwnedFd>> {
        if !readable(self.listener.socket.as_fd(), TICK)? {
            return Ok(None);
        }
        let socket = match accept4(self.listener.socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Ok(fd) => crate::sys::adopt(fd)?,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => return Ok(None),
            // The host may lack file descriptors or memory only temporarily.
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
                std::thread::sleep(TICK);
                return Ok(None);
            }
            Err(errno) => return Err(errno.into()),
        };
        if setsockopt(&socket, sockopt::SendTimeout, &SEND_TIMEOUT).is_err() || !may_receive(socket.as_fd()) {
            return Ok(None);
        }
        Ok(Some(socket))
    }

    fn serve_receiver(&self, socket: BorrowedFd<'_>, has_ended: &AtomicBool) -> io::Result<()> {
        let description = Description::new(self.buffer.origin(), self.buffer.length_bytes());
        send(socket, &description, &[], self.buffer.dma_buf())?;
        let mut message = vec![0; MESSAGE_BYTES];
        let mut bytes = vec![0; CHUNK_BYTES];
        while !has_ended.load(Ordering::Relaxed) {
            if !readable(socket, TICK)? {
                continue;
            }
            let received = receive(socket, &mut message)?;
            if received.length == 0 {
                return Ok(());
            }
            let request = if received.truncated || received.fds_lost || !received.fds.is_empty() {
                None
            } else {
                parse::<Request>(&message[..received.length])
            };
            let Some((request, payload)) = request else {
                return send(socket, &Reply::Error("invalid request".to_owned()), &[], None);
            };
            let carried_out = self.carry_out(request, payload, &mut bytes);
            if let Some(removal) = self.requested_removal() {
                return send_removal(socket, &removal.error());
            }
            match carried_out {
                Ok(bytes) => send(socket, &Reply::Ok { length: bytes.len().max(payload.len()) }, bytes, None)?,
                Err(error) => send(socket, &Reply::Error(error.to_string()), &[], None)?,
            }
        }
        Ok(())
    }

    /// Executes a request and returns the bytes of the reply.
    fn carry_out<'a>(&self, request: Request, payload: &[u8], bytes: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let view = self.buffer.view();
        match request {
            Request::Read { offset, length } => {
                let too_much = || io::Error::new(io::ErrorKind::InvalidInput, "the read exceeds 64 KiB");
                let bytes = bytes.get_mut(..length).ok_or_else(too_much)?;
                view.read(offset, bytes)?;
                Ok(bytes)
            }
            Request::Write { offset } => {
                view.write(offset, payload)?;
                Ok(&[])
            }
        }
    }
}

fn lock(connected: &Connected) -> MutexGuard<'_, Vec<Arc<OwnedFd>>> {
    connected.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks the user of the connected process, as the kernel recorded it (`SO_PEERCRED`).
fn may_receive(socket: BorrowedFd<'_>) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    getsockopt(&socket, sockopt::PeerCredentials).is_ok_and(|peer| is_permitted(peer.uid(), own))
}

/// Permits root and this process's own user.
fn is_permitted(peer_uid: u32, own_uid: u32) -> bool {
    peer_uid == 0 || peer_uid == own_uid
}

/// Waits until the socket has a message or is closed, at most for `limit`. Returns false at the limit.
pub(super) fn readable(socket: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
    match poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], timeout) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn permits_root_and_the_same_user() {
        for (peer, own, permitted) in
            [(0, 0, true), (0, 1000, true), (1000, 1000, true), (1000, 0, false), (1001, 1000, false)]
        {
            assert_eq!(super::is_permitted(peer, own), permitted, "{peer} at {own}");
        }
    }
}
