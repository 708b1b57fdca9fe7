//! Transfers in flight on one send queue. They complete in the order in which they were posted.

use super::status::{FLUSHED, SUCCESS};

/// A transfer in flight.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// ID of the transfer.
    id: u64,
    /// Number of its work requests in flight: a send, and a receive if the op consumes a receive.
    open: u8,
    /// Status of the work request that failed, or success.
    status: u32,
}

/// Slots of a send queue, one per transfer in flight. The slot of a transfer is its position in the sequence of all posted
/// transfers, modulo the number of slots.
#[derive(Debug)]
pub(super) struct Ring {
    slots: Box<[Slot]>,
    mask: u64,
    depth: u64,
    posted: u64,
    /// Number of sends that have completed.
    completed: u64,
    /// Number of transfers that were reported as completed.
    ended: u64,
}

impl Ring {
    /// Creates a ring for `depth` transfers in flight.
    pub(super) fn new(depth: u32) -> Self {
        let capacity = u64::from(depth.max(1)).next_power_of_two();
        let slots = vec![Slot::default(); capacity as usize].into();
        Self { slots, mask: capacity - 1, depth: depth.into(), posted: 0, completed: 0, ended: 0 }
    }

    /// Returns the number of free slots.
    #[inline]
    pub(super) fn free_slots(&self) -> usize {
        (self.depth - (self.posted - self.ended)) as usize
    }

    /// Whether no transfer is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.posted == self.ended
    }

    /// Appends a transfer of `requests` work requests and returns its slot. The ring must have a free slot.
    #[inline]
    pub(super) fn push(&mut self, id: u64, requests: u8) -> u32 {
        let place = self.posted & self.mask;
        self.slots[place as usize] = Slot { id, open: requests, status: SUCCESS };
        self.posted += 1;
        place as u32
    }

    /// Removes the last `count` transfers, which were not posted.
    #[cold]
    pub(super) fn forget(&mut self, count: usize) {
        self.posted -= (count as u64).min(self.posted - self.completed);
    }

    /// Records the completion of a send and of the unsignaled sends before it.
    #[inline]
    pub(super) fn sent(&mut self, place: u32, status: u32) {
        while self.completed < self.posted {
            let this = self.completed & self.mask;
            self.completed += 1;
            let slot = &mut self.slots[this as usize];
            slot.open = slot.open.saturating_sub(1);
            if this == u64::from(place) {
                if status != SUCCESS && (slot.status == SUCCESS || slot.status == FLUSHED) {
                    slot.status = status;
                }
                return;
            }
        }
    }

    /// Records the completion of a receive. A failed receive takes precedence over a failed send, because the receive accesses
    /// the buffer.
    #[inline]
    pub(super) fn received(&mut self, place: u32, status: u32) {
        let Some(slot) = self.slots.get_mut(place as usize) else { return };
        slot.open = slot.open.saturating_sub(1);
        if status != SUCCESS && (slot.status == SUCCESS || status != FLUSHED) {
            slot.status = status;
        }
    }

    /// Returns the ID and the status of the next completed transfer.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(u64, u32)> {
        if self.ended == self.posted {
            return None;
        }
        let Slot { id, open, status } = self.slots[(self.ended & self.mask) as usize];
        if open > 0 {
            return None;
        }
        self.ended += 1;
        Some((id, status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn popped(ring: &mut Ring) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| ring.pop()).collect()
    }

    #[test]
    fn signaled_send_completes_earlier_unsignaled_sends() {
        let mut ring = Ring::new(3);
        let places: Vec<u32> = (10..13).map(|id| ring.push(id, 1)).collect();
        assert_eq!((ring.free_slots(), popped(&mut ring)), (0, vec![]));
        ring.sent(places[1], SUCCESS);
        assert_eq!(popped(&mut ring), [(10, SUCCESS), (11, SUCCESS)]);
        assert_eq!(ring.free_slots(), 2);
        ring.sent(places[2], 12);
        assert_eq!(popped(&mut ring), [(12, 12)]);
        assert!(ring.is_empty());
    }

    #[test]
    fn send_completes_with_its_receive() {
        let mut ring = Ring::new(2);
        let (first, second) = (ring.push(1, 2), ring.push(2, 2));
        ring.received(second, SUCCESS);
        ring.sent(first, SUCCESS);
        assert_eq!(popped(&mut ring), []);
        ring.received(first, SUCCESS);
        assert_eq!(popped(&mut ring), [(1, SUCCESS)]);
        ring.sent(second, SUCCESS);
        assert_eq!(popped(&mut ring), [(2, SUCCESS)]);
    }

    #[test]
    fn reports_the_original_failure_and_prefers_the_receive() {
        for (sent, received, completed) in
            [(FLUSHED, 4, 4), (10, FLUSHED, 10), (10, 4, 4), (SUCCESS, 4, 4), (12, SUCCESS, 12)]
        {
            for sent_first in [false, true] {
                let mut ring = Ring::new(1);
                let place = ring.push(7, 2);
                if sent_first {
                    ring.sent(place, sent);
                }
                ring.received(place, received);
                if !sent_first {
                    ring.sent(place, sent);
                }
                assert_eq!(popped(&mut ring), [(7, completed)], "{sent} {received} {sent_first}");
            }
        }
    }

    proptest! {
        #[test]
        fn reports_all_once_and_in_order(depth in 1u32..20, unsignaled in proptest::collection::vec(any::<bool>(), 1..200)) {
            let mut ring = Ring::new(depth);
            let mut signaled = Vec::new();
            let mut back = Vec::new();
            let count = unsignaled.len() as u64;
            for (id, unsignaled) in unsignaled.into_iter().enumerate() {
                if ring.free_slots() == 0 {
                    // The last transfer is always signaled; otherwise it would never complete.
                    for place in signaled.drain(..) {
                        ring.sent(place, SUCCESS);
                    }
                    back.extend(popped(&mut ring));
                }
                let last = ring.free_slots() == 1 || id as u64 + 1 == count;
                let place = ring.push(id as u64, 1);
                if last || !unsignaled {
                    signaled.push(place);
                }
            }
            signaled.into_iter().for_each(|place| ring.sent(place, SUCCESS));
            back.extend(popped(&mut ring));
            prop_assert_eq!(back, (0..count).map(|id| (id, SUCCESS)).collect::<Vec<_>>());
        }
    }
}
