//! Physical Region Page (PRP) entries, which describe the data buffer of a command.
//!
//! The first entry may point into a page; all others point to the start of a page. If the data covers two pages, the second
//! entry points to the second page. If it covers more, the second entry points to a list of all pages except the first. This
//! driver uses lists of one page, which limits the length of a command.

/// The two PRP entries of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prp {
    pub(super) first: u64,
    pub(super) second: u64,
}

/// Returns the maximum bytes of a command with a PRP list of one page, for data at any offset in its first page.
pub(super) fn longest_bytes(page_bytes: u64) -> u64 {
    page_bytes / 8 * page_bytes
}

/// Returns the PRP entries for `length` bytes (at least one) at `address`. Fills `list` with the content of the PRP list to
/// store at `list_address`, or leaves it empty if the command needs no list.
pub(super) fn describe(address: u64, length: u64, page_bytes: u64, list_address: u64, list: &mut Vec<u8>) -> Prp {
    list.clear();
    let first_page = address & !(page_bytes - 1);
    let last_page = (address + length - 1) & !(page_bytes - 1);
    let further = (last_page - first_page) / page_bytes;
    let second = match further {
        0 => 0,
        1 => last_page,
        _ => {
            for index in 1..=further {
                list.extend_from_slice(&(first_page + index * page_bytes).to_le_bytes());
            }
            list_address
        }
    };
    Prp { first: address, second }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u64 = 4096;
    const LIST: u64 = 0xabc_d000;

    #[test]
    fn describes_two_pages_without_a_list() {
        let mut list = vec![1, 2, 3];
        assert_eq!(describe(0x10_0000, PAGE, PAGE, LIST, &mut list), Prp { first: 0x10_0000, second: 0 });
        assert_eq!(describe(0x10_0800, PAGE, PAGE, LIST, &mut list), Prp { first: 0x10_0800, second: 0x10_1000 });
        assert!(list.is_empty());
        assert_eq!(describe(0x10_0800, 2 * PAGE, PAGE, LIST, &mut list), Prp { first: 0x10_0800, second: LIST });
        assert_eq!(list.len(), 16);
    }

    proptest! {
        #[test]
        fn entries_cover_every_byte_once(
            page_shift in 12_u32..17,
            start in 0_u64..1 << 40,
            length in 1_u64..=2 << 20,
        ) {
            let page_bytes = 1 << page_shift;
            let length = length.min(longest_bytes(page_bytes));
            let mut list = Vec::new();
            let prp = describe(start, length, page_bytes, LIST, &mut list);
            prop_assert!(list.len() as u64 <= page_bytes, "the list exceeds its page");
            // Collect the addresses from the entries, as a drive does.
            let first = page_bytes - start % page_bytes;
            let mut spans = vec![(prp.first, first.min(length))];
            let rest = length - spans[0].1;
            let pages = rest.div_ceil(page_bytes);
            let pointers: Vec<u64> = match pages {
                0 => vec![],
                1 => vec![prp.second],
                _ => {
                    prop_assert_eq!(prp.second, LIST);
                    list.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
                }
            };
            prop_assert_eq!(pointers.len() as u64, pages);
            let mut left = rest;
            for pointer in pointers {
                prop_assert!(pointer.is_multiple_of(page_bytes));
                spans.push((pointer, left.min(page_bytes)));
                left -= left.min(page_bytes);
            }
            let mut at = start;
            for (address, length) in spans {
                prop_assert_eq!(address, at);
                at += length;
            }
            prop_assert_eq!(at, start + length);
        }
    }
}
