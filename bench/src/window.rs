//! The part of the buffer that a cell uses, filled before and verified after.
//!
//! A window is a row of slots, one for each transfer under way, between two guards. Both sides are filled: the giving
//! side with fresh data, the taking side with other data that must be gone from the slots afterwards and untouched in
//! the guards. So bytes that stayed away, went elsewhere, or changed behind the run's back are all found.
//!
//! A giving side that may not be written (the content of a drive) gives what it holds: that is read beforehand through its
//! own view, and compared like data of ours, on both sides.

use std::io;
use std::ops::Range;

use peerpath_exporter::View;
use peerpath_importers::{Direction, Op, Transfer};

use crate::pattern::Pattern;

/// Bytes before and after the slots, where the buffer has room for them.
const GUARD_BYTES: u64 = 4096;
/// Slots begin on cache lines.
const ALIGNMENT_BYTES: u64 = 64;
/// How much is compared at a time.
const CHUNK_BYTES: u64 = 256 * 1024;

/// Where the slots lie, the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The beginnings of the slots, in their order.
    slots: Box<[u64]>,
    size: u64,
    length: u64,
}

impl Layout {
    /// As many slots of `size` bytes as are wanted and fit into `room`; none where not even one fits.
    pub fn new(size: u64, wanted: u32, room: u64) -> Option<Self> {
        if size == 0 || size > room {
            return None;
        }
        let stride = size.next_multiple_of(ALIGNMENT_BYTES);
        let guard = if room >= stride + 2 * GUARD_BYTES { GUARD_BYTES } else { 0 };
        // The last slot needs no padding behind it.
        let fits = (room - 2 * guard - size) / stride + 1;
        let slots: Box<[u64]> = (0..u64::from(wanted.max(1)).min(fits)).map(|slot| guard + slot * stride).collect();
        let length = slots[slots.len() - 1] + size + guard;
        Some(Self { slots, size, length })
    }

    /// Slots that each lie within one part of a buffer made of parts of these lengths: in every part that is long enough at
    /// least one, and in all of them as many as are wanted, as far as they fit. None where no part is long enough.
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
        Some(Self { slots: slots.into(), size, length })
    }

    /// Bytes from the first guard to the last.
    pub fn length_bytes(&self) -> u64 {
        self.length
    }

    /// The transfer that uses the slot of the `turn`-th operation.
    pub fn transfer(&self, op: Op, turn: u64) -> Transfer {
        let offset = self.slots[(turn % self.slots()) as usize];
        // A size beyond 4 GiB is refused when the plan is made.
        let length_bytes = u32::try_from(self.size).unwrap_or(u32::MAX);
        Transfer { id: turn, op, buffer_offset: offset, far_offset: offset, length_bytes }
    }

    /// How many slots there are.
    pub fn slots(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Slots that `operations` operations have used.
    pub fn used_slots(&self, operations: u64) -> u64 {
        self.slots().min(operations)
    }

    /// Whether the byte at `offset` belongs to one of the first `used` slots, and up to where that answer holds.
    fn stretch(&self, offset: u64, used: u64) -> (bool, u64) {
        let used = &self.slots[..used as usize];
        let next = used.partition_point(|start| *start <= offset);
        match used[..next].last().map(|start| start + self.size) {
            Some(end) if offset < end => (true, end),
            _ => (false, used.get(next).copied().unwrap_or(self.length)),
        }
    }
}

/// Bytes of a whole window.
#[derive(Debug)]
enum Content {
    /// Made by us.
    Pattern(Pattern),
    /// Found there.
    Found(Vec<u8>),
}

impl Content {
    fn fill(&self, offset: u64, bytes: &mut [u8]) {
        match self {
            Self::Pattern(pattern) => pattern.fill(offset, bytes),
            Self::Found(found) => bytes.copy_from_slice(&found[offset as usize..][..bytes.len()]),
        }
    }
}

