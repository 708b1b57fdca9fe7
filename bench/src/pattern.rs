//! The test data of transfers. Every 8-byte value depends on a seed and on its offset. So stale data (of another cell), shifted
//! data (of another offset) and missing data all differ from the expected data.

/// A stream of pseudo-random bytes. Each 8-byte value can be computed without its predecessors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

impl Pattern {
    /// Creates the pattern with this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Seed of the pattern.
    pub fn seed(self) -> u64 {
        self.seed
    }

    /// Creates a pattern with a random seed.
    pub fn random() -> Self {
        use std::hash::{BuildHasher, Hasher};
        // The standard library seeds every hasher randomly. That is random enough to distinguish the data of two cells.
        Self::new(std::collections::hash_map::RandomState::new().build_hasher().finish())
    }

    /// The 8-byte value at this index. The stream contains it in little-endian byte order.
    pub fn word(self, index: u64) -> u64 {
        // SplitMix64's finalizer (Steele, Lea, Flood 2014), applied to seed and index.
        let mut word = self.seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Fills `bytes` with the stream, starting at byte `offset` of the stream.
    pub fn fill(self, offset: u64, bytes: &mut [u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = self.word(at / 8).to_le_bytes();
            let within = (at % 8) as usize;
            let length = (8 - within).min(rest.len());
            let (head, tail) = rest.split_at_mut(length);
            head.copy_from_slice(&word[within..within + length]);
            at += length as u64;
            rest = tail;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_part_equals_the_same_part_of_the_whole(seed: u64, start in 0usize..100, length in 0usize..100) {
            let pattern = Pattern::new(seed);
            let mut whole = vec![0; 200];
            pattern.fill(0, &mut whole);
            let mut part = vec![0; length];
            pattern.fill(start as u64, &mut part);
            prop_assert_eq!(&whole[start..start + length], &part[..]);
        }

        #[test]
        fn shifted_and_stale_data_differ(seed: u64, shift in 1u64..4096) {
            let (mut here, mut there, mut stale) = ([0; 64], [0; 64], [0; 64]);
            Pattern::new(seed).fill(0, &mut here);
            Pattern::new(seed).fill(shift, &mut there);
            Pattern::new(seed.wrapping_add(1)).fill(0, &mut stale);
            prop_assert_ne!(here, there);
            prop_assert_ne!(here, stale);
        }
    }
}
