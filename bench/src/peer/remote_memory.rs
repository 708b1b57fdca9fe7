//! Memory of the peer, as the client uses it.

use super::error::PeerError;
use super::message::{Fill, Post, Posted, Verify};

/// Memory that another host fills, verifies and transfers on request.
pub trait RemoteMemory: Sync {
    /// Fills a window.
    ///
    /// # Errors
    /// The memory could not be written, or the connection is lost.
    fn fill(&self, fill: Fill) -> Result<(), PeerError>;
    /// Compares a window.
    ///
    /// # Errors
    /// Wrong bytes, or the memory could not be read, or the connection is lost.
    fn verify(&self, verify: Verify) -> Result<(), PeerError>;
    /// Starts to send back what arrives, to one offset of the client's memory per lane. Returns the last byte of the first slot
    /// of each lane.
    ///
    /// # Errors
    /// The operation cannot be answered, or the connection is lost.
    fn echo(&self, back: &[u64]) -> Result<Vec<u8>, PeerError>;
    /// Stops sending back.
    ///
    /// # Errors
    /// A transfer failed, or the connection is lost.
    fn stop_echo(&self) -> Result<(), PeerError>;
    /// Starts to post transfers.
    ///
    /// # Errors
    /// The transfers cannot be posted, or the connection is lost.
    fn post(&self, post: Post) -> Result<(), PeerError>;
    /// Requests the result of [`post`](Self::post). [`try_posted`](Self::try_posted) returns it after the last transfer completed.
    ///
    /// # Errors
    /// The connection is lost.
    fn request_posted(&self) -> Result<(), PeerError>;
    /// The result, if it has arrived.
    ///
    /// # Errors
    /// A transfer failed, or the connection is lost.
    fn try_posted(&self) -> Result<Option<Posted>, PeerError>;
}
