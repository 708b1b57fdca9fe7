//! Whether a translated domain has a free IOVA range for a BAR.

use std::sync::Arc;

/// Size of a page of the IOVA space. The kernel never allocates page 0.
const PAGE_BYTES: u64 = 4096;

/// The reserved ranges of an IOMMU group: first and last address, ordered. Between two ranges is at least one free address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReservedRanges(Arc<[(u64, u64)]>);

impl ReservedRanges {
    /// Joins ranges that overlap or adjoin.
    pub(super) fn of(ranges: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut ranges: Vec<(u64, u64)> = ranges.filter(|(first, last)| first <= last).collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let joins = next.0 <= kept.1.saturating_add(1);
            if joins {
                kept.1 = kept.1.max(next.1);
            }
            joins
        });
        Self(ranges.into())
    }

    /// Address of the ranges in memory. Values that share their memory have the same address, so a comparison does not read the
    /// ranges.
    pub(super) fn identity(&self) -> *const (u64, u64) {
        self.0.as_ptr()
    }

    /// Whether the reserved ranges leave a free range of `bytes` up to the address `limit`. The kernel aligns an IOVA to the next
    /// power of two of its size (`alloc_iova` with `size_aligned`, drivers/iommu/iova.c), so below 4 GiB a BAR of 2 GiB fits only
    /// at 2 GiB: page 0 is never allocated.
    pub(super) fn leave_free(&self, bytes: u64, limit: u64) -> bool {
        let (Some(align), Some(bytes)) =
            (bytes.max(PAGE_BYTES).checked_next_power_of_two(), bytes.checked_next_multiple_of(PAGE_BYTES))
        else {
            return false;
        };
        let ends_in_limit = |first: u64| first.checked_add(bytes.saturating_sub(1)).filter(|last| *last <= limit);
        let mut first = align;
        for (from, to) in self.0.iter() {
            // Reserved ranges are ordered: those before this one end below `first`.
            match ends_in_limit(first) {
                None => return false,
                Some(last) if last < *from => return true,
                Some(_) if *to < first => {}
                Some(_) => match to.checked_add(1).and_then(|next| next.checked_next_multiple_of(align)) {
                    Some(next) => first = next,
                    None => return false,
                },
            }
        }
        ends_in_limit(first).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn has_free_range(bytes: u64, limit: u64, reserved: &[(u64, u64)]) -> bool {
        ReservedRanges::of(reserved.iter().copied()).leave_free(bytes, limit)
    }

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

    #[test]
    fn joins_ranges_without_a_free_address_between_them() {
        let joined = |ranges: &[(u64, u64)]| ReservedRanges::of(ranges.iter().copied()).0.to_vec();
        assert_eq!(joined(&[(8, 9), (0, 3), (2, 5), (6, 6), (9, 8)]), [(0, 6), (8, 9)]);
        assert_eq!(joined(&[(0, u64::MAX), (5, 6), (u64::MAX, u64::MAX)]), [(0, u64::MAX)]);
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
