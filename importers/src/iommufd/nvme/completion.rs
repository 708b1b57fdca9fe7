//! Completion queue entries: 4 little-endian dwords each.

use super::Status;

/// Length of a completion queue entry, in bytes.
pub(super) const BYTES: u64 = 16;
/// Byte offset of the last dword of an entry. It holds the phase tag, so it is read first.
pub(super) const PHASE_AT: u64 = 12;

/// A completion queue entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Command-specific result (dword 0).
    pub(crate) result: u32,
    /// Command identifier.
    pub(crate) number: u16,
    /// Status of the command.
    pub(crate) status: Status,
}

/// Whether an entry is new: the phase tag in its last dword equals `phase`.
pub(super) fn is_of_phase(last_word: u32, phase: bool) -> bool {
    (last_word >> 16 & 1 == 1) == phase
}

impl Entry {
    pub(super) fn parse(bytes: &[u8; BYTES as usize]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let last = word(12);
        Self { result: word(0), number: last as u16, status: Status::new((last >> 17) as u16) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_match_the_specification() {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&0x0003_0004_u32.to_le_bytes());
        bytes[8..12].copy_from_slice(&0x0001_0009_u32.to_le_bytes());
        // Command identifier 0x1234, phase tag 1, status code 4.
        bytes[12..].copy_from_slice(&(0x1234_u32 | 1 << 16 | 4 << 17).to_le_bytes());
        let entry = Entry::parse(&bytes);
        assert_eq!(entry, Entry { result: 0x0003_0004, number: 0x1234, status: Status::new(4) });
    }

    proptest! {
        #[test]
        fn phase_is_one_bit(word: u32) {
            prop_assert!(is_of_phase(word, true) != is_of_phase(word, false));
            prop_assert_eq!(is_of_phase(word | 1 << 16, true), true);
        }
    }
}
