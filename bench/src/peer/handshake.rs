//! How two strangers find out that they speak the same version and know the same token, before anything else is said.
//!
//! The side that connected proves it first, so that whoever merely finds the port learns nothing it could guess at.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::VERSION;
use super::frame::{self, FrameError, Timed};
use super::token::{Nonce, Proof, Side, Token};

/// All of it takes no longer than this, however slowly the other side speaks.
pub const TIME: Duration = Duration::from_secs(10);

/// What is said, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
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

/// Why two sides do not talk.
#[derive(Debug, thiserror::Error)]
pub enum Stranger {
    /// The connection did not last, or the other side is no peerpath.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It speaks another version.
    #[error("the peer speaks version {theirs} of the protocol, and this program version {VERSION}")]
    Version {
        /// Which.
        theirs: u32,
    },
    /// It does not know the token.
    #[error("the peer has not proved that it knows the token")]
    Token,
    /// It said why it will not talk.
    #[error("the peer refused: {why}")]
    Refused {
        /// In its own words.
        why: String,
    },
    /// It spoke out of turn.
    #[error("the peer spoke out of turn")]
    OutOfTurn,
    /// The kernel has no random bytes.
    #[error("the kernel gave no random bytes: {0}")]
    NoRandom(getrandom::Error),
}

impl From<getrandom::Error> for Stranger {
    fn from(error: getrandom::Error) -> Self {
        Self::NoRandom(error)
    }
}

/// Lets in whoever proves it.
///
/// # Errors
/// It did not; it was told why where it is still there.
pub fn as_server(stream: &TcpStream, token: &Token, within: Duration) -> Result<(), Stranger> {
    let mut turns = Timed::until(stream, Instant::now() + within);
    let own = Nonce::random()?;
    frame::write(&mut turns, &Word::Hello { version: VERSION, nonce: own.clone() })?;
    let (version, nonce, proof) = match frame::read(&mut turns)? {
        Word::Prove { version, nonce, proof } => (version, nonce, proof),
        other => return Err(refuse(&mut turns, unexpected(other))),
    };
    if version != VERSION {
        return Err(refuse(&mut turns, Stranger::Version { theirs: version }));
    }
    if !token.is_proved(Side::Client, &own, &nonce, &proof) {
        return Err(refuse(&mut turns, Stranger::Token));
    }
    Ok(frame::write(&mut turns, &Word::Welcome { proof: token.prove(Side::Server, &own, &nonce) })?)
}

/// Proves it, and sees that the other side knows the token as well.
///
/// # Errors
/// It does not let us in, or does not know the token itself.
pub fn as_client(stream: &TcpStream, token: &Token, within: Duration) -> Result<(), Stranger> {
    let mut turns = Timed::until(stream, Instant::now() + within);
    let theirs = match frame::read(&mut turns)? {
        Word::Hello { version: VERSION, nonce } => nonce,
        Word::Hello { version, .. } => return Err(refuse(&mut turns, Stranger::Version { theirs: version })),
        other => return Err(unexpected(other)),
    };
    let own = Nonce::random()?;
    let proof = token.prove(Side::Client, &theirs, &own);
    frame::write(&mut turns, &Word::Prove { version: VERSION, nonce: own.clone(), proof })?;
    match frame::read(&mut turns)? {
        Word::Welcome { proof } if token.is_proved(Side::Server, &theirs, &own, &proof) => Ok(()),
        Word::Welcome { .. } => Err(Stranger::Token),
        other => Err(unexpected(other)),
    }
}

fn unexpected(word: Word) -> Stranger {
    match word {
        Word::Refused { why } => Stranger::Refused { why: why.chars().take(200).collect() },
        _ => Stranger::OutOfTurn,
    }
}

/// Tells the other side why, if it still listens.
fn refuse(turns: &mut Timed<'_>, stranger: Stranger) -> Stranger {
    let why = match &stranger {
        // From where the other side stands.
        Stranger::Version { theirs } => format!("it speaks version {VERSION} of the protocol and not {theirs}"),
        Stranger::Token => "the token is not the right one".to_owned(),
        other => other.to_string(),
    };
    let _ = frame::write(turns, &Word::Refused { why });
    stranger
}
