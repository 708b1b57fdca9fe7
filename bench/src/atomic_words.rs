//! The words that atomic operations work on, set before and verified after.
//!
//! Each operation makes the word of its slot greater by one (a compare-and-swap expects what stands there) and brings what
//! was there before. So what both sides must hold follows from how many operations there were; whatever lies between the
//! words must not have changed.

use peerpath_exporter::View;

use crate::layout::Layout;
use crate::pattern::Pattern;
use crate::peer::message::{Fill, Verify, WordsAt};
use crate::window::{Mismatch, Place, VerifyError};

/// The words of a cell, on both sides.
pub struct AtomicWords<'a> {
    layout: &'a Layout,
    near: Place<'a>,
    far: &'a dyn View,
    around: [Pattern; 2],
}

impl<'a> AtomicWords<'a> {
    /// Sets the words of the near side, and fills everything else.
    ///
    /// # Errors
    /// A side could not be written.
    pub fn fill(layout: &'a Layout, near: Place<'a>, far: &'a dyn View) -> Result<Self, VerifyError> {
        let words = Self { layout, near, far, around: [Pattern::fresh(), Pattern::fresh()] };
        match near {
            Place::Local(near) => set(layout, near, words.around[0])?,
            Place::Remote(remote, window) => {
                remote.fill(Fill { window, seed: words.around[0].seed(), words: Some(words.at(0)) })?;
            }
        }
        far.write(layout.far_start(), &words.expected_far(0)).map_err(failed(FAR))?;
        Ok(words)
    }

    /// Compares both sides with what `operations` operations must have left; returns how many bytes of the words were.
    ///
    /// # Errors
    /// Wrong bytes, or a side that could not be read.
    pub fn verify(&self, operations: u64) -> Result<u64, VerifyError> {
        let Self { layout, near, far, around } = *self;
        match near {
            Place::Local(near) => have(layout, near, around[0], operations)?,
            Place::Remote(remote, window) => {
                let (seed, words) = (around[0].seed(), Some(self.at(operations)));
                remote.verify(Verify { window, used: 0, slots_seed: seed, rest_seed: seed, words })?;
            }
        }
        compare(FAR, far, layout.far_start(), &self.expected_far(operations))?;
        Ok(layout.used_slots(operations) * layout.size_bytes())
    }

    fn at(&self, operations: u64) -> WordsAt {
        WordsAt { first: self.layout.word(0, 0), operations }
    }

    fn expected_far(&self, operations: u64) -> Vec<u8> {
        let brought = |slot| laps(self.layout, slot, operations).checked_sub(1);
        expected(self.layout, self.around[1], brought)
    }
}

const NEAR: &str = "exported memory";
const FAR: &str = "far side";

/// Sets the words of exported memory of this host, and fills everything around them.
///
/// # Errors
/// It could not be written.
pub fn set(layout: &Layout, near: &dyn View, around: Pattern) -> Result<(), VerifyError> {
    let words = expected(layout, around, |_| Some(0));
    near.write(layout.near_start(), &words).map_err(failed(NEAR))
}

/// Compares exported memory of this host with what so many operations must have left.
///
/// # Errors
/// Wrong bytes, or memory that could not be read.
pub fn have(layout: &Layout, near: &dyn View, around: Pattern, operations: u64) -> Result<(), VerifyError> {
    let words = expected(layout, around, |slot| Some(laps(layout, slot, operations)));
    compare(NEAR, near, layout.near_start(), &words)
}

fn failed(side: &'static str) -> impl Fn(std::io::Error) -> VerifyError {
    move |source| VerifyError::View { side, source }
}

/// How many operations a slot has seen.
fn laps(layout: &Layout, slot: u64, operations: u64) -> u64 {
    operations / layout.slots() + u64::from(slot < operations % layout.slots())
}

/// The pattern, and in it the word of each slot after as many operations as are said, where any are.
fn expected(layout: &Layout, around: Pattern, seen: impl Fn(u64) -> Option<u64>) -> Vec<u8> {
    let mut bytes = vec![0; layout.length_bytes() as usize];
    around.fill(0, &mut bytes);
    for (slot, start) in (0..).zip(layout.slot_offsets()) {
        if let Some(operations) = seen(slot) {
            // As the processor of this host has it in memory: that is what devices work on.
            bytes[*start as usize..][..8].copy_from_slice(&layout.word(slot, operations).to_ne_bytes());
        }
    }
    bytes
}

fn compare(side: &'static str, view: &dyn View, start: u64, wanted: &[u8]) -> Result<(), VerifyError> {
    let mut found = vec![0; wanted.len()];
    view.read(start, &mut found).map_err(failed(side))?;
    let wrong = || found.iter().zip(wanted).enumerate().filter(|(_, (found, wanted))| found != wanted);
    let Some((at, (found, expected))) = wrong().next() else { return Ok(()) };
    Err(Mismatch {
        place: if side == FAR { "of the far side" } else { "of the exported memory" },
        wrong_bytes: wrong().count() as u64,
        checked_bytes: wanted.len() as u64,
        first_offset: start + at as u64,
        expected: *expected,
        found: *found,
        guess: "an operation was lost, done twice, or done elsewhere",
        missing: false,
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bytes;
    use peerpath_importers::{Op, Transfer};
    use proptest::prelude::*;

    fn carry(transfer: Transfer, near: &Bytes, far: &Bytes) {
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
        fn every_operation_is_seen_and_a_lost_one_missed(
            wanted in 1u32..9, operations in 1u64..40, add: bool, lost in any::<prop::sample::Index>(), victim in any::<prop::sample::Index>(),
        ) {
            let op = if add { Op::FetchAdd } else { Op::CmpSwap };
            let (near, far) = (Bytes::new(40_000), Bytes::new(40_000));
            let layout = Layout::side_by_side(8, wanted, 40_000, 2, 1).unwrap().pop().unwrap();
            let words = AtomicWords::fill(&layout, Place::Local(&near), &far).unwrap();
            prop_assert_eq!(words.verify(0).unwrap(), 0);
            (0..operations).for_each(|turn| carry(layout.transfer(op, turn), &near, &far));
            prop_assert_eq!(words.verify(operations).unwrap(), layout.used_slots(operations) * 8);
            let at = layout.near_start() as usize + victim.index(layout.length_bytes() as usize);
            near.0.lock().unwrap()[at] ^= 1;
            prop_assert!(words.verify(operations).is_err());

            let words = AtomicWords::fill(&layout, Place::Local(&near), &far).unwrap();
            let lost = lost.index(operations as usize) as u64;
            (0..operations).filter(|turn| *turn != lost).for_each(|turn| carry(layout.transfer(op, turn), &near, &far));
            prop_assert!(words.verify(operations).is_err());
        }
    }
}
