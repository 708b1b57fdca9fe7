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
    /// The server's first message. It has the same form in every version.
    Hello {
        /// Version of all further messages.
        version: u32,
        /// Random bytes for this connection.
        nonce: Nonce,
    },
    /// The client's proof.
    Prove {
        /// The same version.
        version: u32,
        /// Random bytes for this connection.
        nonce: Nonce,
        /// Proof that the client knows the token.
        proof: Proof,
    },
    /// The server accepts the client.
    Welcome {
        /// Proof that the server knows the token.
        proof: Proof,
    },
    /// Either side rejects the other, and closes the connection. This message has the same form in every version.
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
    /// The peer uses another version.
    #[error("the peer uses version {theirs} of the protocol, and this program uses version {VERSION}")]
    Version {
        /// Version of the peer.
        theirs: u32,
    },
    /// The peer does not know the token.
    #[error("the peer has not proved that it knows the token")]
    Token,
    /// The peer rejected the connection with a reason.
    #[error("the peer refused: {why}")]
    Refused {
        /// Reason of the peer.
        why: String,
    },
    /// The message is not allowed here.
    #[error("unexpected message from the peer")]
    Unexpected,
    /// The kernel has no random bytes.
    #[error("cannot get random bytes from the kernel: {0}")]
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
    let mut timed = Timed::until(stream, Instant::now() + within);
    let own = Nonce::random()?;
    frame::write(&mut timed, &Handshake::Hello { version: VERSION, nonce: own.clone() })?;
    let (version, nonce, proof) = match frame::read(&mut timed)? {
        Handshake::Prove { version, nonce, proof } => (version, nonce, proof),
        other => return Err(refuse(&mut timed, unexpected(other))),
    };
    if version != VERSION {
        return Err(refuse(&mut timed, HandshakeError::Version { theirs: version }));
    }
    if !token.is_proved(Side::Client, &own, &nonce, &proof) {
        return Err(refuse(&mut timed, HandshakeError::Token));
    }
    Ok(frame::write(&mut timed, &Handshake::Welcome { proof: token.prove(Side::Server, &own, &nonce) })?)
}

/// The handshake of the client: proves that it knows the token, and checks that the server does.
///
/// # Errors
/// The server rejects the client, or does not know the token.
pub fn as_client(stream: &TcpStream, token: &Token, within: Duration) -> Result<(), HandshakeError> {
    let mut timed = Timed::until(stream, Instant::now() + within);
    let theirs = match frame::read(&mut timed)? {
        Handshake::Hello { version: VERSION, nonce } => nonce,
        Handshake::Hello { version, .. } => {
            return Err(refuse(&mut timed, HandshakeError::Version { theirs: version }));
        }
        other => return Err(unexpected(other)),
    };
    let own = Nonce::random()?;
    let proof = token.prove(Side::Client, &theirs, &own);
    frame::write(&mut timed, &Handshake::Prove { version: VERSION, nonce: own.clone(), proof })?;
    match frame::read(&mut timed)? {
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
fn refuse(timed: &mut Timed<'_>, error: HandshakeError) -> HandshakeError {
    let why = match &error {
        // The other side prints this text: there, the peer is this program.
        HandshakeError::Version { theirs } => {
            format!("the other side uses version {VERSION} of the protocol, not version {theirs}")
        }
        HandshakeError::Token => "the token is wrong".to_owned(),
        other => other.to_string(),
    };
    let _ = frame::write(timed, &Handshake::Refused { why });
    error
}
