//! Ranges of a BAR: their text form, and the checks before an export.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;

use crate::size::parse_bytes;
use crate::{BarRange, Error, Origin, page_bytes};

impl BarRange {
    /// Converts bounds into a range of a BAR of `bar_bytes` bytes. The range may be empty or exceed the BAR; [`find_problem`]
    /// rejects both.
    pub(crate) fn from_bounds(bounds: &impl RangeBounds<u64>, bar_bytes: u64) -> Self {
        let start = match bounds.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match bounds.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => bar_bytes,
        };
        Self { offset_bytes: start, length_bytes: end.saturating_sub(start) }
    }
}

impl fmt::Display for BarRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:#x}+{:#x}", self.offset_bytes, self.length_bytes))
    }
}

impl FromStr for BarRange {
    type Err = Error;

    /// Parses `OFFSET+LENGTH`, e.g. `0x4000+0x2000` or `16K+8K`. [`parse_bytes`] parses both numbers.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parsed = text.split_once('+').and_then(|(offset, length)| {
            Some(Self { offset_bytes: parse_bytes(offset)?, length_bytes: parse_bytes(length)? })
        });
        parsed.ok_or_else(|| Error::BadRangeText { text: text.chars().take(64).collect() })
    }
}

/// Reason why a range cannot be exported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeProblem {
    /// The range is empty.
    #[error("it is empty")]
    Empty,
    /// The range does not start and end at page boundaries.
    #[error("it does not start and end at multiples of the page size, {page_bytes:#x}")]
    Unaligned {
        /// Page size in bytes.
        page_bytes: u64,
    },
    /// The range exceeds the BAR.
    #[error("the BAR ends at {bar_bytes:#x}")]
    PastEnd {
        /// Size of the BAR in bytes.
        bar_bytes: u64,
    },
    /// The range overlaps another range.
    #[error("it overlaps the range {other}")]
    Overlap {
        /// The other range.
        other: BarRange,
    },
    /// The range exceeds the ranges that the source was opened with.
    #[error("it is outside the ranges with which the source was opened")]
    NotOpened,
}

/// Returns the first range that cannot be exported from a BAR of `bar_bytes` bytes, with the reason.
pub(crate) fn find_problem(ranges: &[BarRange], bar_bytes: u64, page_bytes: u64) -> Option<(BarRange, RangeProblem)> {
    let alone = ranges.iter().find_map(|&range| Some((range, problem_of(range, bar_bytes, page_bytes)?)));
    alone.or_else(|| find_overlap(ranges))
}

fn problem_of(range: BarRange, bar_bytes: u64, page_bytes: u64) -> Option<RangeProblem> {
    let BarRange { offset_bytes, length_bytes } = range;
    if length_bytes == 0 {
        Some(RangeProblem::Empty)
    } else if offset_bytes.checked_add(length_bytes).is_none_or(|end| end > bar_bytes) {
        Some(RangeProblem::PastEnd { bar_bytes })
    } else if !offset_bytes.is_multiple_of(page_bytes) || !length_bytes.is_multiple_of(page_bytes) {
        Some(RangeProblem::Unaligned { page_bytes })
    } else {
        None
    }
}

/// Returns a range that overlaps another range. The kernel accepts overlapping ranges, but a byte at two offsets of the buffer
/// cannot be verified.
fn find_overlap(ranges: &[BarRange]) -> Option<(BarRange, RangeProblem)> {
    let mut sorted: Vec<_> = ranges.to_vec();
    sorted.sort_by_key(|range| range.offset_bytes);
    sorted
        .windows(2)
        .find(|pair| pair[0].offset_bytes + pair[0].length_bytes > pair[1].offset_bytes)
        .map(|pair| (pair[1], RangeProblem::Overlap { other: pair[0] }))
}

/// Whether one of `ranges` contains the range.
pub(crate) fn is_within(range: BarRange, ranges: &[BarRange]) -> bool {
    ranges.iter().any(|whole| {
        range.offset_bytes >= whole.offset_bytes
            && range.length_bytes <= whole.length_bytes
            && range.offset_bytes - whole.offset_bytes <= whole.length_bytes - range.length_bytes
    })
}

impl Origin {
    /// Returns the ranges of the first `length_bytes` bytes, in buffer order. The last range may be shortened.
    pub fn front(&self, length_bytes: u64) -> Vec<BarRange> {
        take_front(&self.ranges, length_bytes)
    }

