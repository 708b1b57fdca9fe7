//! Whether a translated domain has a free IOVA range for a BAR.

/// Size of a page of the IOVA space. The kernel never allocates page 0.
const PAGE_BYTES: u64 = 4096;

/// Whether a range of `bytes` up to the address `limit` avoids all reserved ranges. The kernel aligns an IOVA to the next power of
/// two of its size (`alloc_iova` with `size_aligned`, drivers/iommu/iova.c), so a BAR of 2 GiB has only two places below 4 GiB.
pub(super) fn has_free_range(bytes: u64, limit: u64, reserved: &[(u64, u64)]) -> bool {
    let (Some(align), Some(bytes)) =
        (bytes.max(PAGE_BYTES).checked_next_power_of_two(), bytes.checked_next_multiple_of(PAGE_BYTES))
    else {
        return false;
    };
    let mut reserved = reserved.to_vec();
    reserved.sort_unstable();
    let mut start = Some(align);
    while let Some(first) = start {
        let Some(last) = first.checked_add(bytes.saturating_sub(1)).filter(|last| *last <= limit) else { return false };
        match reserved.iter().rfind(|(from, to)| *from <= last && *to >= first) {
            Some((_, to)) => start = to.checked_add(1).and_then(|next| next.checked_next_multiple_of(align)),
            None => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MSI: [(u64, u64); 1] = [(0xfee0_0000, 0xfeef_ffff)];
    const BELOW_4G: u64 = u32::MAX as u64;

    #[test]
    fn a_range_is_aligned_to_its_size_and_avoids_the_msi_window() {
        assert!(!has_free_range(2 << 30, BELOW_4G, &MSI), "page 0 is in the first half, the window in the second");
        assert!(has_free_range(2 << 30, BELOW_4G, &[]));
        assert!(has_free_range(1 << 30, BELOW_4G, &MSI));
        assert!(has_free_range(2 << 30, 2 * BELOW_4G, &MSI));
        assert!(has_free_range((1 << 30) + 1, BELOW_4G, &MSI), "at 2 GiB, below the window");
        assert!(!has_free_range((2 << 30) - 4096, BELOW_4G, &MSI), "aligned to 2 GiB too");
        assert!(!has_free_range(4 << 30, BELOW_4G, &[]));
        assert!(has_free_range(4096, 8191, &[]) && !has_free_range(4096, 8190, &[]));
    }

    proptest! {
        #[test]
        fn accepts_any_numbers(bytes: u64, limit: u64, reserved in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..8)) {
            let _ = has_free_range(bytes, limit, &reserved);
        }

        #[test]
        fn agrees_with_a_search_of_every_place(
            pages in 1_u64..40, limit in 1_u64..200, reserved in proptest::collection::vec((0_u64..200, 0_u64..30), 0..4)
        ) {
            let reserved: Vec<(u64, u64)> =
                reserved.iter().map(|(from, length)| (from * 4096, (from + length + 1) * 4096 - 1)).collect();
            let bytes = pages * 4096;
            let places = (1..200).map(|index| index * bytes.next_power_of_two());
            let expected = places.map(|first| (first, first + bytes - 1)).any(|(first, last)| {
                last <= limit * 4096 && !reserved.iter().any(|(from, to)| *from <= last && *to >= first)
            });
            prop_assert_eq!(has_free_range(bytes, limit * 4096, &reserved), expected);
        }
    }
}
