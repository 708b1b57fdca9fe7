//! The byte pattern of `docs/wire.md`.

/// Returns the byte at `offset` of the pattern with `seed`.
pub fn byte(seed: u64, offset: u64) -> u8 {
    let mut x = seed.wrapping_add((offset / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    (x >> (8 * (offset % 8))) as u8
}

#[cfg(test)]
mod tests {
    #[test]
    fn matches_the_example_in_the_document() {
        let bytes: Vec<u8> = (0..16).map(|offset| super::byte(1, offset)).collect();
        let expected = [0xe5, 0x05, 0x0b, 0x10, 0x1d, 0x16, 0x92, 0x56, 0xc1, 0x5c, 0x02, 0x89, 0xec, 0x2d, 0x0a, 0x91];
        assert_eq!(bytes, expected);
    }
}