    /// Divides `length_bytes` bytes into `count` ranges of equal length. A gap of the same length separates consecutive ranges,
    /// so that they cannot be mapped as one range.
    ///
    /// # Errors
    /// [`Error::BadLength`] if the ranges do not consist of whole pages, ranges and gaps together exceed the memory, or the
    /// memory already has several ranges.
    pub fn spread(&self, length_bytes: u64, count: u32) -> Result<Vec<BarRange>, Error> {
        let refused = |why, remedy| Err(Error::BadLength { source_name: self.to_string(), length_bytes, why, remedy });
        let [whole] = self.ranges[..] else {
            return refused(
                "the source already has several ranges".to_owned(),
                "Name the source without ranges, or do not split it.".to_owned(),
            );
        };
        let count = u64::from(count.max(1));
        let page_bytes = page_bytes();
        if length_bytes == 0 || !length_bytes.is_multiple_of(count * page_bytes) {
            let unit = count * page_bytes;
            return refused(
                format!("{count} ranges of whole pages have a multiple of {unit} bytes"),
                format!("Choose a multiple of {unit} bytes, or another number of ranges."),
            );
        }
        let each = length_bytes / count;
        let gaps = each * (count - 1);
        if length_bytes.checked_add(gaps).is_none_or(|room| room > whole.length_bytes) {
            return refused(
                format!(
                    "{count} ranges, separated by gaps of the same length, need more than the {} bytes of the source",
                    whole.length_bytes
                ),
                "Choose a smaller size or fewer ranges.".to_owned(),
            );
        }
        let start = whole.offset_bytes;
        Ok((0..count).map(|at| BarRange { offset_bytes: start + 2 * at * each, length_bytes: each }).collect())
    }
}

fn take_front(ranges: &[BarRange], length_bytes: u64) -> Vec<BarRange> {
    let mut left = length_bytes;
    let mut front = Vec::new();
    for range in ranges {
        if left == 0 {
            break;
        }
        let length_bytes = range.length_bytes.min(left);
        front.push(BarRange { offset_bytes: range.offset_bytes, length_bytes });
        left -= length_bytes;
    }
    front
}

