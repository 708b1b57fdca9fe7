//! Errors of requests to a peer.

use peerpath_paths::{Cause, Explained, Explanation, Severity};

use super::connection::ConnectionError;
use super::message::Failed;
use crate::result::Outcome;

/// Reason why a request to the peer failed.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The connection is lost.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The peer reports a failure.
    #[error("on the peer, {}", .0.reason)]
    Failed(Box<Failed>),
    /// The peer closed the connection with a reason.
    #[error("the peer refused: {0}")]
    Refused(String),
    /// The protocol does not allow this response to the request.
    #[error("unexpected response from the peer")]
    Unexpected,
}

impl Explained for PeerError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Failed(failed) => failed.explanation(),
            Self::Connection(_) => Explanation::new(
                Cause::PeerLost,
                "The connection was lost; the server releases the memory of the cell.",
                "See the output of the server on the other host, and start the run again.",
            ),
            Self::Refused(_) => Explanation::new(
                Cause::PeerLost,
                "The peer closed the connection.",
                "See the output of the server on the other host. A server serves one peer at a time.",
            ),
            Self::Unexpected => Explanation::new(
                Cause::PeerLost,
                "One of the two programs violates the protocol.",
                "Use the same version of peerpath on both hosts.",
            ),
        }
    }

    fn severity(&self) -> Severity {
        match self {
            // A failed request whose reported outcome is `passed` violates the protocol, so it counts as failed.
            Self::Failed(failed) if failed.outcome == Outcome::Waived => Severity::Unavailable,
            _ => Severity::Failed,
        }
    }
}
