//! Transfers between a registered buffer and initiator memory: the memory that the buffer exchanges bytes with (host memory, GPU
//! memory, or blocks of a drive). Identifiers call initiator memory `far`.
//!
//! A data plane has two sides: the initiator, which has the initiator memory, and the responder, which has the buffer. The
//! initiator posts transfers. With [`DataPlaneSettings::both_sides`] the responder posts transfers too, and both keep their
//! names.

use std::sync::Arc;

use peerpath_exporter::View;
use peerpath_paths::{Cause, Explanation};

use crate::{Error, Op};

/// Queues and memory of a data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataPlaneSettings {
    /// Maximum number of transfers in flight, per queue and side that posts.
    pub depth: u32,
    /// Number of queues (queue pairs of an RDMA device, streams of a GPU).
    pub queues: u32,
    /// Whether the responder posts transfers in addition to the initiator.
    pub both_sides: bool,
    /// Length of initiator memory, in bytes.
    pub far_bytes: u64,
}

impl DataPlaneSettings {
    /// Creates settings for one queue on which only the initiator posts.
    pub const fn simple(depth: u32, far_bytes: u64) -> Self {
        Self { depth, queues: 1, both_sides: false, far_bytes }
    }
}

/// Side of a data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Side {
    /// The initiator: initiator memory, and the queue pairs whose local memory it is, if the device has queue pairs.
    #[default]
    Far,
    /// The responder: the registered buffer, and the queue pairs whose local memory it is, if the device has queue pairs.
    Buffer,
}

/// Operands of an atomic operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Operands {
    /// Value to add, or value to compare with.
    pub compare_add: u64,
    /// Value to store if the comparison succeeds.
    pub swap: u64,
}

/// One transfer between the buffer and initiator memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// ID chosen by the caller and repeated in the completion.
    pub id: u64,
    /// Operation, one of the importer's transfer ops.
    pub op: Op,
    /// Side that posts the transfer. If the responder posts, the op transfers bytes in the opposite direction.
    pub posted_by: Side,
    /// Index of the queue to post on, from 0.
    pub queue: u32,
    /// Whether the work request is unsignaled. An unsignaled transfer is reported as completed together with the next
    /// signaled transfer of the same queue and side, so the last transfer must be signaled.
    pub unsignaled: bool,
    /// Operands of an atomic op.
    pub operands: Operands,
    /// Offset in the buffer, in bytes.
    pub buffer_offset: u64,
    /// Offset in initiator memory, in bytes.
    pub far_offset: u64,
    /// Bytes to transfer.
    pub length_bytes: u32,
}

impl Transfer {
    /// Creates a signaled transfer that the initiator posts on the first queue.
    pub fn new(id: u64, op: Op, buffer_offset: u64, far_offset: u64, length_bytes: u32) -> Self {
        let (posted_by, operands) = (Side::Far, Operands::default());
        Self { id, op, posted_by, queue: 0, unsignaled: false, operands, buffer_offset, far_offset, length_bytes }
    }
}

/// Completion of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// ID of the transfer.
    pub id: u64,
    /// Outcome of the transfer.
    pub result: Result<(), TransferError>,
}

/// A transfer that the device completed with an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the transfer completed with {status}")]
pub struct TransferError {
    /// Name of the completion status in the device's specification, e.g. `REM_ACCESS_ERR`.
    pub status: &'static str,
    /// Meaning of the status, and the remedy.
    pub explanation: Box<Explanation>,
}

impl TransferError {
    /// Returns the cause of the failure. `None` if it is unknown.
    pub fn cause(&self) -> Option<Cause> {
        self.explanation.cause
    }
}

/// Transfers data between a registered buffer and initiator memory: memory of this host, of a GPU, of a drive, or of a peer.
///
/// A failed transfer may stop the data plane: a queue pair enters the error state and flushes the transfers still in flight.
/// [`DataPlane::submit`] then accepts no transfers until all of them have been polled, and returns an error afterwards. Drop
/// the data plane and set up another one.
pub trait DataPlane: Send {
    /// Returns a view of initiator memory, to fill and verify it. Do not use the view while transfers are in flight.
    fn far(&self) -> Arc<dyn View>;
    /// Posts the longest prefix of the batch that the device accepts now, and returns its length. At most
    /// [`DataPlaneSettings::depth`] transfers are in flight, per queue and side.
    ///
    /// # Errors
    /// - A transfer exceeds the buffer or initiator memory, has an invalid length, or needs an op that the device lacks. This
    ///   transfer and the transfers after it are not posted.
    /// - The device refused the batch. The data plane accepts no more transfers.
    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error>;
    /// Appends the completions that have arrived to `done`, without waiting. Reuse `done` in a loop: with capacity for
    /// `depth` completions, nothing is allocated unless a transfer fails.
    ///
    /// # Errors
    /// The completion queue failed.
    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error>;
    /// Returns the time in nanoseconds, by the device's clock, from the start of the first transfer since the previous call
    /// to the end of the last transfer. `None` if the device has no such clock. Do not call it while transfers are in
    /// flight.
    fn device_time_ns(&mut self) -> Option<u64> {
        None
    }
    /// Sleeps until a completion event arrives, for at most 0.1 s, if the device was opened with
    /// [`crate::QueuePairOptions::events`]; otherwise returns at once. Call it after a poll that returned no completion.
    /// Returns true if it slept and no event arrived.
    ///
    /// # Errors
    /// The event channel failed.
    fn wait(&mut self) -> Result<bool, Error> {
        Ok(false)
    }
}
