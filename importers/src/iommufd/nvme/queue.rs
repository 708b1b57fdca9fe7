//! A submission queue and a completion queue in memory.

use std::sync::Arc;

use peerpath_exporter::vfio::{AddressSpace, DmaMemory, Registers};

use super::command::{self, Command};
use super::completion::{self, Entry};
use super::error::DriveError;

/// Position in a ring, and the phase tag of new entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    at: u32,
    entries: u32,
    /// Phase tag of new entries: 1 at first, because the memory is zeroed, and inverted each time the ring wraps.
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

/// Submission and completion queue with their doorbells. The caller keeps at most `entries - 1` commands in flight, so the
/// queues do not overflow.
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
    /// Allocates a submission and a completion queue of `entries` entries each. `doorbells` are the register offsets of the
    /// submission and the completion doorbell.
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

    /// Enqueues a command. The drive fetches it after [`QueuePair::ring`].
    #[inline]
    pub(super) fn push(&mut self, command: Command, number: u16) -> Result<(), DriveError> {
        let at = u64::from(self.tail.at) * command::BYTES;
        self.submission.write(at, &command.bytes(number)).map_err(DriveError::Registers)?;
        self.tail.advance();
        Ok(())
    }

    /// Rings the submission doorbell.
    #[inline]
    pub(super) fn ring(&self) -> Result<(), DriveError> {
        self.registers.write_u32(self.tail_doorbell, self.tail.at).map_err(DriveError::Registers)
    }

    /// Returns the next completion queue entry. `None` if the drive has not written it.
    #[inline]
    pub(super) fn pop(&mut self) -> Result<Option<Entry>, DriveError> {
        let at = u64::from(self.head.at) * completion::BYTES;
        let mut word = [0; 4];
        self.completion.read(at + completion::PHASE_AT, &mut word).map_err(DriveError::Registers)?;
        if !completion::is_of_phase(u32::from_le_bytes(word), self.head.phase) {
            return Ok(None);
        }
        // Read the entry after its phase tag, because the drive writes the phase tag last.
        let mut bytes = [0; completion::BYTES as usize];
        self.completion.read(at, &mut bytes).map_err(DriveError::Registers)?;
        self.head.advance();
        Ok(Some(Entry::parse(&bytes)))
    }

    /// Rings the completion doorbell, which frees the entries that were read.
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
        fn phase_inverts_on_every_wrap(entries in 2_u32..70_000, steps in 0_u32..200_000) {
            let mut place = Place::start(entries);
            for _ in 0..steps {
                place.advance();
            }
            prop_assert_eq!(place.at, steps % entries);
            prop_assert_eq!(place.phase, (steps / entries).is_multiple_of(2));
        }
    }
}