/// What a side must hold: this in the slots that were used, that everywhere else.
#[derive(Debug, Clone, Copy)]
struct Expected<'a> {
    slots: &'a Content,
    rest: &'a Content,
}

/// The two sides of a cell and the data in them.
pub struct Window<'a> {
    layout: &'a Layout,
    direction: Direction,
    near: &'a dyn View,
    far: &'a dyn View,
    given: Content,
    taken: Content,
}

/// Bytes that are not what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wrong_bytes} of {checked_bytes} bytes {place} are wrong, the first at offset {first_offset:#x}: {expected:#04x} was expected and {found:#04x} found ({guess})"
)]
pub struct Mismatch {
    place: &'static str,
    wrong_bytes: u64,
    checked_bytes: u64,
    first_offset: u64,
    expected: u8,
    found: u8,
    guess: &'static str,
}

/// Verification did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The data are wrong.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// A side could not be looked at.
    #[error("the {side} could not be looked at")]
    View {
        /// Which side.
        side: &'static str,
        /// What it answered.
        #[source]
        source: io::Error,
    },
}

const NEAR: &str = "exported memory";
const FAR: &str = "far side";

impl<'a> Window<'a> {
    /// Fills both sides; reads the giving one where it may not be written.
    ///
    /// # Errors
    /// A side could not be written or read.
    pub fn fill(
        layout: &'a Layout,
        direction: Direction,
        near: &'a dyn View,
        far: &'a dyn View,
    ) -> Result<Self, VerifyError> {
        let fresh = || Content::Pattern(Pattern::fresh());
        let mut window = Self { layout, direction, near, far, given: fresh(), taken: fresh() };
        let (giving, taking) = window.sides();
        window.write(taking, &window.taken)?;
        if window.view(giving).is_writable() {
            window.write(giving, &window.given)?;
        } else {
            window.given = Content::Found(window.read(giving)?);
        }
        Ok(window)
    }

    /// Compares both sides, guards included, with what `operations` operations must have left; returns how many bytes
    /// of the slots were compared.
    ///
    /// # Errors
    /// Wrong bytes, or a side that could not be read.
    pub fn verify(&self, operations: u64) -> Result<u64, VerifyError> {
        let used = self.layout.used_slots(operations);
        let (giving, taking) = self.sides();
        self.compare(taking, used, Expected { slots: &self.given, rest: &self.taken })?;
        self.compare(giving, used, Expected { slots: &self.given, rest: &self.given })?;
        Ok(used * self.layout.size)
    }

    fn sides(&self) -> (&'static str, &'static str) {
        match self.direction {
            Direction::IntoSource => (FAR, NEAR),
            Direction::OutOfSource => (NEAR, FAR),
        }
    }

