//! Errors of requests to a peer.

use peerpath_paths::{Cause, Explained, Explanation, Severity};

use super::connection::ConnectionError;
use super::message::Failed;

/// A request that the peer did not fulfil.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is gone.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// It failed, and says why.
    #[error("on the peer, {}", .0.reason)]
    Failed(Box<Failed>),
    /// It closed the connection, and said why.
    #[error("the peer refused: {0}")]
    Refused(String),
    /// It sent a response that does not belong to the request.
    #[error("unexpected response from the peer")]
    Unexpected,
}

impl Explained for PeerError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Failed(failed) => failed.explanation(),
            Self::Connection(_) => Explanation::new(
                Cause::PeerLost,
                "the server releases the memory of the cell",
                "see what the server printed on the other host, and start the run again",
            ),
            Self::Refused(_) => Explanation::new(
                Cause::PeerLost,
                "it closed the connection",
                "see what the server printed on the other host; one peer is served at a time",
            ),
            Self::Unexpected => Explanation::new(
                Cause::PeerLost,
                "one of the two programs violates the protocol",
                "use the same version of peerpath on both hosts",
            ),
        }
    }

    fn severity(&self) -> Severity {
        Severity::Failed
    }
}
