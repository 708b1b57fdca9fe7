//! The offsets of a cell's operations in exported memory and in initiator memory. Identifiers call exported memory `near`, and
//! initiator memory `far`.

use std::sync::Arc;

use peerpath_importers::{Op, Operands, Transfer};

use crate::gcd::greatest_common_divisor;
use crate::pattern::Pattern;

/// Length of each guard, before and after the slots. A buffer that is too short has no guards.
const GUARD_BYTES: u64 = 4096;
/// Alignment of slots: a cache line.
const ALIGNMENT_BYTES: u64 = 64;
/// Alignment of layouts in one buffer that are at least a page long.
const PAGE_BYTES: u64 = 4096;

/// Slots between two guards, one slot per transfer in flight. Exported memory and initiator memory have the same slots, each from
/// its own start offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Offsets of the slots from the start, in ascending order.
    slots: Arc<[u64]>,
    size: u64,
    length: u64,
    near_start: u64,
    far_start: u64,
    /// Initial 8-byte value of the first slot, for atomic operations.
    first_word: u64,
}

impl Layout {
    fn of(slots: Arc<[u64]>, size: u64, length: u64) -> Self {
        Self { slots, size, length, near_start: 0, far_start: 0, first_word: Pattern::random().word(0) }
    }

    /// Creates a layout of at most `wanted` slots of `size` bytes that fits into `room` bytes. `None` if `room` is too small
    /// for one slot.
    pub fn new(size: u64, wanted: u32, room: u64) -> Option<Self> {
        if size == 0 || size > room {
            return None;
        }
        let stride = size.next_multiple_of(ALIGNMENT_BYTES);
        let guard = if room >= stride + 2 * GUARD_BYTES { GUARD_BYTES } else { 0 };
        // The last slot needs no padding after it.
        let fits = (room - 2 * guard - size) / stride + 1;
        let slots: Arc<[u64]> = (0..u64::from(wanted.max(1)).min(fits)).map(|slot| guard + slot * stride).collect();
        let length = slots[slots.len() - 1] + size + guard;
        Some(Self::of(slots, size, length))
    }

    /// Creates a layout for a buffer that consists of several ranges with these lengths. Each slot lies within one range, and
    /// each range that is long enough has at least one slot. `None` if every range is too short.
    pub fn within_parts(size: u64, wanted: u32, parts: impl ExactSizeIterator<Item = u64>) -> Option<Self> {
        let stride = size.next_multiple_of(ALIGNMENT_BYTES);
        let wanted_each = u64::from(wanted.max(1)).div_ceil(parts.len().max(1) as u64);
        let (mut slots, mut start) = (Vec::new(), 0);
        for length in parts {
            let fits = if size == 0 || size > length { 0 } else { (length - size) / stride + 1 };
            slots.extend((0..fits.min(wanted_each)).map(|slot| start + slot * stride));
            start += length;
        }
        let length = (slots.last()? + size + GUARD_BYTES).min(start);
        Some(Self::of(slots.into(), size, length))
    }

    /// Creates `count` layouts with up to `wanted` slots each, one after the other in `room` bytes. `None` if they do not fit. In
    /// initiator memory, each group of `shared` consecutive layouts has one buffer. The layouts of a group are adjacent, and the
    /// first one starts at offset 0.
    pub fn side_by_side(size: u64, wanted: u32, room: u64, count: u32, shared: u32) -> Option<Vec<Self>> {
        if count == 1 {
            return Some(vec![Self::new(size, wanted, room)?]);
        }
        let part = room / u64::from(count);
        let alignment = if part >= PAGE_BYTES { PAGE_BYTES } else { ALIGNMENT_BYTES };
        let part = part / alignment * alignment;
        let mut far_start = 0;
        let layout_at = |index: u32| {
            if index.is_multiple_of(shared) {
                far_start = 0;
            }
            let layout = Self::new(size, wanted, part)?;
            let moved = Self { near_start: u64::from(index) * part, far_start, ..layout };
            far_start += moved.length.next_multiple_of(alignment);
            Some(moved)
        };
        (0..count).map(layout_at).collect()
    }