    fn view(&self, side: &'static str) -> &'a dyn View {
        if side == NEAR { self.near } else { self.far }
    }

    fn chunks(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let length = self.layout.length_bytes();
        (0..length).step_by(CHUNK_BYTES as usize).map(move |start| start..length.min(start + CHUNK_BYTES))
    }

    fn read(&self, side: &'static str) -> Result<Vec<u8>, VerifyError> {
        let mut bytes = vec![0; self.layout.length_bytes() as usize];
        for span in self.chunks() {
            let part = &mut bytes[span.start as usize..span.end as usize];
            self.view(side).read(span.start, part).map_err(|source| VerifyError::View { side, source })?;
        }
        Ok(bytes)
    }

    fn write(&self, side: &'static str, content: &Content) -> Result<(), VerifyError> {
        let mut bytes = vec![0; CHUNK_BYTES as usize];
        for span in self.chunks() {
            let bytes = &mut bytes[..(span.end - span.start) as usize];
            content.fill(span.start, bytes);
            self.view(side).write(span.start, bytes).map_err(|source| VerifyError::View { side, source })?;
        }
        Ok(())
    }

    fn compare(&self, side: &'static str, used: u64, expected: Expected<'_>) -> Result<(), VerifyError> {
        let mut found = vec![0; CHUNK_BYTES as usize];
        let mut wanted = vec![0; CHUNK_BYTES as usize];
        let mut first: Option<Mismatch> = None;
        let mut wrong_bytes = 0;
        for span in self.chunks() {
            let length = (span.end - span.start) as usize;
            let (found, wanted) = (&mut found[..length], &mut wanted[..length]);
            self.view(side).read(span.start, found).map_err(|source| VerifyError::View { side, source })?;
            self.expect(span.clone(), used, expected, wanted);
            if found == wanted {
                continue;
            }
            wrong_bytes += found.iter().zip(wanted.iter()).filter(|(found, wanted)| found != wanted).count() as u64;
            if first.is_none() {
                let at = found.iter().zip(wanted.iter()).position(|(found, wanted)| found != wanted).unwrap_or(0);
                first = Some(self.describe(side, span.start + at as u64, used, expected, wanted[at], found[at]));
            }
        }
        match first {
            None => Ok(()),
            Some(first) => Err(Mismatch { wrong_bytes, ..first }.into()),
        }
    }

    fn expect(&self, span: Range<u64>, used: u64, expected: Expected<'_>, wanted: &mut [u8]) {
        let mut at = span.start;
        while at < span.end {
            let (in_slot, until) = self.layout.stretch(at, used);
            let until = until.min(span.end);
            let content = if in_slot { expected.slots } else { expected.rest };
            content.fill(at, &mut wanted[(at - span.start) as usize..(until - span.start) as usize]);
            at = until;
        }
    }

    fn describe(
        &self,
        side: &'static str,
        offset: u64,
        used: u64,
        expected: Expected<'_>,
        wanted: u8,
        found: u8,
    ) -> Mismatch {
        let (in_slot, _) = self.layout.stretch(offset, used);
        let mut before = [0];
        expected.rest.fill(offset, &mut before);
        let guess = match in_slot {
            true if before[0] == found => "the bytes from before the run: nothing arrived there",
            true => "neither what was sent nor what was there before: changed behind the run's back, or sent elsewhere",
            false => "nothing should have been written there",
        };
        Mismatch {
            place: if side == NEAR { "of the exported memory" } else { "of the far side" },
            wrong_bytes: 0,
            checked_bytes: self.layout.length_bytes(),
            first_offset: offset,
            expected: wanted,
            found,
            guess,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use proptest::prelude::*;

    struct Memory(Mutex<Vec<u8>>);

    /// The content of a drive.
    struct Precious(Memory);

    impl View for Precious {
        fn length_bytes(&self) -> u64 {
            self.0.length_bytes()
        }
        fn is_writable(&self) -> bool {
            false
        }
        fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, into)
        }
        fn write(&self, _offset: u64, _from: &[u8]) -> io::Result<()> {
            panic!("it may not be written")
        }
    }

    impl Memory {
        fn new(length: u64) -> Self {
            Self(Mutex::new(vec![0; length as usize]))
        }
    }

    impl View for Memory {
        fn length_bytes(&self) -> u64 {
            self.0.lock().unwrap().len() as u64
        }
        fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
            into.copy_from_slice(&self.0.lock().unwrap()[offset as usize..][..into.len()]);
            Ok(())
        }
        fn write(&self, offset: u64, from: &[u8]) -> io::Result<()> {
            self.0.lock().unwrap()[offset as usize..][..from.len()].copy_from_slice(from);
            Ok(())
        }
    }

    /// Carries a transfer out, `shift` bytes away from where it should go.
    fn carry(transfer: Transfer, direction: Direction, near: &Memory, far: &Memory, shift: u64) {
        let mut bytes = vec![0; transfer.length_bytes as usize];
        let (from, to) = match direction {
            Direction::IntoSource => (far, near),
            Direction::OutOfSource => (near, far),
        };
        from.read(transfer.far_offset, &mut bytes).unwrap();
        to.write(transfer.buffer_offset + shift, &bytes).unwrap();
    }

    const DIRECTIONS: [Direction; 2] = [Direction::IntoSource, Direction::OutOfSource];

