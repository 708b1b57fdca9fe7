//! Detects stale accesses: writes and reads of the importer after the memory was revoked.
//!
//! Initiator memory and exported memory hold the same random content until the call returns. Each write that is posted later
//! sends the complement of that content, and each read that is posted later goes to memory with the complement. So a late write
//! leaves complement in the exported memory, and a late read leaves content in initiator memory.

use std::io;

use peerpath_exporter::View;

use crate::pattern::Pattern;
use crate::window::VerifyError;

/// Bytes of a word. Content is compared word by word, because single bytes match other content by chance.
const WORD_BYTES: usize = 8;

/// Bytes that the importer accessed after the call returned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::run) struct StaleBytes {
    /// Bytes that changed in the exported memory.
    pub(in crate::run) written: u64,
    /// Bytes that were read out of the exported memory.
    pub(in crate::run) read: u64,
}

impl StaleBytes {
    pub(in crate::run) fn total(self) -> u64 {
        self.written + self.read
    }
}

/// A part of a memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Random content, or its complement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    pattern: Pattern,
    is_complement: bool,
}

impl Content {
    pub(super) fn random() -> Self {
        Self::of(Pattern::random())
    }

    pub(super) fn of(pattern: Pattern) -> Self {
        Self { pattern, is_complement: false }
    }

    /// Content that differs from this one in every byte.
    pub(super) fn complement(self) -> Self {
        Self { is_complement: !self.is_complement, ..self }
    }

    /// Fills `bytes` with the content from `offset` on.
    pub(super) fn fill(self, offset: u64, bytes: &mut [u8]) {
        self.pattern.fill(offset, bytes);
        if self.is_complement {
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
        }
    }

    /// Writes the content from `offset` on to the start of a memory. For the exported memory, `offset` is 0. The memory of an
    /// initiator holds the content of its slots.
    pub(super) fn write_to(self, view: &dyn View, offset: u64, length: u64) -> Result<(), VerifyError> {
        self.write_at(view, offset, Place { offset: 0, length })
    }

    /// Writes the content from `offset` on to a part of a memory.
    pub(super) fn write_at(self, view: &dyn View, offset: u64, at: Place) -> Result<(), VerifyError> {
        let mut bytes = vec![0; at.length as usize];
        self.fill(offset, &mut bytes);
        view.write(at.offset, &bytes).map_err(failed)
    }

    /// Number of bytes of a part of a memory that hold this content from `offset` on.
    pub(super) fn matching(self, view: &dyn View, offset: u64, at: Place) -> Result<u64, VerifyError> {
        let (expected, found) = self.expected_and_found(view, offset, at)?;
        Ok(matching_bytes(&found, &expected))
    }

    /// Number of bytes of a part of a memory that differ from this content from `offset` on.
    pub(super) fn differing(self, view: &dyn View, offset: u64, at: Place) -> Result<u64, VerifyError> {
        let (expected, found) = self.expected_and_found(view, offset, at)?;
        Ok(expected.iter().zip(&found).filter(|(expected, found)| expected != found).count() as u64)
    }

    pub(super) fn expected_and_found(
        self,
        view: &dyn View,
        offset: u64,
        at: Place,
    ) -> Result<(Vec<u8>, Vec<u8>), VerifyError> {
        let mut expected = vec![0; at.length as usize];
        self.fill(offset, &mut expected);
        let found = view.bytes(at.offset, expected.len()).map_err(failed)?;
        Ok((expected, found))
    }
}

fn failed(source: io::Error) -> VerifyError {
    VerifyError::View { side: "memory that was revoked", source }
}

/// Number of bytes in words of `found` that equal the same word of `wanted`. The last word ends with the last byte, so it may
/// overlap the word before it.
fn matching_bytes(found: &[u8], wanted: &[u8]) -> u64 {
    let length = found.len().min(wanted.len());
    let is_match = |at: usize| found[at..at + WORD_BYTES] == wanted[at..at + WORD_BYTES];
    let whole = (0..length / WORD_BYTES).filter(|word| is_match(word * WORD_BYTES)).count() * WORD_BYTES;
    let rest = length % WORD_BYTES;
    let tail = if rest > 0 && length > WORD_BYTES && is_match(length - WORD_BYTES) { rest } else { 0 };
    (whole + tail) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bytes;

    #[test]
    fn counts_words_and_the_tail_that_match() {
        let content = Content::of(Pattern::new(7));
        let mut wanted = vec![0; 27];
        content.fill(0, &mut wanted);
        assert_eq!(matching_bytes(&wanted, &wanted), 27);
        let mut found = vec![0; 27];
        assert_eq!(matching_bytes(&found, &wanted), 0, "memory that a reset cleared");
        found[8..16].copy_from_slice(&wanted[8..16]);
        assert_eq!(matching_bytes(&found, &wanted), 8);
        found[19..].copy_from_slice(&wanted[19..]);
        assert_eq!(matching_bytes(&found, &wanted), 8 + 3);
        found[8] ^= 1;
        assert_eq!(matching_bytes(&found, &wanted), 3);
    }

    #[test]
    fn the_complement_differs_in_every_byte() {
        let (memory, content) = (Bytes::new(64), Content::of(Pattern::new(9)));
        let at = Place { offset: 16, length: 32 };
        content.complement().write_at(&memory, 8, at).unwrap();
        assert_eq!(content.differing(&memory, 8, at).unwrap(), 32);
        assert_eq!(content.matching(&memory, 8, at).unwrap(), 0);
        assert_eq!(content.complement().matching(&memory, 8, at).unwrap(), 32);
        assert_eq!(content.complement().complement().differing(&memory, 8, at).unwrap(), 32);
    }
}
