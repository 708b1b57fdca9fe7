//! View of a drive's blocks, the initiator memory of its data plane. The view has its own queues and memory, separate from those
//! of the measured transfers.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use peerpath_exporter::vfio::DmaMemory;
use peerpath_exporter::{Removal, View, check_span};

use super::address::Blocks;
use super::nvme::{Controller, Direction, DriveError, IoQueue};

/// Maximum bytes per command of the view.
const BOUNCE_BYTES: u64 = 256 << 10;

/// View of consecutive blocks as bytes. Commands of the view transfer to and from bounce memory of the host, never the
/// measured buffer.
pub(super) struct DriveView {
    blocks: Blocks,
    block_bytes: u64,
    is_writable: bool,
    bounce: Mutex<Bounce>,
    removal: Removal,
}

struct Bounce {
    // Dropped before the memory that its commands access.
    queue: IoQueue,
    memory: DmaMemory,
    max_bytes: u64,
}

impl DriveView {
    pub(super) fn new(controller: &Arc<Controller>, blocks: Blocks, is_writable: bool) -> Result<Self, DriveError> {
        let drive = controller.drive();
        // The bounce memory must hold at least one whole block.
        let max_bytes = BOUNCE_BYTES.min(drive.command_bytes).max(drive.block_bytes);
        let memory = DmaMemory::new(controller.space(), max_bytes)
            .map_err(|source| DriveError::Memory { what: "the view of the drive", source })?;
        let bounce = Mutex::new(Bounce { queue: IoQueue::new(controller, 1)?, memory, max_bytes });
        let removal = controller.space().device().removal().clone();
        Ok(Self { blocks, block_bytes: drive.block_bytes, is_writable, bounce, removal })
    }

    /// Calls `work` for each piece of a span, with the positions of the piece in the span and in the bounce memory.
    /// Depending on `direction`, reads whole blocks before the call and writes them after it.
    fn each(
        &self,
        offset: u64,
        length: usize,
        direction: Direction,
        mut work: impl FnMut(Range<usize>, &DmaMemory, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        check_span(offset, length, self.length_bytes())?;
        let mut bounce = self.bounce.lock().unwrap_or_else(PoisonError::into_inner);
        let Bounce { queue, memory, max_bytes } = &mut *bounce;
        for piece in pieces(offset, length, self.block_bytes, *max_bytes) {
            // Stop at a removal: the kernel waits until this process closes the function.
            if self.removal.is_requested() {
                return Err(io::Error::other(self.removal.error()));
            }
            let first = self.blocks.first + piece.start / self.block_bytes;
            let bytes = piece.end - piece.start;
            let mut carry = |direction| queue.execute(direction, first, memory.iova(), bytes).map_err(io::Error::other);
            if direction == Direction::Read || piece.is_partial() {
                carry(Direction::Read)?;
            }
            work(piece.position.clone(), memory, piece.within - piece.start)?;
            if direction == Direction::Write {
                carry(Direction::Write)?;
            }
        }
        Ok(())
    }
}

/// Part of a span, and the whole blocks that contain it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// Byte offset of the first of the blocks, from the first block of the view.
    start: u64,
    end: u64,
    /// Byte offset of the part, from the first block of the view.
    within: u64,
    /// Position of the part in the span.
    position: Range<usize>,
}

impl Piece {
    fn is_partial(&self) -> bool {
        self.within != self.start || self.within + self.position.len() as u64 != self.end
    }
}

/// Divides a span into pieces of whole blocks, of at most `max_bytes` each.
fn pieces(offset: u64, length: usize, block_bytes: u64, max_bytes: u64) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let within = offset + done as u64;
        let start = within / block_bytes * block_bytes;
        let left = (length - done) as u64;
        let count = left.min(start + max_bytes / block_bytes * block_bytes - within);
        let end = (within + count).next_multiple_of(block_bytes);
        // `count` is at most `length`, so it fits `usize`.
        let position = done..done + count as usize;
        done = position.end;
        Some(Piece { start, end, within, position })
    })
}

impl View for DriveView {
    fn length_bytes(&self) -> u64 {
        self.blocks.count * self.block_bytes
    }

    fn is_writable(&self) -> bool {
        self.is_writable
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.each(offset, into.len(), Direction::Read, |position, memory, at| memory.read(at, &mut into[position]))
    }

    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        if !self.is_writable {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "no blocks of the drive may be overwritten"));
        }
        self.each(offset, from.len(), Direction::Write, |position, memory, at| memory.write(at, &from[position]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn covers_every_byte_once_in_whole_blocks(
            offset in 0_u64..100_000,
            length in 0_usize..100_000,
            block_shift in 9_u32..14,
            blocks in 1_u64..20,
        ) {
            let block_bytes = 1 << block_shift;
            let max_bytes = blocks * block_bytes;
            let mut at = offset;
            let mut position = 0;
            for piece in pieces(offset, length, block_bytes, max_bytes) {
                prop_assert!(piece.start.is_multiple_of(block_bytes) && piece.end.is_multiple_of(block_bytes));
                prop_assert!(piece.end - piece.start <= max_bytes);
                prop_assert_eq!((piece.within, piece.position.start), (at, position));
                prop_assert!(!piece.position.is_empty());
                let part = piece.position.len() as u64;
                prop_assert!(piece.start <= piece.within && piece.within + part <= piece.end);
                prop_assert_eq!(piece.is_partial(), part != piece.end - piece.start);
                at += part;
                position = piece.position.end;
            }
            prop_assert_eq!(position, length);
        }
    }
}