/// Returns the sum of the lengths in bytes. `None` if it exceeds 64 bits.
pub(crate) fn total_bytes(ranges: &[BarRange]) -> Option<u64> {
    ranges.iter().try_fold(0_u64, |sum, range| sum.checked_add(range.length_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u64 = 0x1000;

    fn range(offset_bytes: u64, length_bytes: u64) -> BarRange {
        BarRange { offset_bytes, length_bytes }
    }

    #[test]
    fn parses_hexadecimal_and_suffixes() {
        assert_eq!("0x4000+8K".parse::<BarRange>().unwrap(), range(0x4000, 0x2000));
        for text in ["", "+", "1", "1+", "+1", "1+1+1", "0x1000-0x2000"] {
            assert!(text.parse::<BarRange>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn finds_why_a_range_cannot_be_exported() {
        let find = |ranges: &[BarRange]| {
            find_problem(ranges, 0x10000, PAGE).map(|(range, problem)| (range.offset_bytes, problem))
        };
        assert_eq!(find(&[range(0, 0x10000)]), None);
        assert_eq!(
            find(&[range(0x8000, 0x1000), range(0, 0x8000)]),
            None,
            "any order, and adjacent ranges, are accepted"
        );
        assert_eq!(find(&[range(0, 0)]), Some((0, RangeProblem::Empty)));
        assert_eq!(find(&[range(0x800, 0x1000)]), Some((0x800, RangeProblem::Unaligned { page_bytes: PAGE })));
        assert_eq!(find(&[range(0, 0x800)]), Some((0, RangeProblem::Unaligned { page_bytes: PAGE })));
        assert_eq!(find(&[range(0xf000, 0x2000)]), Some((0xf000, RangeProblem::PastEnd { bar_bytes: 0x10000 })));
        assert_eq!(
            find(&[range(u64::MAX - 0xfff, 0x1000)]),
            Some((u64::MAX - 0xfff, RangeProblem::PastEnd { bar_bytes: 0x10000 }))
        );
        assert_eq!(
            find(&[range(0x4000, 0x2000), range(0, 0x5000)]),
            Some((0x4000, RangeProblem::Overlap { other: range(0, 0x5000) }))
        );
        assert_eq!(
            find(&[range(0, 0x1000), range(0, 0x1000)]),
            Some((0, RangeProblem::Overlap { other: range(0, 0x1000) }))
        );
    }

    #[test]
    fn bounds_become_a_range_of_the_bar() {
        let bar_bytes = 0x10000;
        assert_eq!(BarRange::from_bounds(&.., bar_bytes), range(0, bar_bytes));
        assert_eq!(BarRange::from_bounds(&(0x1000..), bar_bytes), range(0x1000, 0xf000));
        assert_eq!(BarRange::from_bounds(&(0x1000..0x3000), bar_bytes), range(0x1000, 0x2000));
        assert_eq!(BarRange::from_bounds(&(..=0xfff), bar_bytes), range(0, 0x1000));
        assert_eq!(BarRange::from_bounds(&(0x1000..0x1000), bar_bytes), range(0x1000, 0));
        let beyond = BarRange::from_bounds(&(..=u64::MAX), bar_bytes);
        assert_eq!(find_problem(&[beyond], bar_bytes, PAGE), Some((beyond, RangeProblem::PastEnd { bar_bytes })));
    }

    #[test]
    fn cuts_the_last_range() {
        let ranges = [range(0x8000, 0x2000), range(0, 0x2000)];
        assert_eq!(take_front(&ranges, 0x3000), [range(0x8000, 0x2000), range(0, 0x1000)]);
        assert_eq!(take_front(&ranges, 0x2000), [range(0x8000, 0x2000)]);
        assert_eq!(take_front(&ranges, 0x4000), ranges);
    }

    fn bar(ranges: Vec<BarRange>) -> Origin {
        Origin { kind: crate::SourceKind::Vfio, bdf: None, bar: peerpath_paths::BarIndex::new(2).ok(), ranges }
    }

    #[test]
    fn spreads_with_gaps_as_long_as_the_ranges() {
        let bar_bytes = 128 << 20;
        let whole = bar(vec![range(0, bar_bytes)]);
        assert_eq!(whole.spread(8 * PAGE, 2).unwrap(), [range(0, 4 * PAGE), range(8 * PAGE, 4 * PAGE)]);
        for count in [1, 2, 8, 64, 512] {
            let spread = whole.spread(64 << 20, count).unwrap();
            assert_eq!(spread.len(), count as usize);
            assert_eq!(total_bytes(&spread), Some(64 << 20));
            assert_eq!(find_problem(&spread, bar_bytes, PAGE), None);
            assert!(spread.windows(2).all(|pair| pair[0].offset_bytes + pair[0].length_bytes < pair[1].offset_bytes));
        }
        let part = bar(vec![range(0x10000, 0x10000)]).spread(2 * PAGE, 2).unwrap();
        assert_eq!(part, [range(0x10000, PAGE), range(0x12000, PAGE)]);
    }

    #[test]
    fn reports_why_it_cannot_spread() {
        let whole = bar(vec![range(0, 16 * PAGE)]);
        for (origin, length_bytes, count, why) in [
            (&whole, 3 * PAGE, 2, "whole pages"),
            (&whole, 0, 2, "whole pages"),
            (&whole, 12 * PAGE, 2, "gaps"),
            (&whole, 1 << 63, 2, "gaps"),
            (&bar(vec![range(0, PAGE), range(2 * PAGE, PAGE)]), 2 * PAGE, 2, "several ranges"),
        ] {
            let message = origin.spread(length_bytes, count).unwrap_err().to_string();
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn finds_ranges_within_ranges() {
        let ranges = [range(0x1000, 0x3000), range(0x8000, 0x1000)];
        for (inside, range) in [
            (true, range(0x1000, 0x3000)),
            (true, range(0x3000, 0x1000)),
            (true, range(0x8000, 0x1000)),
            (false, range(0x3000, 0x2000)),
            (false, range(0, 0x2000)),
            (false, range(0x9000, 0x1000)),
            (false, range(u64::MAX, 1)),
        ] {
            assert_eq!(is_within(range, &ranges), inside, "{range}");
        }
    }

    proptest! {
        #[test]
        fn parses_what_it_prints(offset: u64, length: u64) {
            prop_assert_eq!(range(offset, length).to_string().parse::<BarRange>().unwrap(), range(offset, length));
        }

        #[test]
        fn accepted_ranges_are_disjoint_and_within_the_bar(raw in proptest::collection::vec((0u64..64, 0u64..8), 1..6)) {
            let ranges: Vec<_> = raw.iter().map(|&(page, pages)| range(page * PAGE, pages * PAGE)).collect();
            if find_problem(&ranges, 64 * PAGE, PAGE).is_none() {
                let mut seen = [false; 64];
                for range in &ranges {
                    prop_assert!(range.length_bytes > 0);
                    for page in range.offset_bytes / PAGE..(range.offset_bytes + range.length_bytes) / PAGE {
                        prop_assert!(!std::mem::replace(&mut seen[usize::try_from(page).unwrap()], true));
                    }
                }
            }
        }
    }
}
