//! Ranges of a BAR: how they are written, and what is wrong with one before the kernel is asked.

use std::fmt;
use std::str::FromStr;

use crate::size::parse_bytes;
use crate::{BarRange, Error};

impl fmt::Display for BarRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:#x}+{:#x}", self.offset_bytes, self.length_bytes))
    }
}

impl FromStr for BarRange {
    type Err = Error;

    /// `OFFSET+LENGTH`, each as sizes are written: `0x4000+0x2000`, `16K+8K`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parsed = text.split_once('+').and_then(|(offset, length)| {
            Some(Self { offset_bytes: parse_bytes(offset)?, length_bytes: parse_bytes(length)? })
        });
        parsed.ok_or_else(|| Error::BadRangeText { text: text.chars().take(64).collect() })
    }
}

/// What is wrong with a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeProblem {
    /// It has no bytes.
    #[error("it is empty")]
    Empty,
    /// It does not start and end at a page.
    #[error("it does not start and end at multiples of the page size, {page_bytes:#x}")]
    Unaligned {
        /// The page size.
        page_bytes: u64,
    },
    /// It leaves the BAR.
    #[error("the BAR ends at {bar_bytes:#x}")]
    PastEnd {
        /// The size of the BAR.
        bar_bytes: u64,
    },
    /// It shares bytes with another one.
    #[error("it overlaps the range {other}")]
    Overlap {
        /// The other one.
        other: BarRange,
    },
}

/// The first range that a BAR of `bar_bytes` cannot give, with the reason.
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

/// The kernel would take overlapping ranges; the same byte would then stand at two places of the buffer, and no
/// verification of what was written where could be trusted.
fn find_overlap(ranges: &[BarRange]) -> Option<(BarRange, RangeProblem)> {
    let mut sorted: Vec<_> = ranges.to_vec();
    sorted.sort_by_key(|range| range.offset_bytes);
    sorted
        .windows(2)
        .find(|pair| pair[0].offset_bytes + pair[0].length_bytes > pair[1].offset_bytes)
        .map(|pair| (pair[1], RangeProblem::Overlap { other: pair[0] }))
}

/// The first `length_bytes` of the ranges, in their order; the last may be cut.
pub(crate) fn take_front(ranges: &[BarRange], length_bytes: u64) -> Vec<BarRange> {
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

/// The sum of the lengths; `None` beyond 64 bits.
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
    fn reads_hexadecimal_and_suffixes() {
        assert_eq!("0x4000+8K".parse::<BarRange>().unwrap(), range(0x4000, 0x2000));
        for text in ["", "+", "1", "1+", "+1", "1+1+1", "0x1000-0x2000"] {
            assert!(text.parse::<BarRange>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let find = |ranges: &[BarRange]| {
            find_problem(ranges, 0x10000, PAGE).map(|(range, problem)| (range.offset_bytes, problem))
        };
        assert_eq!(find(&[range(0, 0x10000)]), None);
        assert_eq!(find(&[range(0x8000, 0x1000), range(0, 0x8000)]), None, "order and adjacency are free");
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
    fn cuts_the_last_range() {
        let ranges = [range(0x8000, 0x2000), range(0, 0x2000)];
        assert_eq!(take_front(&ranges, 0x3000), [range(0x8000, 0x2000), range(0, 0x1000)]);
        assert_eq!(take_front(&ranges, 0x2000), [range(0x8000, 0x2000)]);
        assert_eq!(take_front(&ranges, 0x4000), ranges);
    }

    proptest! {
        #[test]
        fn printing_and_reading_agree(offset: u64, length: u64) {
            prop_assert_eq!(range(offset, length).to_string().parse::<BarRange>().unwrap(), range(offset, length));
        }

        #[test]
        fn what_passes_is_disjoint_and_inside(raw in proptest::collection::vec((0u64..64, 0u64..8), 1..6)) {
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
