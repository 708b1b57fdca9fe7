//! Memory of the peer, as the client uses it.

use super::error::PeerError;
use super::message::{Fill, Post, Posted, Verify};

/// Memory of another host. That host fills, verifies and transfers it on request.
pub trait RemoteMemory: Sync {
    /// Fills a window.
    ///
    /// # Errors
    /// The peer cannot write the memory, or the connection is lost.
    fn fill(&self, fill: Fill) -> Result<(), PeerError>;
    /// Compares a window with the expected content.
    ///
    /// # Errors
    /// Some bytes are wrong, the peer cannot read the memory, or the connection is lost.
    fn verify(&self, verify: Verify) -> Result<(), PeerError>;
    /// Makes the peer send every received message back, to one offset of the client's memory per lane. Returns the last byte of
    /// the first slot of each lane.
    ///
    /// # Errors
    /// The peer cannot perform this operation, or the connection is lost.
    fn echo(&self, back: &[u64]) -> Result<Vec<u8>, PeerError>;
    /// Makes the peer stop sending messages back.
    ///
    /// # Errors
    /// A transfer fails, or the connection is lost.
    fn stop_echo(&self) -> Result<(), PeerError>;
    /// Makes the peer start to post transfers.
    ///
    /// # Errors
    /// The peer cannot post the transfers, or the connection is lost.
    fn post(&self, post: Post) -> Result<(), PeerError>;
    /// Requests the result of [`post`](Self::post). [`try_posted`](Self::try_posted) returns the result after the last transfer
    /// completes.
    ///
    /// # Errors
    /// The connection is lost.
    fn request_posted(&self) -> Result<(), PeerError>;
    /// Returns the result of [`post`](Self::post), or `None` if it has not arrived.
    ///
    /// # Errors
    /// A transfer fails, or the connection is lost.
    fn try_posted(&self) -> Result<Option<Posted>, PeerError>;
}
