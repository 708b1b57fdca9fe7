//! The memory of one side of a window. It is written, read and compared in chunks.

use std::io;
use std::ops::Range;

use peerpath_exporter::View;

use super::Access;
use super::error::{Mismatch, VerifyError};
use crate::layout::Layout;
use crate::pattern::Pattern;
use crate::peer::message::{Fill, Verify};

/// Number of bytes that are compared at a time.
const CHUNK_BYTES: u64 = 256 * 1024;

/// Content of a whole window.
#[derive(Debug)]
pub(super) enum Data {
    /// Generated data.
    Pattern(Pattern),
    /// Data that was read from memory that must not be written.
    Content(Vec<u8>),
}

impl Data {
    fn fill(&self, offset: u64, bytes: &mut [u8]) {
        match self {
            Self::Pattern(pattern) => pattern.fill(offset, bytes),
            Self::Content(content) => bytes.copy_from_slice(&content[offset as usize..][..bytes.len()]),
        }
    }
}

/// Expected content of one side: one pattern in the used slots, another in the rest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expectation<'a> {
    pub(super) slots: &'a Data,
    pub(super) rest: &'a Data,
}

/// Side of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The exported memory.
    Near,
    /// Initiator memory.
    Far,
}

/// The window in the memory of one side.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    side: Side,
    layout: &'a Layout,
    access: Access<'a>,
}

impl<'a> Memory<'a> {
    pub(super) fn new(side: Side, layout: &'a Layout, access: Access<'a>) -> Self {
        Self { side, layout, access }
    }

    /// A window in memory that this server exports, for a cell of the client.
    pub fn served(layout: &'a Layout, view: &'a dyn View) -> Self {
        Self::new(Side::Near, layout, Access::Local(view))
    }

    pub(super) fn access(&self) -> Access<'a> {
        self.access
    }

    /// Fills the window.
    ///
    /// # Errors
    /// Writing the memory fails.
    pub fn fill(&self, pattern: Pattern) -> Result<(), VerifyError> {
        self.write(&Data::Pattern(pattern))
    }

    /// Compares the window with `slots` in the first `used` slots and with `rest` everywhere else.
    ///
    /// # Errors
    /// Some bytes are wrong, or reading the memory fails.
    pub fn verify(&self, used: u64, slots: Pattern, rest: Pattern) -> Result<(), VerifyError> {
        let used = used.min(self.layout.slots());
        self.compare(used, Expectation { slots: &Data::Pattern(slots), rest: &Data::Pattern(rest) })
    }

    /// Offset of the window in the memory.
    fn start(&self) -> u64 {
        match self.side {
            Side::Near => self.layout.near_start(),
            Side::Far => self.layout.far_start(),
        }
    }

    fn failed(&self, source: io::Error) -> VerifyError {
        let side = match self.side {
            Side::Near => "exported memory",
            Side::Far => "initiator memory",
        };
        VerifyError::View { side, source }
    }

    /// Returns the pattern of `data`. A peer generates its data from a seed, so data for a peer must be a pattern.
    fn pattern(&self, data: &Data) -> Result<Pattern, VerifyError> {
        match data {
            Data::Pattern(pattern) => Ok(*pattern),
            Data::Content(_) => Err(self.failed(io::ErrorKind::Unsupported.into())),
        }
    }

    fn chunks(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let length = self.layout.length_bytes();
        (0..length).step_by(CHUNK_BYTES as usize).map(move |start| start..length.min(start + CHUNK_BYTES))
    }

    pub(super) fn read(&self, view: &dyn View) -> Result<Vec<u8>, VerifyError> {
        let mut bytes = vec![0; self.layout.length_bytes() as usize];
        for chunk in self.chunks() {
            let part = &mut bytes[chunk.start as usize..chunk.end as usize];
            view.read(self.start() + chunk.start, part).map_err(|source| self.failed(source))?;
        }
        Ok(bytes)
    }

    pub(super) fn write(&self, data: &Data) -> Result<(), VerifyError> {
        let view = match self.access {
            Access::Local(view) => view,
            Access::Remote(remote, window) => {
                return Ok(remote.fill(Fill { window, seed: self.pattern(data)?.seed(), words: None })?);
            }
        };
        let mut bytes = vec![0; CHUNK_BYTES as usize];
        for chunk in self.chunks() {
            let bytes = &mut bytes[..(chunk.end - chunk.start) as usize];
            data.fill(chunk.start, bytes);
            view.write(self.start() + chunk.start, bytes).map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    pub(super) fn compare(&self, used: u64, expectation: Expectation<'_>) -> Result<(), VerifyError> {
        let view = match self.access {
            Access::Local(view) => view,
            Access::Remote(remote, window) => {
                let (slots, rest) = (self.pattern(expectation.slots)?, self.pattern(expectation.rest)?);
                let verify = Verify { window, used, slots_seed: slots.seed(), rest_seed: rest.seed(), words: None };
                return Ok(remote.verify(verify)?);
            }
        };
        let mut found = vec![0; CHUNK_BYTES as usize];
        let mut expected = vec![0; CHUNK_BYTES as usize];
        let mut first: Option<Mismatch> = None;
        let (mut wrong_bytes, mut missing) = (0, true);
        for chunk in self.chunks() {
            let length = (chunk.end - chunk.start) as usize;
            let (found, expected) = (&mut found[..length], &mut expected[..length]);
            view.read(self.start() + chunk.start, found).map_err(|source| self.failed(source))?;
            self.expect(chunk.clone(), used, expectation, expected);
            let Some(mismatch) = Mismatch::between(expected, found) else { continue };
            wrong_bytes += mismatch.wrong_bytes;
            let mut before = vec![0; length];
            expectation.rest.fill(chunk.start, &mut before);
            let bytes = found.iter().zip(expected.iter()).zip(&before);
            missing &= bytes.into_iter().all(|((found, expected), before)| found == expected || found == before);
            if first.is_none() {
                let offset = chunk.start + mismatch.first_offset;
                first = Some(self.describe(offset, used, expectation, mismatch));
            }
        }
        match first {
            None => Ok(()),
            Some(first) => Err(Mismatch { wrong_bytes, missing, ..first }.into()),
        }
    }

    /// Writes the expected bytes of a chunk to `expected`.
    fn expect(&self, chunk: Range<u64>, used: u64, expectation: Expectation<'_>, expected: &mut [u8]) {
        let mut at = chunk.start;
        while at < chunk.end {
            let (in_slot, until) = self.layout.extent_at(at, used);
            let until = until.min(chunk.end);
            let data = if in_slot { expectation.slots } else { expectation.rest };
            data.fill(at, &mut expected[(at - chunk.start) as usize..(until - chunk.start) as usize]);
            at = until;
        }
    }

    fn describe(&self, offset: u64, used: u64, expectation: Expectation<'_>, mismatch: Mismatch) -> Mismatch {
        let (in_slot, _) = self.layout.extent_at(offset, used);
        let mut before = [0];
        expectation.rest.fill(offset, &mut before);
        let guess = match in_slot {
            true if before[0] == mismatch.found => "the value from before the transfers: no data arrived here",
            true => "matches neither the sent data nor the previous content: corrupted, or sent to a wrong address",
            false => "no transfer should have written here",
        };
        let place = match self.side {
            Side::Near => "of the exported memory",
            Side::Far => "of initiator memory",
        };
        let checked_bytes = self.layout.length_bytes();
        Mismatch { place, checked_bytes, first_offset: self.start() + offset, guess, ..mismatch }
    }
}
