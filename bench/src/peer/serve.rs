//! Letting peers in: one is served at a time, and whoever has not proved itself costs a thread for some seconds.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::connection::{Connection, Lost, TIMES};
use super::frame::FrameError;
use super::handshake;
use super::message::{Answer, Request};
use super::token::Token;
use crate::interrupt::Interrupt;

/// Connections of which it is not known yet who they are; more are closed at once.
const MOST_STRANGERS: usize = 16;
/// How often to look for someone at the door, and for a signal.
const LOOK: Duration = Duration::from_millis(50);

/// What is said with a peer that was let in.
pub type Conversation = Connection<Answer, Request>;
/// Serves a peer.
pub type Session<'a> = dyn Fn(&Conversation) -> Result<(), Lost> + Sync + 'a;

/// What `serve` needs to know to serve.
pub struct Door<'a> {
    /// Where peers come in.
    pub listener: &'a TcpListener,
    /// What they have to know.
    pub token: &'a Token,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
    /// Takes a line for the operator.
    pub tell: &'a (dyn Fn(&str) + Sync),
    /// Serves a peer until it goes.
    pub session: &'a Session<'a>,
}

#[derive(Default)]
struct Inside {
    strangers: AtomicUsize,
    served: AtomicBool,
}

impl Door<'_> {
    /// Serves peers until the interrupt, and then sees the last one out.
    ///
    /// # Errors
    /// The listener failed.
    pub fn keep(&self) -> io::Result<()> {
        self.listener.set_nonblocking(true)?;
        let inside = Inside::default();
        thread::scope(|scope| {
            while !self.interrupt.is_set() {
                match self.listener.accept() {
                    Ok((stream, from)) if inside.strangers.load(Ordering::Relaxed) < MOST_STRANGERS => {
                        inside.strangers.fetch_add(1, Ordering::Relaxed);
                        let inside = &inside;
                        scope.spawn(move || self.answer(stream, from, inside));
                    }
                    Ok((_, from)) => (self.tell)(&format!("{from}: turned away, too many others are at the door")),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(LOOK),
                    // One that left again, or no file descriptors for the moment: nothing that another try could not mend.
                    Err(error) => {
                        (self.tell)(&format!("somebody could not be let in: {error}"));
                        thread::sleep(LOOK);
                    }
                }
            }
        });
        Ok(())
    }

    fn answer(&self, stream: TcpStream, from: SocketAddr, inside: &Inside) {
        // The listener's sockets are not always blocking ones.
        let known = stream.set_nonblocking(false).map_err(FrameError::from).map_err(Into::into);
        let known = known.and_then(|()| handshake::as_server(&stream, self.token, handshake::TIME));
        inside.strangers.fetch_sub(1, Ordering::Relaxed);
        if let Err(stranger) = known {
            return (self.tell)(&format!("{from}: not let in, {stranger}"));
        }
        let connection = match Connection::begin(stream, None, TIMES) {
            Ok(connection) => connection,
            Err(error) => return (self.tell)(&format!("{from}: not served, {error}")),
        };
        if inside.served.swap(true, Ordering::Acquire) {
            // It may be gone already.
            let _ = connection.say(&Answer::Refused { why: "another peer is being served".to_owned() });
            return (self.tell)(&format!("{from}: not served, another peer is"));
        }
        (self.tell)(&format!("{from}: served"));
        let end = (self.session)(&connection);
        inside.served.store(false, Ordering::Release);
        (self.tell)(&match end {
            Ok(()) | Err(Lost::Frame(FrameError::Closed)) => format!("{from}: done"),
            Err(lost) => format!("{from}: given up, {lost}; its memory is released"),
        });
    }
}
