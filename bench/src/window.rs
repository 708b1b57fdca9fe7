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
use peerpath_importers::Direction;
use peerpath_paths::Cause;

use crate::layout::Layout;
use crate::pattern::Pattern;
use crate::peer::error::PeerError;
use crate::peer::message::{Fill, Post, Posted, Verify};

/// How much is compared at a time.
const CHUNK_BYTES: u64 = 256 * 1024;

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

/// Memory that another host fills and looks at for us.
pub trait Remote: Sync {
    /// Fills a window.
    ///
    /// # Errors
    /// The memory could not be written, or the host is gone.
    fn fill(&self, fill: Fill) -> Result<(), PeerError>;
    /// Compares a window.
    ///
    /// # Errors
    /// Wrong bytes, the memory could not be read, or the host is gone.
    fn verify(&self, verify: Verify) -> Result<(), PeerError>;
    /// Sends back what comes, to these places of ours, a lane each; returns the last byte of the first slot of each lane.
    ///
    /// # Errors
    /// It cannot, or the host is gone.
    fn echo(&self, back: &[u64]) -> Result<Vec<u8>, PeerError>;
    /// Ends that.
    ///
    /// # Errors
    /// It went wrong, or the host is gone.
    fn rest(&self) -> Result<(), PeerError>;
    /// Begins to post as well.
    ///
    /// # Errors
    /// It cannot, or the host is gone.
    fn post(&self, post: Post) -> Result<(), PeerError>;
    /// Asks what came of it; [`Remote::posted`] has the answer, once all has ended.
    ///
    /// # Errors
    /// The host is gone.
    fn ask_posted(&self) -> Result<(), PeerError>;
    /// The answer, if it is there.
    ///
    /// # Errors
    /// It went wrong, or the host is gone.
    fn posted(&self) -> Result<Option<Posted>, PeerError>;
}

/// Where memory is.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// On this host.
    Here(&'a dyn View),
    /// On the peer's: the how-manieth of its windows.
    There(&'a dyn Remote, u32),
}

impl Place<'_> {
    /// The how-manieth window of a peer's memory. That of this host is looked at as a whole.
    pub fn window(self, window: u32) -> Self {
        match self {
            Self::Here(view) => Self::Here(view),
            Self::There(remote, _) => Self::There(remote, window),
        }
    }
}

/// One side of a cell.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    side: &'static str,
    layout: &'a Layout,
    place: Place<'a>,
}

/// The two sides of a cell and the data in them.
pub struct Window<'a> {
    layout: &'a Layout,
    direction: Direction,
    near: Place<'a>,
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
    pub(crate) place: &'static str,
    pub(crate) wrong_bytes: u64,
    pub(crate) checked_bytes: u64,
    pub(crate) first_offset: u64,
    pub(crate) expected: u8,
    pub(crate) found: u8,
    pub(crate) guess: &'static str,
    /// All that is wrong is as it was before: it never came.
    pub(crate) missing: bool,
}

