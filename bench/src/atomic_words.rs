//! The 8-byte values that atomic operations change, set before the transfers and verified after them.
//!
//! Each operation adds one to the 8-byte value of its slot and returns the previous value. A compare-and-swap expects the
//! current value and swaps in that value plus one. So the number of operations determines what both sides must contain. The
//! bytes between the 8-byte values must not change.

use peerpath_exporter::View;

use crate::layout::Layout;
use crate::pattern::Pattern;
use crate::peer::message::{AtomicState, Fill, Verify};
use crate::window::{Access, Mismatch, VerifyError};

/// The 8-byte values of a cell, in the exported memory (near) and in initiator memory (far).
pub struct AtomicWords<'a> {
    layout: &'a Layout,
    near: Access<'a>,
    far: &'a dyn View,
    around: [Pattern; 2],
}

impl<'a> AtomicWords<'a> {
    /// Sets the 8-byte values in the exported memory, and fills the bytes between them. Also fills initiator memory.
    ///
    /// # Errors
    /// Writing the memory of either side fails, or the connection to the peer is lost.
    pub fn fill(layout: &'a Layout, near: Access<'a>, far: &'a dyn View) -> Result<Self, VerifyError> {
        let words = Self { layout, near, far, around: [Pattern::random(), Pattern::random()] };
        match near {
            Access::Local(near) => set(layout, near, words.around[0])?,
            Access::Remote(remote, window) => {
                remote.fill(Fill { window, seed: words.around[0].seed(), words: Some(words.state(0)) })?;
            }
        }
        far.write(layout.far_start(), &words.expected_far(0)).map_err(failed(FAR))?;
        Ok(words)
    }

    /// Compares the memory of both sides with the expected state after `operations` operations. Returns the number of compared
    /// bytes that belong to the 8-byte values.
    ///
    /// # Errors
    /// Some bytes are wrong, or reading the memory of either side fails.
    pub fn verify(&self, operations: u64) -> Result<u64, VerifyError> {
        let Self { layout, near, far, around } = *self;
        match near {
            Access::Local(near) => verify(layout, near, around[0], operations)?,
            Access::Remote(remote, window) => {
                let (seed, words) = (around[0].seed(), Some(self.state(operations)));
                remote.verify(Verify { window, used: 0, slots_seed: seed, rest_seed: seed, words })?;
            }
        }
        compare(FAR, far, layout.far_start(), &self.expected_far(operations))?;
        Ok(layout.used_slots(operations) * layout.size_bytes())
    }

    fn state(&self, operations: u64) -> AtomicState {
        AtomicState { first: self.layout.word(0, 0), operations }
    }

    fn expected_far(&self, operations: u64) -> Vec<u8> {
        let returned = |slot| operations_on(self.layout, slot, operations).checked_sub(1);
        expected(self.layout, self.around[1], returned)
    }
}

const NEAR: &str = "exported memory";
const FAR: &str = "initiator memory";

/// Sets the 8-byte values in exported memory of this host, and fills the bytes between them.
///
/// # Errors
/// Writing the memory fails.
pub fn set(layout: &Layout, near: &dyn View, around: Pattern) -> Result<(), VerifyError> {
    let words = expected(layout, around, |_| Some(0));
    near.write(layout.near_start(), &words).map_err(failed(NEAR))
}

/// Compares exported memory of this host with the expected state after `operations` operations.
///
/// # Errors
/// Some bytes are wrong, or reading the memory fails.
pub fn verify(layout: &Layout, near: &dyn View, around: Pattern, operations: u64) -> Result<(), VerifyError> {
    let words = expected(layout, around, |slot| Some(operations_on(layout, slot, operations)));
    compare(NEAR, near, layout.near_start(), &words)
}

fn failed(side: &'static str) -> impl Fn(std::io::Error) -> VerifyError {
    move |source| VerifyError::View { side, source }
}

/// Number of operations that use this slot, out of `operations` in total.
fn operations_on(layout: &Layout, slot: u64, operations: u64) -> u64 {
    operations / layout.slots() + u64::from(slot < operations % layout.slots())
}

/// Returns the expected bytes: the pattern, and in each slot the 8-byte value after `operations_on_slot(slot)` operations. A
/// slot with `None` keeps the pattern.
fn expected(layout: &Layout, around: Pattern, operations_on_slot: impl Fn(u64) -> Option<u64>) -> Vec<u8> {
    let mut bytes = vec![0; layout.length_bytes() as usize];
    around.fill(0, &mut bytes);
    for (slot, start) in (0..).zip(layout.slot_offsets()) {
        if let Some(operations) = operations_on_slot(slot) {
            // Devices access the 8-byte values in the byte order of this host.
            bytes[*start as usize..][..8].copy_from_slice(&layout.word(slot, operations).to_ne_bytes());
        }
    }
    bytes
}

fn compare(side: &'static str, view: &dyn View, start: u64, expected: &[u8]) -> Result<(), VerifyError> {
    let mut found = vec![0; expected.len()];
    view.read(start, &mut found).map_err(failed(side))?;
    let Some(mismatch) = Mismatch::between(expected, &found) else { return Ok(()) };
    Err(Mismatch {
        place: if side == FAR { "of initiator memory" } else { "of the exported memory" },
        first_offset: start + mismatch.first_offset,
        guess: "an operation was lost, repeated or applied to a wrong address",
        ..mismatch
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bytes;
    use peerpath_importers::{Op, Transfer};
    use proptest::prelude::*;

    fn perform(transfer: Transfer, near: &Bytes, far: &Bytes) {
        let mut word = [0; 8];
        near.read(transfer.buffer_offset, &mut word).unwrap();
        far.write(transfer.far_offset, &word).unwrap();
        let was = u64::from_ne_bytes(word);
        let is = match transfer.op {
            Op::FetchAdd => was.wrapping_add(transfer.operands.compare_add),
            _ if was == transfer.operands.compare_add => transfer.operands.swap,
            _ => was,
        };
        near.write(transfer.buffer_offset, &is.to_ne_bytes()).unwrap();
    }

    proptest! {
        #[test]
        fn counts_every_operation_and_finds_a_lost_one(
            wanted in 1u32..9, operations in 1u64..40, add: bool, lost in any::<prop::sample::Index>(), victim in any::<prop::sample::Index>(),
        ) {
            let op = if add { Op::FetchAdd } else { Op::CmpSwap };
            let (near, far) = (Bytes::new(40_000), Bytes::new(40_000));
            let layout = Layout::side_by_side(8, wanted, 40_000, 2, 1).unwrap().pop().unwrap();
            let words = AtomicWords::fill(&layout, Access::Local(&near), &far).unwrap();
            prop_assert_eq!(words.verify(0).unwrap(), 0);
            (0..operations).for_each(|turn| perform(layout.transfer(op, turn), &near, &far));
            prop_assert_eq!(words.verify(operations).unwrap(), layout.used_slots(operations) * 8);
            let at = layout.near_start() as usize + victim.index(layout.length_bytes() as usize);
            near.0.lock().unwrap()[at] ^= 1;
            prop_assert!(words.verify(operations).is_err());

            let words = AtomicWords::fill(&layout, Access::Local(&near), &far).unwrap();
            let lost = lost.index(operations as usize) as u64;
            (0..operations).filter(|turn| *turn != lost).for_each(|turn| perform(layout.transfer(op, turn), &near, &far));
            prop_assert!(words.verify(operations).is_err());
        }
    }
}
