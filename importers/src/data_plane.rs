//! Transfers between a registered buffer and a far side.

use std::sync::Arc;

use peerpath_exporter::View;
use peerpath_paths::{Cause, Explanation};

use crate::{Error, Op};

/// Size of a data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataPlaneSettings {
    /// Most transfers in flight, per queue and side.
    pub depth: u32,
    /// Number of queues (queue pairs of an RDMA device, streams of a GPU).
    pub queues: u32,
    /// The buffer's side posts transfers as well.
    pub both_sides: bool,
    /// Bytes of far-side memory.
    pub far_bytes: u64,
}

impl DataPlaneSettings {
    /// One queue, on which the far side posts.
    pub const fn simple(depth: u32, far_bytes: u64) -> Self {
        Self { depth, queues: 1, both_sides: false, far_bytes }
    }
}

/// A side of a data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Side {
    /// The memory that the buffer exchanges bytes with.
    #[default]
    Far,
    /// The buffer.
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

/// One transfer between the buffer and the far side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Number chosen by the caller; the completion carries it.
    pub id: u64,
    /// A transfer op of the importer.
    pub op: Op,
    /// The side that posts the transfer. Posted by the buffer's side, an op moves bytes in the opposite direction.
    pub posted_by: Side,
    /// Queue to post on.
    pub queue: u32,
    /// The transfer generates no completion of its own: its completion is reported with that of the next signaled transfer on
    /// its queue and side. The last transfer must be signaled.
    pub unsignaled: bool,
    /// Operands of an atomic op.
    pub operands: Operands,
    /// Offset in the buffer, in bytes.
    pub buffer_offset: u64,
    /// Offset on the far side, in bytes.
    pub far_offset: u64,
    /// Bytes to transfer.
    pub length_bytes: u32,
}

impl Transfer {
    /// A signaled transfer that the far side posts on the first queue.
    pub fn new(id: u64, op: Op, buffer_offset: u64, far_offset: u64, length_bytes: u32) -> Self {
        let (posted_by, operands) = (Side::Far, Operands::default());
        Self { id, op, posted_by, queue: 0, unsignaled: false, operands, buffer_offset, far_offset, length_bytes }
    }
}

/// Completion of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Number of the transfer.
    pub id: u64,
    /// Outcome of the transfer.
    pub result: Result<(), TransferError>,
}

/// A transfer that the device completed with an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the transfer completed with {status}")]
pub struct TransferError {
    /// Status as the device names it (`REM_ACCESS_ERR`).
    pub status: &'static str,
    /// What the status means, and what to do.
    pub explanation: Box<Explanation>,
}

impl TransferError {
    /// Cause of the failure, where it is known.
    pub fn cause(&self) -> Option<Cause> {
        self.explanation.cause
    }
}

/// Moves data between a registered buffer and a far side.
///
/// A transfer that fails may end the data plane as well, as it does for the queue pairs of verbs: the transfers that are
/// still in flight then fail too. Until all of them have been polled [`DataPlane::submit`] accepts nothing; afterwards it
/// returns an error. Drop the data plane then and set up another one.
pub trait DataPlane: Send {
    /// The far side's own view, to fill and verify its memory. Not to be used while transfers are in flight.
    fn far(&self) -> Arc<dyn View>;
    /// Posts transfers, as many as the device takes now, and returns how many (a prefix of the batch). At most
    /// [`DataPlaneSettings::depth`] are in flight, per queue and side.
    ///
    /// # Errors
    /// A transfer leaves the buffer or the far side, has an invalid length, or is of an op that the device lacks: neither it
    /// nor the transfers behind it were posted. Or the device refused, which ends the data plane.
    fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error>;
    /// Appends the transfers that have completed to `done`, without waiting. A loop can reuse `done`: with room for `depth`
    /// completions in it, nothing is allocated unless a transfer failed.
    ///
    /// # Errors
    /// The completion queue itself failed.
    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error>;
    /// Time by the device's own clock, in nanoseconds, from the start of the first transfer since the previous call to the
    /// end of the last one. `None` where the device keeps no time. Not to be used while transfers are in flight.
    fn device_time_ns(&mut self) -> Option<u64> {
        None
    }
    /// Sleeps until a completion may have arrived, for at most 0.1 s, where the device was opened with
    /// [`crate::QueuePairOptions::events`]; returns at once otherwise. To be called after a poll that found nothing. Returns
    /// whether it slept in vain.
    ///
    /// # Errors
    /// The device cannot be waited for.
    fn wait(&mut self) -> Result<bool, Error> {
        Ok(false)
    }
}
