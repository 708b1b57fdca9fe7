//! The handshake: both sides check that they use the same version and know the same token, before any other message.
//!
//! The client proves its knowledge first: a port scanner receives nothing that is derived from the token.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::VERSION;
use super::frame::{self, FrameError, Timed};
use super::token::{Nonce, Proof, Side, Token};

/// Longest time for the whole handshake, however slowly the other side sends.
pub const TIME: Duration = Duration::from_secs(10);

/// The messages of the handshake, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Handshake {
    /// The server, as soon as somebody connects. This message keeps its form in every version.
    Hello {
        /// Of everything that follows.
        version: u32,
        /// Made up for this connection.
        nonce: Nonce,
    },
    /// The client.
    Prove {
        /// The same version.
        version: u32,
        /// Made up for this connection.
        nonce: Nonce,
        /// Its proof.
        proof: Proof,
    },
    /// The server, where the proof is right.
    Welcome {
        /// Its own proof.
        proof: Proof,
    },
    /// Either side, in place of any of these, before it closes the connection. It keeps its form in every version.
    Refused {
        /// Why.
        why: String,
    },
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection was lost, or the other side is not peerpath.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It uses another version.
    #[error("the peer uses version {theirs} of the protocol, and this program uses version {VERSION}")]
    Version {
        /// Which.
        theirs: u32,
    },
    /// It does not know the token.
    #[error("the peer has not proved that it knows the token")]
    Token,
    /// It rejected the connection, and said why.
    #[error("the peer refused: {why}")]
    Refused {
        /// In its own words.
        why: String,
    },
    /// It sent a message that does not belong here.
    #[error("unexpected message from the peer")]
    Unexpected,
    /// The kernel has no random bytes.
    #[error("the kernel gave no random bytes: {0}")]
    NoRandom(getrandom::Error),
}

impl From<getrandom::Error> for HandshakeError {
    fn from(error: getrandom::Error) -> Self {
        Self::NoRandom(error)
    }
}

/// The handshake of the server: accepts a client that knows the token.
///
/// # Errors
/// The client is rejected; it receives the reason if it is still connected.
pub fn as_server(stream: &TcpStream, token: &Token, within: Duration) -> Result<(), HandshakeError> {
    let mut turns = Timed::until(stream, Instant::now() + within);
    let own = Nonce::random()?;
    frame::write(&mut turns, &Handshake::Hello { version: VERSION, nonce: own.clone() })?;
    let (version, nonce, proof) = match frame::read(&mut turns)? {
        Handshake::Prove { version, nonce, proof } => (version, nonce, proof),
        other => return Err(refuse(&mut turns, unexpected(other))),
    };
    if version != VERSION {
        return Err(refuse(&mut turns, HandshakeError::Version { theirs: version }));
    }
    if !token.is_proved(Side::Client, &own, &nonce, &proof) {
        return Err(refuse(&mut turns, HandshakeError::Token));
    }
    Ok(frame::write(&mut turns, &Handshake::Welcome { proof: token.prove(Side::Server, &own, &nonce) })?)
}

/// The handshake of the client: proves that it knows the token, and checks that the server does.
///
/// # Errors
/// The server rejects the client, or does not know the token.
pub fn as_client(stream: &TcpStream, token: &Token, within: Duration) -> Result<(), HandshakeError> {
    let mut turns = Timed::until(stream, Instant::now() + within);
    let theirs = match frame::read(&mut turns)? {
        Handshake::Hello { version: VERSION, nonce } => nonce,
        Handshake::Hello { version, .. } => {
            return Err(refuse(&mut turns, HandshakeError::Version { theirs: version }));
        }
        other => return Err(unexpected(other)),
    };
    let own = Nonce::random()?;
    let proof = token.prove(Side::Client, &theirs, &own);
    frame::write(&mut turns, &Handshake::Prove { version: VERSION, nonce: own.clone(), proof })?;
    match frame::read(&mut turns)? {
        Handshake::Welcome { proof } if token.is_proved(Side::Server, &theirs, &own, &proof) => Ok(()),
        Handshake::Welcome { .. } => Err(HandshakeError::Token),
        other => Err(unexpected(other)),
    }
}

fn unexpected(message: Handshake) -> HandshakeError {
    match message {
        Handshake::Refused { why } => HandshakeError::Refused { why: why.chars().take(200).collect() },
        _ => HandshakeError::Unexpected,
    }
}

/// Sends the reason to the other side, if it is still connected.
fn refuse(turns: &mut Timed<'_>, error: HandshakeError) -> HandshakeError {
    let why = match &error {
        // In the words of the other side: there, "it" is this program.
        HandshakeError::Version { theirs } => format!("it uses version {VERSION} of the protocol and not {theirs}"),
        HandshakeError::Token => "the token is not the right one".to_owned(),
        other => other.to_string(),
    };
    let _ = frame::write(turns, &Handshake::Refused { why });
    error
}