    /// Creates layouts from offsets that another host chose: windows of `length` bytes at `starts`, each with slots of `size`
    /// bytes at the offsets `slots`. In initiator memory the windows follow each other. `None` if slots or windows overlap or are
    /// not in ascending order, or if a slot exceeds its window.
    pub fn at(starts: &[u64], slots: Vec<u64>, size: u64, length: u64) -> Option<Vec<Self>> {
        let window = Self::slots_at(slots, size, length)?;
        let (mut near_end, mut far_start) = (0, 0);
        let window_at = |&near_start: &u64| {
            let follows = near_start >= near_end;
            near_end = near_start.checked_add(length)?;
            let placed = Self { near_start, far_start, ..window.clone() };
            far_start = far_start.checked_add(length)?.checked_next_multiple_of(ALIGNMENT_BYTES)?;
            follows.then_some(placed)
        };
        starts.iter().map(window_at).collect()
    }

    fn slots_at(slots: Vec<u64>, size: u64, length: u64) -> Option<Self> {
        let mut end = 0;
        let fits = |start: &u64| {
            let follows = *start >= end;
            let Some(own_end) = start.checked_add(size) else { return false };
            end = own_end;
            follows && end <= length
        };
        let fit = size > 0 && !slots.is_empty() && slots.iter().all(fits);
        fit.then(|| Self::of(slots.into(), size, length))
    }

    /// Bytes from the start of the first guard to the end of the last.
    pub fn length_bytes(&self) -> u64 {
        self.length
    }

    /// Bytes per slot.
    pub fn size_bytes(&self) -> u64 {
        self.size
    }

    /// Swaps the start offsets, for transfers that the host of the exported memory posts: its exported memory is then the
    /// initiator memory. `far_start` is the offset of the layout in the memory of the other host. `None` if the layout exceeds
    /// the address space.
    pub fn seen_from_near(&self, far_start: u64) -> Option<Self> {
        far_start.checked_add(self.length)?;
        Some(Self { near_start: far_start, far_start: self.near_start, ..self.clone() })
    }

    /// Offset of the layout in the exported memory.
    pub fn near_start(&self) -> u64 {
        self.near_start
    }

    /// Offset of the layout in initiator memory.
    pub fn far_start(&self) -> u64 {
        self.far_start
    }

    /// The transfer of operation number `number`. Operations use the slots in turn.
    #[inline]
    pub fn transfer(&self, op: Op, number: u64) -> Transfer {
        let slot = number % self.slots();
        let offset = self.slots[slot as usize];
        // Plans with a size above 1 GiB are rejected, so the conversion never fails.
        let length_bytes = u32::try_from(self.size).unwrap_or(u32::MAX);
        let transfer = Transfer::new(number, op, self.near_start + offset, self.far_start + offset, length_bytes);
        let operands = match op {
            Op::FetchAdd => Operands { compare_add: 1, swap: 0 },
            Op::CmpSwap => {
                let word = self.word(slot, number / self.slots());
                Operands { compare_add: word, swap: word.wrapping_add(1) }
            }
            _ => return transfer,
        };
        Transfer { operands, ..transfer }
    }

    /// Returns the same layout with another initial 8-byte value of the first slot, for atomic operations.
    pub fn with_first_word(&self, first_word: u64) -> Self {
        Self { first_word, ..self.clone() }
    }

    /// The 8-byte value of a slot after `operations` atomic operations on it.
    pub fn word(&self, slot: u64, operations: u64) -> u64 {
        self.first_word.wrapping_add(slot << 32).wrapping_add(operations)
    }

    /// Offsets of the slots from the start of the layout.
    pub fn slot_offsets(&self) -> &[u64] {
        &self.slots
    }

    /// Offsets of the slots in the exported memory.
    pub fn near_offsets(&self) -> Vec<u64> {
        self.slots.iter().map(|slot| self.near_start + slot).collect()
    }

