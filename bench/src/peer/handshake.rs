//! The handshake, which precedes all other messages. Both sides check that they use the same version and know the same token.
//!
//! The client proves first that it knows the token. So a port scanner receives nothing that is derived from the token.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use peerpath_paths::printable_within;
use serde::{Deserialize, Serialize};

use super::VERSION;
use super::frame::{self, FrameError, Timed};
use super::message::MOST_REASON_CHARACTERS;
use super::token::{Nonce, Proof, Side, Token};

/// Timeout for the whole handshake. It also holds if the peer keeps sending, but slowly.
pub const TIME: Duration = Duration::from_secs(10);
/// Maximum length of a message that the server reads before the client has proved that it knows the token, in bytes.
const LONGEST_UNPROVED_BYTES: u32 = 1024;

/// The messages of the handshake, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Handshake {
    /// First message, from the server. It has the same form in every version.
    Hello {
        /// Protocol version of all further messages.
        version: u32,
        /// Random bytes for this connection.
        nonce: Nonce,
    },
    /// Second message: the client's proof.
    Prove {
        /// Protocol version of the client. It must equal the server's.
        version: u32,
        /// Random bytes for this connection.
        nonce: Nonce,
        /// Proof that the client knows the token.
        proof: Proof,
    },
    /// Third message: the server accepts the client.
    Welcome {
        /// Proof that the server knows the token.
        proof: Proof,
    },
    /// Either side rejects the other and closes the connection. This message has the same form in every version.
    Refused {
        /// Reason of the rejection, one sentence.
        why: String,
    },
}

/// Reason why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection was lost, or the peer sent no valid message in time.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer uses another protocol version.
    #[error("the peer uses version {theirs} of the protocol, and this program uses version {VERSION}")]
    Version {
        /// Protocol version of the peer.
        theirs: u32,
    },
    /// The peer does not know the token.
    #[error("the peer has not proved that it knows the token")]
    Token,
    /// The peer rejected the connection with a reason.
    #[error("the peer refused: {why}")]
    Refused {
        /// Reason that the peer sent.
        why: String,
    },
    /// The protocol does not allow the received message here.
    #[error("unexpected message from the peer")]
    Unexpected,
    /// `getrandom` failed.
    #[error("cannot get random bytes from the kernel: {0}")]
    NoRandom(getrandom::Error),
}

impl From<getrandom::Error> for HandshakeError {
    fn from(error: getrandom::Error) -> Self {
        Self::NoRandom(error)
    }
}

/// Performs the server's part of the handshake: accepts a client that knows the token.
///
/// # Errors
/// The server rejects the client. The client receives the reason if it is still connected.
pub fn as_server(stream: &TcpStream, token: &Token, within: Duration) -> Result<(), HandshakeError> {
    let mut timed = Timed::until(stream, Instant::now() + within);
    let own = Nonce::random()?;
    frame::write(&mut timed, &Handshake::Hello { version: VERSION, nonce: own.clone() })?;
    let (version, nonce, proof) = match frame::read_within(&mut timed, LONGEST_UNPROVED_BYTES)? {
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

/// Performs the client's part of the handshake: proves that it knows the token, and checks that the server knows it too.
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
        Handshake::Refused { why } => HandshakeError::Refused { why: printable_within(&why, MOST_REASON_CHARACTERS) },
        _ => HandshakeError::Unexpected,
    }
}

/// Reports to a client, without a handshake, that its address sent too many wrong proofs.
pub(super) fn refuse_for_now(stream: &TcpStream) {
    let why = "too many wrong tokens from this address, try again in a few seconds".to_owned();
    // The send buffer of a new connection is empty, so this does not wait.
    let _ = frame::write(&mut Timed::within(stream, Duration::from_secs(1)), &Handshake::Refused { why });
}

/// Sends the reason to the peer if it is still connected.
fn refuse(timed: &mut Timed<'_>, error: HandshakeError) -> HandshakeError {
    let why = match &error {
        // The peer prints this text. From its point of view, "the peer" is this program.
        HandshakeError::Version { theirs } => {
            format!("the other program needs version {VERSION} of the protocol, not version {theirs}")
        }
        HandshakeError::Token => "the token is wrong".to_owned(),
        other => other.to_string(),
    };
    let _ = frame::write(timed, &Handshake::Refused { why });
    error
}
