//! The client's side of a connection: one function per request.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use peerpath_importers::Endpoint;
use peerpath_paths::{Explanation, Severity};

use super::address;
use super::connection::{Connection, Lost, TIMES};
use super::error::PeerError;
use super::handshake::{self, Stranger};
use super::message::{Answer, Closed, Echo, Echoing, Fill, Offer, Open, Opened, Post, Posted, Request, Verify};
use super::token::Token;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::window::Remote;

/// A host that does not answer a connection for so long is not there.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A connection to the host that serves memory.
pub struct Client {
    connection: Connection<Request, Answer>,
    interrupt: Interrupt,
    offer: Offer,
}

impl Client {
    /// Connects to the server at `HOST[:PORT]`. When the connection is lost, `interrupt` is stopped.
    ///
    /// # Errors
    /// The server cannot be reached, or the handshake fails.
    pub fn connect(at: &str, token: &Token, interrupt: &Interrupt) -> Result<Self, Failure> {
        let stream = reach(&address::resolve(at)?).map_err(|error| Failure {
            what: format!("no peer could be reached at {at}"),
            explanation: Explanation::uncaused(
                error.to_string(),
                "start `peerpath serve --listen ADDRESS` on the other host, and see that no firewall is between",
            ),
            severity: Severity::Unavailable,
        })?;
        handshake::as_client(&stream, token, handshake::TIME).map_err(|stranger| not_let_in(at, &stranger))?;
        // Nothing has run yet.
        Self::begin(stream, interrupt)
            .map_err(|error| Failure { severity: Severity::Unavailable, ..Failure::of(&error) })
    }

    fn begin(stream: TcpStream, interrupt: &Interrupt) -> Result<Self, PeerError> {
        let connection = Connection::begin(stream, Some(interrupt.clone()), TIMES)
            .map_err(|error| Lost::Frame(super::frame::FrameError::Broken(error)))?;
        match connection.hear(interrupt)? {
            Answer::Offer(offer) => Ok(Self { connection, interrupt: interrupt.clone(), offer: *offer }),
            other => Err(unexpected(other)),
        }
    }

    /// Who it is and what it serves.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    fn ask(&self, request: &Request) -> Result<Answer, PeerError> {
        self.connection.say(request)?;
        Ok(self.connection.hear(&self.interrupt)?)
    }

    /// Opens a cell.
    ///
    /// # Errors
    /// It could not, and nothing is open.
    pub fn open(&self, cell: Open) -> Result<Opened, PeerError> {
        match self.ask(&Request::Open(cell))? {
            Answer::Opened(opened) => Ok(*opened),
            other => Err(unexpected(other)),
        }
    }

    /// Connects its end to ours.
    ///
    /// # Errors
    /// It could not.
    pub fn connect_to(&self, endpoint: &Endpoint) -> Result<(), PeerError> {
        match self.ask(&Request::Connect(endpoint.clone()))? {
            Answer::Connected => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Closes the cell.
    ///
    /// # Errors
    /// It could not.
    pub fn close(&self) -> Result<Closed, PeerError> {
        match self.ask(&Request::Close)? {
            Answer::Closed(closed) => Ok(*closed),
            other => Err(unexpected(other)),
        }
    }
}

impl Remote for Client {
    fn fill(&self, fill: Fill) -> Result<(), PeerError> {
        match self.ask(&Request::Fill(fill))? {
            Answer::Filled => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn verify(&self, verify: Verify) -> Result<(), PeerError> {
        match self.ask(&Request::Verify(verify))? {
            Answer::Verified => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn echo(&self, back: &[u64]) -> Result<Vec<u8>, PeerError> {
        match self.ask(&Request::Echo(Echo { back: back.to_vec() }))? {
            Answer::Echoing(Echoing { last_bytes }) if last_bytes.len() == back.len() => Ok(last_bytes),
            Answer::Echoing(_) => Err(PeerError::OutOfTurn),
            other => Err(unexpected(other)),
        }
    }

    fn rest(&self) -> Result<(), PeerError> {
        match self.ask(&Request::Rest)? {
            Answer::Resting => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn post(&self, post: Post) -> Result<(), PeerError> {
        match self.ask(&Request::Post(post))? {
            Answer::Posting => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn ask_posted(&self) -> Result<(), PeerError> {
        Ok(self.connection.say(&Request::Rest)?)
    }

    fn posted(&self) -> Result<Option<Posted>, PeerError> {
        match self.connection.heard()? {
            None => Ok(None),
            Some(Answer::Posted(posted)) => Ok(Some(posted)),
            Some(other) => Err(unexpected(other)),
        }
    }
}

/// The first of them that answers.
fn reach(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::NotFound.into();
    for address in addresses {
        match TcpStream::connect_timeout(address, CONNECT_TIME) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn unexpected(answer: Answer) -> PeerError {
    match answer {
        Answer::Failed(failed) => PeerError::Failed(failed),
        Answer::Refused { why } => PeerError::Refused(why.chars().take(200).collect()),
        _ => PeerError::OutOfTurn,
    }
}

fn not_let_in(at: &str, stranger: &Stranger) -> Failure {
    let (remedy, class) = match stranger {
        Stranger::Token | Stranger::Refused { .. } => (
            "give both sides the same token, with --token-file or PEERPATH_TOKEN; one peer is served at a time",
            Severity::Unavailable,
        ),
        Stranger::Version { .. } => ("use the same peerpath on both hosts", Severity::Unavailable),
        Stranger::NoRandom(_) => ("report this as a bug", Severity::Internal),
        Stranger::Frame(_) | Stranger::OutOfTurn => {
            ("see that it is `peerpath serve` that listens there, and what it printed", Severity::Unavailable)
        }
    };
    Failure {
        what: format!("the peer at {at} does not talk to us"),
        explanation: Explanation::uncaused(stranger.to_string(), remedy),
        severity: class,
    }
}