/// Verification did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The data are wrong.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The peer found wrong data, or could not look.
    #[error(transparent)]
    Peer(#[from] PeerError),
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

impl VerifyError {
    /// Whether the data were looked at and are wrong, on whichever host.
    pub fn is_mismatch(&self) -> bool {
        match self {
            Self::Mismatch(_) => true,
            Self::Peer(PeerError::Failed(failed)) => {
                matches!(failed.explanation().cause, Some(Cause::DataMismatch | Cause::PacketsLost))
            }
            Self::Peer(_) | Self::View { .. } => false,
        }
    }
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
        near: Place<'a>,
        far: &'a dyn View,
    ) -> Result<Self, VerifyError> {
        let fresh = || Content::Pattern(Pattern::fresh());
        let mut window = Self { layout, direction, near, far, given: fresh(), taken: fresh() };
        let (giving, taking) = window.sides();
        taking.write(&window.taken)?;
        match giving.place {
            Place::Here(view) if !view.is_writable() => window.given = Content::Found(giving.read(view)?),
            _ => giving.write(&window.given)?,
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
        taking.compare(used, Expected { slots: &self.given, rest: &self.taken })?;
        giving.compare(used, Expected { slots: &self.given, rest: &self.given })?;
        Ok(used * self.layout.size_bytes())
    }

    /// The giving side and the taking one.
    fn sides(&self) -> (Memory<'a>, Memory<'a>) {
        let near = Memory { side: NEAR, layout: self.layout, place: self.near };
        let far = Memory { side: FAR, layout: self.layout, place: Place::Here(self.far) };
        match self.direction {
            Direction::IntoSource => (far, near),
            Direction::OutOfSource => (near, far),
        }
    }
}

impl<'a> Memory<'a> {
    /// Exported memory of this host, which a peer's cell uses.
    pub fn served(layout: &'a Layout, view: &'a dyn View) -> Self {
        Self { side: NEAR, layout, place: Place::Here(view) }
    }

    /// Fills it.
    ///
    /// # Errors
    /// It could not be written.
    pub fn fill(&self, pattern: Pattern) -> Result<(), VerifyError> {
        self.write(&Content::Pattern(pattern))
    }

    /// Compares it: `slots` in the first `used` slots, `rest` everywhere else.
    ///
    /// # Errors
    /// Wrong bytes, or it could not be read.
    pub fn verify(&self, used: u64, slots: Pattern, rest: Pattern) -> Result<(), VerifyError> {
        let used = used.min(self.layout.slots());
        self.compare(used, Expected { slots: &Content::Pattern(slots), rest: &Content::Pattern(rest) })
    }

    /// Where the window begins in it.
    fn start(&self) -> u64 {
        if self.side == NEAR { self.layout.near_start() } else { self.layout.far_start() }
    }

    fn failed(&self, source: io::Error) -> VerifyError {
        VerifyError::View { side: self.side, source }
    }

    /// What only a pattern can be told to a peer for.
    fn pattern(&self, content: &Content) -> Result<Pattern, VerifyError> {
        match content {
            Content::Pattern(pattern) => Ok(*pattern),
            Content::Found(_) => Err(self.failed(io::ErrorKind::Unsupported.into())),
        }
    }

    fn chunks(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let length = self.layout.length_bytes();
        (0..length).step_by(CHUNK_BYTES as usize).map(move |start| start..length.min(start + CHUNK_BYTES))
    }

    fn read(&self, view: &dyn View) -> Result<Vec<u8>, VerifyError> {
        let mut bytes = vec![0; self.layout.length_bytes() as usize];
        for span in self.chunks() {
            let part = &mut bytes[span.start as usize..span.end as usize];
            view.read(self.start() + span.start, part).map_err(|source| self.failed(source))?;
        }
        Ok(bytes)
    }

    fn write(&self, content: &Content) -> Result<(), VerifyError> {
        let view = match self.place {
            Place::Here(view) => view,
            Place::There(remote, window) => {
                return Ok(remote.fill(Fill { window, seed: self.pattern(content)?.seed(), words: None })?);
            }
        };
        let mut bytes = vec![0; CHUNK_BYTES as usize];
        for span in self.chunks() {
            let bytes = &mut bytes[..(span.end - span.start) as usize];
            content.fill(span.start, bytes);
            view.write(self.start() + span.start, bytes).map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    fn compare(&self, used: u64, expected: Expected<'_>) -> Result<(), VerifyError> {
        let view = match self.place {
            Place::Here(view) => view,
            Place::There(remote, window) => {
                let (slots, rest) = (self.pattern(expected.slots)?, self.pattern(expected.rest)?);
                let verify = Verify { window, used, slots_seed: slots.seed(), rest_seed: rest.seed(), words: None };
                return Ok(remote.verify(verify)?);
            }
        };
        let mut found = vec![0; CHUNK_BYTES as usize];
        let mut wanted = vec![0; CHUNK_BYTES as usize];
        let mut first: Option<Mismatch> = None;
        let (mut wrong_bytes, mut missing) = (0, true);
        for span in self.chunks() {
            let length = (span.end - span.start) as usize;
            let (found, wanted) = (&mut found[..length], &mut wanted[..length]);
            view.read(self.start() + span.start, found).map_err(|source| self.failed(source))?;
            self.expect(span.clone(), used, expected, wanted);
            if found == wanted {
                continue;
            }
            wrong_bytes += found.iter().zip(wanted.iter()).filter(|(found, wanted)| found != wanted).count() as u64;
            let mut before = vec![0; length];
            expected.rest.fill(span.start, &mut before);
            let came = found.iter().zip(wanted.iter()).zip(&before);
            missing &= came.into_iter().all(|((found, wanted), before)| found == wanted || found == before);
            if first.is_none() {
                let at = found.iter().zip(wanted.iter()).position(|(found, wanted)| found != wanted).unwrap_or(0);
                first = Some(self.describe(span.start + at as u64, used, expected, wanted[at], found[at]));
            }
        }
        match first {
            None => Ok(()),
            Some(first) => Err(Mismatch { wrong_bytes, missing, ..first }.into()),
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

    fn describe(&self, offset: u64, used: u64, expected: Expected<'_>, wanted: u8, found: u8) -> Mismatch {
        let (in_slot, _) = self.layout.stretch(offset, used);
        let mut before = [0];
        expected.rest.fill(offset, &mut before);
        let guess = match in_slot {
            true if before[0] == found => "the bytes from before the run: nothing arrived there",
            true => "neither what was sent nor what was there before: changed behind the run's back, or sent elsewhere",
            false => "nothing should have been written there",
        };
        Mismatch {
            place: if self.side == NEAR { "of the exported memory" } else { "of the far side" },
            wrong_bytes: 0,
            checked_bytes: self.layout.length_bytes(),
            first_offset: self.start() + offset,
            expected: wanted,
            found,
            guess,
            missing: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bytes;
    use peerpath_importers::{Op, Transfer};
    use proptest::prelude::*;

    /// The content of a drive.
    struct Precious(Bytes);

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

    /// Carries a transfer out, `shift` bytes away from where it should go.
    fn carry(transfer: Transfer, direction: Direction, near: &Bytes, far: &Bytes, shift: u64) {
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
        fn right_data_pass_and_one_changed_byte_does_not(
            size in 1u64..5000, wanted in 1u32..5, operations in 0u64..8, victim: prop::sample::Index, near_side: bool,
        ) {
            for direction in DIRECTIONS {
                let layout = Layout::new(size, wanted, 40_000).unwrap();
                let (near, far) = (Bytes::new(40_000), Bytes::new(layout.length_bytes()));
                let window = Window::fill(&layout, direction, Place::Here(&near), &far).unwrap();
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
        let (near, far) = (Bytes::new(40_000), Precious(Bytes::new(40_000)));
        Pattern::fresh().fill(0, &mut far.0.0.lock().unwrap());
        let before = far.0.0.lock().unwrap().clone();
        let window = Window::fill(&layout, direction, Place::Here(&near), &far).unwrap();
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
            let (near, far) = (Bytes::new(40_000), Bytes::new(40_000));
            let window = Window::fill(&layout, direction, Place::Here(&near), &far).unwrap();
            let is_missing = |checked| matches!(checked, Err(VerifyError::Mismatch(Mismatch { missing: true, .. })));
            carry(layout.transfer(Op::Write, 0), direction, &near, &far, 0);
            assert!(is_missing(window.verify(2)), "the second never came");
            carry(layout.transfer(Op::Write, 1), direction, &near, &far, 0);
            window.verify(2).unwrap();
            let window = Window::fill(&layout, direction, Place::Here(&near), &far).unwrap();
            assert!(window.verify(2).is_err(), "what came was the data of before");
            for turn in 0..2 {
                carry(layout.transfer(Op::Write, turn), direction, &near, &far, 64);
            }
            let shifted = window.verify(2);
            assert!(shifted.is_err() && !is_missing(shifted), "one cache line too far");
        }
    }
}
