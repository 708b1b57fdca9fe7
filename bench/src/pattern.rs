//! The bytes that travel: every 8-byte word depends on a seed and on its place, so that data from another cell (stale),
//! from another place (shifted) and data that never came (missing) all differ from what is expected.

/// A stream of bytes that any place of it can be computed alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

impl Pattern {
    /// The pattern of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// What it is made from.
    pub fn seed(self) -> u64 {
        self.seed
    }

    /// A pattern that no earlier one equals.
    pub fn fresh() -> Self {
        use std::hash::{BuildHasher, Hasher};
        // The standard library keys every hasher state afresh: randomness enough to tell one cell's data from another's.
        Self::new(std::collections::hash_map::RandomState::new().build_hasher().finish())
    }

    /// The 8 bytes at a place, in the order of a little-endian processor.
    pub fn word(self, index: u64) -> u64 {
        // SplitMix64's finaliser (Steele, Lea, Flood 2014) over seed and place.
        let mut word = self.seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Fills `bytes` with the stream from `offset` on.
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
        fn any_part_equals_the_whole(seed: u64, start in 0usize..100, length in 0usize..100) {
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
