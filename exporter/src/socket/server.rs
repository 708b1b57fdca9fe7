//! The exporting side: `peerpath export`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockFlag, accept4, getsockopt, setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::listen::Listener;
use super::protocol::{Answer, CHUNK_BYTES, Hello, MESSAGE_BYTES, Request, parse, send};
use crate::sys::message::receive;
use crate::{Buffer, Error, Exporter};

/// More receivers at once than anybody has devices for; it bounds our threads.
const RECEIVERS_MAX: usize = 32;
/// How long a receiver may keep an answer waiting.
const SEND_PATIENCE: TimeVal = TimeVal::new(5, 0);
/// How often we look whether to stop.
const TICK: Duration = Duration::from_millis(200);

/// Holds a dma-buf and gives its fd to whoever may have it: processes of the same user, and root.
pub struct ExportServer {
    listener: Listener,
    buffer: Arc<Buffer>,
}

impl ExportServer {
    /// Exports the whole source and listens at `path`, which only this user can reach.
    ///
    /// # Errors
    /// The export failed, the source is no dma-buf, or the socket cannot be made there.
    pub fn new(path: &Path, exporter: &dyn Exporter) -> Result<Self, Error> {
        let buffer = exporter.export(exporter.length_bytes())?;
        if buffer.dma_buf().is_none() {
            return Err(Error::NothingToHandOver { source_name: exporter.origin().to_string() });
        }
        Ok(Self { listener: Listener::bind(path)?, buffer })
    }

    /// What is handed over.
    pub fn buffer(&self) -> &Arc<Buffer> {
        &self.buffer
    }

    /// Serves until `stop` is set (looked at a few times a second).
    ///
    /// # Errors
    /// The listening socket failed; what goes wrong with a receiver ends that receiver's connection only.
    pub fn serve(&self, stop: &AtomicBool) -> Result<(), Error> {
        let receivers = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let stopping = || stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            while !stopping() {
                match self.accept() {
                    Ok(None) => {}
                    Ok(Some(socket)) if receivers.load(Ordering::Acquire) >= RECEIVERS_MAX => {
                        let busy = Answer::Error(format!("{RECEIVERS_MAX} receivers are served already"));
                        let _ = send(socket.as_fd(), &busy, &[], None);
                    }
                    Ok(Some(socket)) => {
                        receivers.fetch_add(1, Ordering::AcqRel);
                        let receivers = &receivers;
                        scope.spawn(move || {
                            // The receiver's trouble, not ours: it sees its connection end.
                            let _ = self.attend(socket.as_fd(), &stopping);
                            receivers.fetch_sub(1, Ordering::AcqRel);
                        });
                    }
                    Err(source) => {
                        failed.store(true, Ordering::Relaxed);
                        let path = self.listener.path().to_owned();
                        return Err(Error::Socket { path, operation: "wait for receivers at", source });
                    }
                }
            }
            Ok(())
        })
    }

    /// A new connection, set up so that it cannot hang us; `None` where none came in time or it may not be served.
    fn accept(&self) -> io::Result<Option<OwnedFd>> {
        if !readable(self.listener.socket.as_fd(), TICK)? {
            return Ok(None);
        }
        let socket = match accept4(self.listener.socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Ok(fd) => crate::sys::adopt(fd)?,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => return Ok(None),
            // A passing shortage; the next tick tries again.
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
                std::thread::sleep(TICK);
                return Ok(None);
            }
            Err(errno) => return Err(errno.into()),
        };
        if setsockopt(&socket, sockopt::SendTimeout, &SEND_PATIENCE).is_err() || !may_have_it(socket.as_fd()) {
            return Ok(None);
        }
        Ok(Some(socket))
    }

    fn attend(&self, socket: BorrowedFd<'_>, stopping: &dyn Fn() -> bool) -> io::Result<()> {
        let hello = Hello::new(self.buffer.origin(), self.buffer.length_bytes());
        send(socket, &hello, &[], self.buffer.dma_buf())?;
        let mut message = vec![0; MESSAGE_BYTES];
        let mut bytes = vec![0; CHUNK_BYTES];
        while !stopping() {
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
                return send(socket, &Answer::Error("that is no request".to_owned()), &[], None);
            };
            match self.answer(request, payload, &mut bytes) {
                Ok(bytes) => send(socket, &Answer::Ok { length: bytes.len().max(payload.len()) }, bytes, None)?,
                Err(error) => send(socket, &Answer::Error(error.to_string()), &[], None)?,
            }
        }
        Ok(())
    }

    /// Does what is asked; answers with the bytes to send back.
    fn answer<'a>(&self, request: Request, payload: &[u8], bytes: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let view = self.buffer.view();
        match request {
            Request::Read { offset, length } => {
                let too_much = || io::Error::new(io::ErrorKind::InvalidInput, "a read of more than 64 KiB");
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

/// Whether the peer may have the memory, by what the kernel noted when it connected.
fn may_have_it(socket: BorrowedFd<'_>) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    getsockopt(&socket, sockopt::PeerCredentials).is_ok_and(|peer| is_welcome(peer.uid(), own))
}

/// Root, and the user we run as.
fn is_welcome(peer_uid: u32, own_uid: u32) -> bool {
    peer_uid == 0 || peer_uid == own_uid
}

fn readable(socket: BorrowedFd<'_>, patience: Duration) -> io::Result<bool> {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
    match poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], timeout) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_root_and_the_same_user_are_welcome() {
        for (peer, own, welcome) in
            [(0, 0, true), (0, 1000, true), (1000, 1000, true), (1000, 0, false), (1001, 1000, false)]
        {
            assert_eq!(super::is_welcome(peer, own), welcome, "{peer} at {own}");
        }
    }
}
