//! A pair of queues in memory: commands go round in one ring, what became of them in the other.

use std::sync::Arc;

use peerpath_exporter::{AddressSpace, DmaMemory, Registers};

use super::command::{self, Command};
use super::completion::{self, Entry};
use super::error::DriveError;

/// A place in a ring, and in which lap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    at: u32,
    entries: u32,
    /// The first lap writes ones into zeroed memory, the next zeroes, and so on.
    phase: bool,
}

impl Place {
    fn start(entries: u32) -> Self {
        Self { at: 0, entries, phase: true }
    }

    fn advance(&mut self) {
        self.at += 1;
        if self.at == self.entries {
            self.at = 0;
            self.phase = !self.phase;
        }
    }
}

/// The two rings and their doorbells. With no more commands under way than `entries - 1` neither can overflow.
pub(super) struct QueuePair {
    registers: Arc<Registers>,
    submission: DmaMemory,
    completion: DmaMemory,
    tail: Place,
    head: Place,
    tail_doorbell: u64,
    head_doorbell: u64,
}

impl QueuePair {
    /// Memory for queues of `entries` entries; `doorbells`: where the tail and the head are told.
    pub(super) fn new(
        space: &Arc<AddressSpace>,
        registers: &Arc<Registers>,
        entries: u32,
        doorbells: (u64, u64),
    ) -> Result<Self, DriveError> {
        let memory = |bytes: u64| {
            DmaMemory::new(space, bytes * u64::from(entries))
                .map_err(|source| DriveError::Memory { what: "queues", source })
        };
        Ok(Self {
            registers: Arc::clone(registers),
            submission: memory(command::BYTES)?,
            completion: memory(completion::BYTES)?,
            tail: Place::start(entries),
            head: Place::start(entries),
            tail_doorbell: doorbells.0,
            head_doorbell: doorbells.1,
        })
    }

    pub(super) fn entries(&self) -> u32 {
        self.tail.entries
    }

    pub(super) fn submission_address(&self) -> u64 {
        self.submission.iova()
    }

    pub(super) fn completion_address(&self) -> u64 {
        self.completion.iova()
    }

    /// Puts a command into the queue; the drive sees it once it is told.
    #[inline]
    pub(super) fn push(&mut self, command: Command, number: u16) -> Result<(), DriveError> {
        let at = u64::from(self.tail.at) * command::BYTES;
        self.submission.write(at, &command.bytes(number)).map_err(DriveError::Registers)?;
        self.tail.advance();
        Ok(())
    }

    /// Tells the drive of everything in the queue.
    #[inline]
    pub(super) fn tell(&self) -> Result<(), DriveError> {
        self.registers.write_u32(self.tail_doorbell, self.tail.at).map_err(DriveError::Registers)
    }

    /// Takes an entry that the drive has written.
    #[inline]
    pub(super) fn pop(&mut self) -> Result<Option<Entry>, DriveError> {
        let at = u64::from(self.head.at) * completion::BYTES;
        let mut word = [0; 4];
        self.completion.read(at + completion::PHASE_AT, &mut word).map_err(DriveError::Registers)?;
        if !completion::is_of_phase(u32::from_le_bytes(word), self.head.phase) {
            return Ok(None);
        }
        // Only now: the drive writes the phase last.
        let mut bytes = [0; completion::BYTES as usize];
        self.completion.read(at, &mut bytes).map_err(DriveError::Registers)?;
        self.head.advance();
        Ok(Some(Entry::parse(&bytes)))
    }

    /// Gives the drive back the room of everything taken.
    #[inline]
    pub(super) fn release(&self) -> Result<(), DriveError> {
        self.registers.write_u32(self.head_doorbell, self.head.at).map_err(DriveError::Registers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_phase_turns_with_every_lap(entries in 2_u32..70_000, steps in 0_u32..200_000) {
            let mut place = Place::start(entries);
            for _ in 0..steps {
                place.advance();
            }
            prop_assert_eq!(place.at, steps % entries);
            prop_assert_eq!(place.phase, (steps / entries).is_multiple_of(2));
        }
    }
}