    /// Offsets of the slots in initiator memory.
    pub fn far_offsets(&self) -> Vec<u64> {
        self.slots.iter().map(|slot| self.far_start + slot).collect()
    }

    /// Number of slots.
    pub fn slots(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Number of operations after which each queue starts at its first slot again, if the operations use `queues` queues in
    /// turn.
    pub fn operations_per_cycle(&self, queues: u32) -> u64 {
        let queues = u64::from(queues.max(1));
        self.slots() / greatest_common_divisor(self.slots(), queues) * queues
    }

    /// Number of slots that `operations` operations use.
    pub fn used_slots(&self, operations: u64) -> u64 {
        self.slots().min(operations)
    }

    /// Whether `offset` is in one of the first `used` slots, and the end offset of that slot or of that gap between slots.
    pub(crate) fn extent_at(&self, offset: u64, used: u64) -> (bool, u64) {
        let used = &self.slots[..used as usize];
        let next = used.partition_point(|start| *start <= offset);
        match used[..next].last().map(|start| start + self.size) {
            Some(end) if offset < end => (true, end),
            _ => (false, used.get(next).copied().unwrap_or(self.length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slots_fit_and_are_disjoint(size in 1u64..100_000, wanted in 1u32..64, room in 1u64..1_000_000) {
            match Layout::new(size, wanted, room) {
                None => prop_assert!(size > room),
                Some(layout) => {
                    prop_assert!(layout.length_bytes() <= room);
                    let guard = layout.slots[0];
                    prop_assert!(guard == 0 || guard == GUARD_BYTES);
                    let mut end = guard;
                    for turn in 0..layout.slots() {
                        let transfer = layout.transfer(Op::Write, turn);
                        prop_assert!(transfer.buffer_offset >= end);
                        end = transfer.buffer_offset + u64::from(transfer.length_bytes);
                    }
                    prop_assert!(end + guard == layout.length_bytes());
                }
            }
        }

        #[test]
        fn each_slot_lies_within_one_part(
            size in 1u64..5000, wanted in 1u32..64, parts in proptest::collection::vec(1u64..20_000, 1..8),
        ) {
            let owner: Vec<usize> =
                parts.iter().enumerate().flat_map(|(part, &length)| (0..length).map(move |_| part)).collect();
            match Layout::within_parts(size, wanted, parts.iter().copied()) {
                None => prop_assert!(parts.iter().all(|length| *length < size)),
                Some(layout) => {
                    prop_assert!(layout.length_bytes() <= owner.len() as u64);
                    let mut end = 0;
                    for &start in layout.slots.iter() {
                        prop_assert!(start >= end);
                        end = start + size;
                        prop_assert_eq!(owner[start as usize], owner[end as usize - 1]);
                    }
                    prop_assert!(end <= layout.length_bytes());
                    let used: std::collections::HashSet<_> =
                        layout.slots.iter().map(|start| owner[*start as usize]).collect();
                    prop_assert_eq!(used.len(), parts.iter().filter(|length| **length >= size).count());
                }
            }
        }

        #[test]
        fn layouts_side_by_side_are_disjoint(
            size in 1u64..10_000, wanted in 1u32..16, room in 1u64..1_000_000, groups in 1u32..5, shared in 1u32..3,
        ) {
            if let Some(layouts) = Layout::side_by_side(size, wanted, room, groups * shared, shared) {
                prop_assert_eq!(layouts.len() as u32, groups * shared);
                let end = layouts.iter().fold(0, |end, layout| {
                    assert!(layout.near_start() >= end);
                    layout.near_start() + layout.length_bytes()
                });
                prop_assert!(end <= room);
                for group in layouts.chunks(shared as usize) {
                    prop_assert_eq!(group[0].far_start(), 0);
                    for pair in group.windows(2) {
                        prop_assert!(pair[1].far_start() >= pair[0].far_start() + pair[0].length_bytes());
                    }
                }
            }
        }
    }
}
