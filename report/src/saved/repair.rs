//! Repairs the bytes of a file that is almost JSON while they are read: numbers that JSON cannot express become null.

use std::io::{self, BufRead, Read};

/// Maximum length of one string in bytes. The longest string of a result is a histogram of at most 1 MiB.
const LONGEST_TEXT_BYTES: usize = 8 << 20;
const NON_FINITE: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A reader that replaces `NaN` and `Infinity` outside of strings with `null`, and refuses overlong strings.
pub(super) struct Repaired<R> {
    input: R,
    is_begun: bool,
    /// Bytes that may begin a number that is not finite.
    pending: Vec<u8>,
    /// Bytes to return before more input is read.
    ready: Vec<u8>,
    in_text: bool,
    escaped: bool,
    text_bytes: usize,
    /// Number of replaced numbers.
    pub(super) non_finite: usize,
    /// Whether the file is empty or contains only white space.
    pub(super) is_empty: bool,
}

impl<R: BufRead> Repaired<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            is_begun: false,
            pending: Vec::new(),
            ready: Vec::new(),
            in_text: false,
            escaped: false,
            text_bytes: 0,
            non_finite: 0,
            is_empty: true,
        }
    }

    /// Appends the repaired form of a byte to `ready`.
    fn take(&mut self, byte: u8) -> io::Result<()> {
        if self.in_text {
            self.in_text = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            self.text_bytes += 1;
            self.ready.push(byte);
            if self.text_bytes > LONGEST_TEXT_BYTES {
                let why = format!("a text is longer than {} MiB", LONGEST_TEXT_BYTES >> 20);
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
            }
            return Ok(());
        }
        self.is_empty &= byte.is_ascii_whitespace();
        self.pending.push(byte);
        if NON_FINITE.contains(&self.pending.as_slice()) {
            self.non_finite += 1;
            self.pending.clear();
            self.ready.extend(b"null");
        } else if !NON_FINITE.iter().any(|number| number.starts_with(&self.pending)) {
            self.pending.pop();
            if !self.pending.is_empty() {
                self.ready.append(&mut self.pending);
                return self.take(byte);
            }
            (self.in_text, self.text_bytes) = (byte == b'"', 0);
            self.ready.push(byte);
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Repaired<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.is_begun {
            self.is_begun = true;
            let mut start = Vec::new();
            (&mut self.input).take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut start)?;
            if start != BYTE_ORDER_MARK {
                start.into_iter().try_for_each(|byte| self.take(byte))?;
            }
        }
        while self.ready.is_empty() {
            let chunk = self.input.fill_buf()?;
            // A file that ends within `NaN` or `Infinity` is truncated. Drop these bytes.
            if chunk.is_empty() {
                return Ok(0);
            }
            let chunk = chunk[..chunk.len().min(into.len().max(1))].to_vec();
            self.input.consume(chunk.len());
            chunk.into_iter().try_for_each(|byte| self.take(byte))?;
        }
        let count = self.ready.len().min(into.len());
        into[..count].copy_from_slice(&self.ready[..count]);
        self.ready.drain(..count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn repaired(text: &[u8], buffer_bytes: usize) -> (Vec<u8>, usize) {
        let mut repaired = Repaired::new(BufReader::with_capacity(buffer_bytes, text));
        let mut bytes = Vec::new();
        repaired.read_to_end(&mut bytes).unwrap();
        (bytes, repaired.non_finite)
    }

    #[test]
    fn replaces_numbers_outside_of_texts() {
        let text = br#"[NaN, -Infinity,Infinity, "NaN \" Infinity", -1, NNaN]"#;
        let expected = br#"[null, null,null, "NaN \" Infinity", -1, Nnull]"#;
        for buffer_bytes in [1, 3, 8192] {
            assert_eq!(repaired(text, buffer_bytes), (expected.to_vec(), 4), "{buffer_bytes}");
        }
        assert_eq!(repaired(b"\xef\xbb\xbf[1]", 1).0, b"[1]");
        assert_eq!(repaired(b"[1, Infin", 2).0, b"[1, ");
    }

    #[test]
    fn refuses_an_overlong_text() {
        let text = [b"\"".as_slice(), &vec![b'x'; LONGEST_TEXT_BYTES + 1]].concat();
        let error = Repaired::new(text.as_slice()).read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("longer than 8 MiB"), "{error}");
        // The limit applies to each string, not to their sum.
        repaired("\"0123456789\",".repeat(1 << 20).as_bytes(), 8192);
    }

    proptest! {
        #[test]
        fn leaves_other_bytes_unchanged(bytes in prop::collection::vec(prop::sample::select(&b"\"\\-Inf{}[]1 e"[..]), 0..50)) {
            prop_assume!(bytes.last().is_none_or(|byte| !b"-Inf".contains(byte)));
            prop_assert_eq!(repaired(&bytes, 5).0, bytes);
        }
    }
}
