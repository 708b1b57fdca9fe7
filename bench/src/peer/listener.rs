//! Accepts clients and serves one at a time. A connection with an incomplete handshake occupies a thread for at most
//! 10 seconds, and `admission` limits the number of such connections in total and per address.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::admission::{Admission, Ticket};
use super::connection::{Connection, ConnectionError, TIMES};
use super::event_log::Throttle;
use super::frame::FrameError;
use super::handshake::{self, HandshakeError};
use super::message::{Request, Response};
use super::token::Token;
use crate::interrupt::Interrupt;

/// Interval between checks for a new connection and for a signal.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The server's side of a connection: sends responses and receives requests.
pub type ServerConnection = Connection<Response, Request>;
/// Function that serves a client until the client closes the connection.
pub type Session<'a> = dyn Fn(&ServerConnection) -> Result<(), ConnectionError> + Sync + 'a;

/// Accepts clients at an address.
pub struct Listener<'a> {
    /// The listening socket.
    pub socket: &'a TcpListener,
    /// The token that clients have to know.
    pub token: &'a Token,
    /// Flag that ends the listener.
    pub interrupt: &'a Interrupt,
    /// Receives one line of text per event, for the operator. Rejections are reported at most once per 10 seconds.
    pub log: &'a (dyn Fn(&str) + Sync),
    /// Called for each client that is served.
    pub session: &'a Session<'a>,
}

#[derive(Default)]
struct Connections {
    /// Connections with an incomplete handshake.
    admission: Mutex<Admission<Arc<TcpStream>>>,
    rejections: Mutex<Throttle>,
    served: AtomicBool,
}

impl Connections {
    fn admission(&self) -> MutexGuard<'_, Admission<Arc<TcpStream>>> {
        // No code can panic in the middle of a change, so a poisoned mutex is harmless.
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rejections(&self) -> MutexGuard<'_, Throttle> {
        self.rejections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resets the flag `served` when the session ends, also if it panics.
struct Served<'a>(&'a AtomicBool);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Listener<'_> {
    /// Serves clients until the interrupt flag is set, then waits until the last connection ends.
    ///
    /// # Errors
    /// The listening socket cannot be made non-blocking.
    pub fn serve(&self) -> io::Result<()> {
        self.socket.set_nonblocking(true)?;
        let connections = Connections::default();
        thread::scope(|scope| {
            while !self.interrupt.is_set() {
                self.log_summary(&connections);
                match self.socket.accept() {
                    Ok((stream, from)) => {
                        let Some((ticket, stream)) = self.admit(stream, from, &connections) else { continue };
                        let connections = &connections;
                        let accept = move || self.accept(ticket, stream, from, connections);
                        if let Err(error) = thread::Builder::new().spawn_scoped(scope, accept) {
                            connections.admission().leave(ticket);
                            self.reject(connections, &format!("{from}: rejected, cannot start a thread: {error}"));
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(POLL_INTERVAL),
                    // Either the client closed the connection already, or no file descriptor is free. The next attempt may
                    // succeed.
                    Err(error) => {
                        self.reject(&connections, &format!("cannot accept a connection: {error}"));
                        thread::sleep(POLL_INTERVAL);
                    }
                }
            }
            for stream in connections.admission().connections() {
                // The shutdown fails if the client closed the connection already.
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Ok(())
    }

    /// Logs a rejection. Only counts it if a rejection was logged within the last 10 seconds.
    fn reject(&self, connections: &Connections, line: &str) {
        self.log_summary(connections);
        let prints = connections.rejections().lets_through(Instant::now());
        if prints {
            (self.log)(line);
        }
    }

    fn log_summary(&self, connections: &Connections) {
        let summary = connections.rejections().summary(Instant::now());
        if let Some(summary) = summary {
            (self.log)(&summary);
        }
    }

    /// Admits a connection to the handshake; `None` if the wrong proofs of its address have reached the limit.
    fn admit(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        connections: &Connections,
    ) -> Option<(Ticket, Arc<TcpStream>)> {
        let stream = Arc::new(stream);
        let admitted = connections.admission().admit(from.ip(), Arc::clone(&stream), Instant::now());
        match admitted {
            Ok((ticket, displaced)) => {
                if let Some(displaced) = displaced {
                    let _ = displaced.shutdown(Shutdown::Both);
                }
                Some((ticket, stream))
            }
            Err(_) => {
                handshake::refuse_for_now(&stream);
                self.reject(connections, &format!("{from}: rejected, too many wrong tokens from this address"));
                None
            }
        }
    }

    fn accept(&self, ticket: Ticket, stream: Arc<TcpStream>, from: SocketAddr, connections: &Connections) {
        // On some systems an accepted socket inherits the non-blocking mode of the listener, so reset it.
        let handshake = stream.set_nonblocking(false).map_err(FrameError::from).map_err(Into::into);
        let handshake = handshake.and_then(|()| handshake::as_server(&stream, self.token, handshake::TIME));
        let is_admitted = {
            let mut admission = connections.admission();
            if matches!(handshake, Err(HandshakeError::Token)) {
                admission.wrong_proof(from.ip(), Instant::now());
            }
            admission.leave(ticket).is_some()
        };
        // A displaced connection was shut down, possibly during the handshake.
        let stream = match (handshake, Arc::into_inner(stream).filter(|_| is_admitted)) {
            (Err(error), Some(_)) => return self.reject(connections, &format!("{from}: rejected, {error}")),
            (_, None) => {
                return self.reject(connections, &format!("{from}: rejected, displaced by a newer connection"));
            }
            (Ok(()), Some(stream)) => stream,
        };
        let connection = match Connection::begin(stream, None, TIMES) {
            Ok(connection) => connection,
            Err(error) => return (self.log)(&format!("{from}: rejected, {error}")),
        };
        if connections.served.swap(true, Ordering::Acquire) {
            // Sending fails if the client closed the connection already.
            let _ = connection.send(&Response::Refused { why: "another peer is being served".to_owned() });
            return (self.log)(&format!("{from}: rejected, another peer is being served"));
        }
        (self.log)(&format!("serving {from}"));
        let served = Served(&connections.served);
        let end = (self.session)(&connection);
        drop(served);
        (self.log)(&match end {
            Ok(()) | Err(ConnectionError::Frame(FrameError::Closed)) => format!("{from}: done"),
            Err(lost) => format!("{from}: connection lost, {lost}; released the memory of this client"),
        });
    }
}
