//! The client's side of a connection: one function per request.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use peerpath_importers::Endpoint;
use peerpath_paths::{Explanation, Severity, printable_within, public_command_line};

use super::address;
use super::connection::{Connection, ConnectionError, TIMES};
use super::error::PeerError;
use super::handshake::{self, HandshakeError};
use super::message::{
    Closed, Echo, Echoing, Fill, MOST_REASON_CHARACTERS, Offer, Open, Opened, Post, Posted, Request, Response, Verify,
};
use super::remote_memory::RemoteMemory;
use super::token::Token;
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// Timeout for one connection attempt.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Connection to the server, which serves the exported memory.
pub struct Client {
    connection: Connection<Request, Response>,
    interrupt: Interrupt,
    offer: Offer,
}

impl Client {
    /// Connects to the server at `HOST[:PORT]`. When the connection is lost, sets the flag of `interrupt`.
    ///
    /// # Errors
    /// The client cannot reach the server, or the handshake fails.
    pub fn connect(at: &str, token: &Token, interrupt: &Interrupt) -> Result<Self, Failure> {
        let stream = reach(&address::resolve(at)?).map_err(|error| {
            let explanation = Explanation::uncaused(
                error.to_string(),
                "Start the server on the other host, and check that it listens at this address and that no firewall blocks it.",
            );
            Failure::new(format!("cannot reach a peer at {at}"), explanation, Severity::Unavailable)
        })?;
        handshake::as_client(&stream, token, handshake::TIME).map_err(|error| rejected(at, &error))?;
        // No cell has run yet, so only the connection failed.
        Self::begin(stream, interrupt).map_err(|error| Failure::of(&error).with_severity(Severity::Unavailable))
    }

    fn begin(stream: TcpStream, interrupt: &Interrupt) -> Result<Self, PeerError> {
        let connection = Connection::begin(stream, Some(interrupt.clone()), TIMES)
            .map_err(|error| ConnectionError::Frame(super::frame::FrameError::Broken(error)))?;
        match connection.receive(interrupt)? {
            Response::Offer(mut offer) => {
                // The server may be another program and send its whole kernel command line.
                offer.environment.command_line = offer.environment.command_line.map(|text| public_command_line(&text));
                Ok(Self { connection, interrupt: interrupt.clone(), offer: *offer })
            }
            other => Err(unexpected(other)),
        }
    }

    /// Description of the server and of the sources that it serves.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    fn request(&self, request: &Request) -> Result<Response, PeerError> {
        self.connection.send(request)?;
        Ok(self.connection.receive(&self.interrupt)?)
    }

    /// Opens a cell on the server.
    ///
    /// # Errors
    /// The server cannot open the cell, or the connection is lost. In both cases no cell is open.
    pub fn open(&self, cell: Open) -> Result<Opened, PeerError> {
        match self.request(&Request::Open(cell))? {
            Response::Opened(opened) => Ok(*opened),
            other => Err(unexpected(other)),
        }
    }

    /// Connects the queue pairs of the cell to those of `endpoint`.
    ///
    /// # Errors
    /// The queue pairs cannot be connected, or the connection to the server is lost.
    pub fn connect_to(&self, endpoint: &Endpoint) -> Result<(), PeerError> {
        match self.request(&Request::Connect(endpoint.clone()))? {
            Response::Connected => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Closes the cell on the server.
    ///
    /// # Errors
    /// The server fails to release the resources of the cell, or the connection is lost.
    pub fn close(&self) -> Result<Closed, PeerError> {
        match self.request(&Request::Close)? {
            Response::Closed(closed) => Ok(*closed),
            other => Err(unexpected(other)),
        }
    }
}

impl RemoteMemory for Client {
    fn fill(&self, fill: Fill) -> Result<(), PeerError> {
        match self.request(&Request::Fill(fill))? {
            Response::Filled => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn verify(&self, verify: Verify) -> Result<(), PeerError> {
        match self.request(&Request::Verify(verify))? {
            Response::Verified => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn echo(&self, back: &[u64]) -> Result<Vec<u8>, PeerError> {
        match self.request(&Request::Echo(Echo { back: back.to_vec() }))? {
            Response::Echoing(Echoing { last_bytes }) if last_bytes.len() == back.len() => Ok(last_bytes),
            Response::Echoing(_) => Err(PeerError::Unexpected),
            other => Err(unexpected(other)),
        }
    }

    fn stop_echo(&self) -> Result<(), PeerError> {
        match self.request(&Request::Rest)? {
            Response::Resting => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn post(&self, post: Post) -> Result<(), PeerError> {
        match self.request(&Request::Post(post))? {
            Response::Posting => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn request_posted(&self) -> Result<(), PeerError> {
        Ok(self.connection.send(&Request::Rest)?)
    }

    fn try_posted(&self) -> Result<Option<Posted>, PeerError> {
        match self.connection.try_receive()? {
            None => Ok(None),
            Some(Response::Posted(posted)) => Ok(Some(posted)),
            Some(other) => Err(unexpected(other)),
        }
    }
}

/// Connects to the first address that accepts the connection.
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

fn unexpected(response: Response) -> PeerError {
    match response {
        Response::Failed(failed) => PeerError::Failed(failed),
        Response::Refused { why } => PeerError::Refused(printable_within(&why, MOST_REASON_CHARACTERS)),
        _ => PeerError::Unexpected,
    }
}

fn rejected(at: &str, error: &HandshakeError) -> Failure {
    let (remedy, severity) = match error {
        HandshakeError::Token | HandshakeError::Refused { .. } => {
            ("Give both sides the same token. A server serves one peer at a time.", Severity::Unavailable)
        }
        HandshakeError::Version { .. } => ("Use the same version of peerpath on both hosts.", Severity::Unavailable),
        HandshakeError::NoRandom(_) => ("Report this as a bug.", Severity::Internal),
        HandshakeError::Frame(_) | HandshakeError::Unexpected => {
            ("Check that the server listens at this address, and see its output.", Severity::Unavailable)
        }
    };
    let explanation = Explanation::uncaused(error.to_string(), remedy);
    Failure::new(format!("cannot connect to the peer at {at}"), explanation, severity)
}