    proptest! {
        #[test]
        fn slots_fit_and_do_not_overlap(size in 1u64..100_000, wanted in 1u32..64, room in 1u64..1_000_000) {
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
        fn no_slot_lies_in_two_parts(
            size in 1u64..5000, wanted in 1u32..64, parts in proptest::collection::vec(1u64..20_000, 1..8),
        ) {
            let owner: Vec<usize> =
                parts.iter().enumerate().flat_map(|(part, &length)| (0..length).map(move |_| part)).collect();
            match Layout::within_parts(size, wanted, parts.iter().copied()) {
                None => prop_assert!(parts.iter().all(|length| *length < size)),
                Some(layout) => {
                    prop_assert!(layout.length_bytes() <= owner.len() as u64);
                    let mut end = 0;
                    for &start in &layout.slots {
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
        fn right_data_pass_and_one_changed_byte_does_not(
            size in 1u64..5000, wanted in 1u32..5, operations in 0u64..8, victim: prop::sample::Index, near_side: bool,
        ) {
            for direction in DIRECTIONS {
                let layout = Layout::new(size, wanted, 40_000).unwrap();
                let (near, far) = (Memory::new(40_000), Memory::new(layout.length_bytes()));
                let window = Window::fill(&layout, direction, &near, &far).unwrap();
                for turn in 0..operations {
                    carry(layout.transfer(Op::Write, turn), direction, &near, &far, 0);
                }
                prop_assert_eq!(window.verify(operations).unwrap(), layout.used_slots(operations) * size);

                let side = if near_side { &near } else { &far };
                let victim = victim.index(layout.length_bytes() as usize);
                side.0.lock().unwrap()[victim] ^= 0x40;
                prop_assert!(matches!(window.verify(operations), Err(VerifyError::Mismatch(_))));
            }
        }
    }

    #[test]
    fn a_side_that_may_not_be_written_gives_what_it_holds() {
        let direction = Direction::IntoSource;
        let layout = Layout::new(4096, 3, 40_000).unwrap();
        let (near, far) = (Memory::new(40_000), Precious(Memory::new(40_000)));
        Pattern::fresh().fill(0, &mut far.0.0.lock().unwrap());
        let before = far.0.0.lock().unwrap().clone();
        let window = Window::fill(&layout, direction, &near, &far).unwrap();
        assert!(window.verify(1).is_err(), "nothing came yet");
        for turn in 0..2 {
            carry(layout.transfer(Op::Read, turn), direction, &near, &far.0, 0);
        }
        assert_eq!(window.verify(2).unwrap(), 8192);
        assert!(window.verify(3).is_err(), "the third never came");
        assert_eq!(*far.0.0.lock().unwrap(), before);
        for (victim, side) in [(5000, &near), (5000, &far.0), (100, &near), (100, &far.0)] {
            side.0.lock().unwrap()[victim] ^= 0x40;
            assert!(window.verify(2).is_err(), "{victim}");
            side.0.lock().unwrap()[victim] ^= 0x40;
        }
        window.verify(2).unwrap();
    }

    #[test]
    fn missing_stale_and_shifted_data_are_found() {
        for direction in DIRECTIONS {
            let layout = Layout::new(256, 2, 40_000).unwrap();
            let (near, far) = (Memory::new(40_000), Memory::new(40_000));
            let window = Window::fill(&layout, direction, &near, &far).unwrap();
            carry(layout.transfer(Op::Write, 0), direction, &near, &far, 0);
            assert!(window.verify(2).is_err(), "the second never came");
            carry(layout.transfer(Op::Write, 1), direction, &near, &far, 0);
            window.verify(2).unwrap();
            let window = Window::fill(&layout, direction, &near, &far).unwrap();
            assert!(window.verify(2).is_err(), "what came was the data of before");
            for turn in 0..2 {
                carry(layout.transfer(Op::Write, turn), direction, &near, &far, 64);
            }
            assert!(window.verify(2).is_err(), "one cache line too far");
        }
    }
}
