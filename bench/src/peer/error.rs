//! Errors of requests to a peer.

use peerpath_paths::{Cause, Explained, Explanation, Severity};

use super::connection::Lost;
use super::message::Failed;

/// What the peer could not do, or why it cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is gone.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// It says that it cannot.
    #[error("on the peer, {}", .0.reason)]
    Failed(Box<Failed>),
    /// It ended the conversation.
    #[error("the peer refused: {0}")]
    Refused(String),
    /// It answered something else.
    #[error("the peer answered what was not asked")]
    OutOfTurn,
}

impl Explained for PeerError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Failed(failed) => failed.explanation(),
            Self::Lost(_) => Explanation::new(
                Cause::PeerLost,
                "the server releases the memory of the cell",
                "see what `peerpath serve` printed on the other host, and start the run again",
            ),
            Self::Refused(_) => Explanation::new(
                Cause::PeerLost,
                "it ended the conversation",
                "see what `peerpath serve` printed on the other host; one peer is served at a time",
            ),
            Self::OutOfTurn => Explanation::new(
                Cause::PeerLost,
                "it does not keep to the protocol of this version, or this program does not",
                "use the same peerpath on both hosts",
            ),
        }
    }

    fn severity(&self) -> Severity {
        Severity::Failed
    }
}
