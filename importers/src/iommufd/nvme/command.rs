//! Submission queue entries: 16 little-endian dwords each.

use super::prp::Prp;

/// Length of a submission queue entry, in bytes.
pub(super) const BYTES: u64 = 64;

/// Direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the drive into memory.
    Read,
    /// From memory to the drive.
    Write,
}

/// Submission queue entry without its command identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Command {
    words: [u32; 16],
}

/// Data structure that an identify command returns (CNS).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identify {
    Namespace(u32),
    Controller,
    ActiveNamespaces,
}

const FEATURE_QUEUES: u32 = 0x07;

impl Command {
    fn new(opcode: u8, namespace: u32) -> Self {
        let mut words = [0; 16];
        words[0] = opcode.into();
        words[1] = namespace;
        Self { words }
    }

    fn word(mut self, index: usize, value: u32) -> Self {
        self.words[index] = value;
        self
    }

    fn data(mut self, prp: Prp) -> Self {
        for (index, pointer) in [(6, prp.first), (8, prp.second)] {
            self.words[index] = pointer as u32;
            self.words[index + 1] = (pointer >> 32) as u32;
        }
        self
    }

    pub(super) fn identify(what: Identify, page: u64) -> Self {
        let (namespace, what) = match what {
            Identify::Namespace(number) => (number, 0),
            Identify::Controller => (0, 1),
            Identify::ActiveNamespaces => (0, 2),
        };
        Self::new(0x06, namespace).data(Prp { first: page, second: 0 }).word(10, what)
    }

    /// Requests `count` I/O submission queues and `count` I/O completion queues (Set Features, Number of Queues). The result
    /// of the command holds how many of each the controller allocated.
    pub(super) fn request_queues(count: u16) -> Self {
        let less_one = u32::from(count.saturating_sub(1));
        Self::new(0x09, 0).word(10, FEATURE_QUEUES).word(11, less_one << 16 | less_one)
    }

    /// Creates an I/O completion queue without interrupts. `memory` is its I/O virtual address.
    pub(super) fn create_completion_queue(number: u16, entries: u32, memory: u64) -> Self {
        Self::create_queue(0x05, number, entries, memory).word(11, 1)
    }

    /// Creates an I/O submission queue, whose commands complete in the completion queue of the same number. `memory` is its
    /// I/O virtual address.
    pub(super) fn create_submission_queue(number: u16, entries: u32, memory: u64) -> Self {
        Self::create_queue(0x01, number, entries, memory).word(11, u32::from(number) << 16 | 1)
    }

    fn create_queue(opcode: u8, number: u16, entries: u32, memory: u64) -> Self {
        let prp = Prp { first: memory, second: 0 };
        Self::new(opcode, 0).data(prp).word(10, (entries.saturating_sub(1) & 0xffff) << 16 | u32::from(number))
    }

    pub(super) fn delete_submission_queue(number: u16) -> Self {
        Self::new(0x00, 0).word(10, number.into())
    }

    pub(super) fn delete_completion_queue(number: u16) -> Self {
        Self::new(0x04, 0).word(10, number.into())
    }

    /// Transfers `blocks` blocks (at least one), starting at block `first`.
    pub(super) fn transfer(direction: Direction, namespace: u32, first: u64, blocks: u32, prp: Prp) -> Self {
        let opcode = match direction {
            Direction::Read => 0x02,
            Direction::Write => 0x01,
        };
        Self::new(opcode, namespace)
            .data(prp)
            .word(10, first as u32)
            .word(11, (first >> 32) as u32)
            .word(12, blocks.saturating_sub(1) & 0xffff)
    }

    /// Returns the bytes of the entry, with `number` as its command identifier.
    pub(super) fn bytes(mut self, number: u16) -> [u8; BYTES as usize] {
        self.words[0] |= u32::from(number) << 16;
        let mut bytes = [0; BYTES as usize];
        for (word, place) in self.words.iter().zip(bytes.chunks_exact_mut(4)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: Command, number: u16) -> Vec<u32> {
        command.bytes(number).chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn fields_match_the_specification() {
        let prp = Prp { first: 0x1_2345_6000, second: 0x2_0000_1000 };
        let read = words(Command::transfer(Direction::Read, 1, 0x1_0000_0002, 8, prp), 0x1234);
        assert_eq!(read[..4], [0x1234_0002, 1, 0, 0]);
        assert_eq!(read[6..10], [0x2345_6000, 1, 0x1000, 2]);
        assert_eq!(read[10..13], [2, 1, 7]);
        assert_eq!(words(Command::transfer(Direction::Write, 1, 0, 65536, prp), 0)[12], 0xffff);
        let queue = words(Command::create_submission_queue(3, 64, 0x7000), 0);
        assert_eq!((queue[0], queue[6], queue[10], queue[11]), (0x01, 0x7000, 63 << 16 | 3, 3 << 16 | 1));
        let queue = words(Command::create_completion_queue(3, 65536, 0x8000), 0);
        assert_eq!((queue[0], queue[6], queue[10], queue[11]), (0x05, 0x8000, 0xffff_0003, 1));
        let identify = words(Command::identify(Identify::Namespace(5), 0x9000), 9);
        assert_eq!((identify[0], identify[1], identify[10]), (9 << 16 | 6, 5, 0));
        assert_eq!(words(Command::request_queues(4), 0)[10..12], [7, 0x0003_0003]);
    }
}
