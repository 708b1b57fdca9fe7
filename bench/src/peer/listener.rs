//! Accepts clients and serves one at a time. A connection with an incomplete handshake occupies a thread for at most some
//! seconds.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::connection::{Connection, ConnectionError, TIMES};
use super::frame::FrameError;
use super::handshake;
use super::message::{Request, Response};
use super::token::Token;
use crate::interrupt::Interrupt;

/// Maximum number of connections with an incomplete handshake. Further connections are closed at once.
const MOST_UNAUTHENTICATED: usize = 16;
/// Interval between checks for a new connection and for a signal.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The server's side of a connection: sends responses and receives requests.
pub type ServerConnection = Connection<Response, Request>;
/// Serves a client until it closes the connection.
pub type Session<'a> = dyn Fn(&ServerConnection) -> Result<(), ConnectionError> + Sync + 'a;

/// Accepts clients at an address.
pub struct Listener<'a> {
    /// The listening socket.
    pub socket: &'a TcpListener,
    /// The token that clients have to know.
    pub token: &'a Token,
    /// Flag that ends the listener.
    pub interrupt: &'a Interrupt,
    /// Receives one line of text per event, for the operator.
    pub log: &'a (dyn Fn(&str) + Sync),
    /// Serves one client.
    pub session: &'a Session<'a>,
}

#[derive(Default)]
struct Connections {
    unauthenticated: AtomicUsize,
    served: AtomicBool,
}

impl Listener<'_> {
    /// Serves clients until the interrupt flag is set, then waits until the last connection ends.
    ///
    /// # Errors
    /// The listening socket fails.
    pub fn serve(&self) -> io::Result<()> {
        self.socket.set_nonblocking(true)?;
        let connections = Connections::default();
        thread::scope(|scope| {
            while !self.interrupt.is_set() {
                match self.socket.accept() {
                    Ok((stream, from))
                        if connections.unauthenticated.load(Ordering::Relaxed) < MOST_UNAUTHENTICATED =>
                    {
                        connections.unauthenticated.fetch_add(1, Ordering::Relaxed);
                        let connections = &connections;
                        scope.spawn(move || self.accept(stream, from, connections));
                    }
                    Ok((_, from)) => {
                        (self.log)(&format!("{from}: rejected, too many connections are waiting for their handshake"))
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(POLL_INTERVAL),
                    // Either the client closed the connection already, or no file descriptor is free. The next attempt may
                    // succeed.
                    Err(error) => {
                        (self.log)(&format!("cannot accept a connection: {error}"));
                        thread::sleep(POLL_INTERVAL);
                    }
                }
            }
        });
        Ok(())
    }

    fn accept(&self, stream: TcpStream, from: SocketAddr, connections: &Connections) {
        // On some systems an accepted socket inherits the non-blocking mode of the listener, so reset it.
        let handshake = stream.set_nonblocking(false).map_err(FrameError::from).map_err(Into::into);
        let handshake = handshake.and_then(|()| handshake::as_server(&stream, self.token, handshake::TIME));
        connections.unauthenticated.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = handshake {
            return (self.log)(&format!("{from}: rejected, {error}"));
        }
        let connection = match Connection::begin(stream, None, TIMES) {
            Ok(connection) => connection,
            Err(error) => return (self.log)(&format!("{from}: rejected, {error}")),
        };
        if connections.served.swap(true, Ordering::Acquire) {
            // Sending fails if the client closed the connection already.
            let _ = connection.send(&Response::Refused { why: "another peer is being served".to_owned() });
            return (self.log)(&format!("{from}: rejected, another peer is being served"));
        }
        (self.log)(&format!("{from}: served"));
        let end = (self.session)(&connection);
        connections.served.store(false, Ordering::Release);
        (self.log)(&match end {
            Ok(()) | Err(ConnectionError::Frame(FrameError::Closed)) => format!("{from}: done"),
            Err(lost) => format!("{from}: connection lost, {lost}; released the memory of this client"),
        });
    }
}
