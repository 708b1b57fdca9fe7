//! Reads a file that is a snapshot or a text, and finds out which.

use std::io::{self, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::archive::{self, Archive};
use super::{Limits, TreeError, kind, lspci};
use crate::input_file::{self, InputError};

/// Maximum size of a text in bytes. The hex dump of the whole config space of 4096 functions has 56 MiB.
pub(super) const TEXT_LIMIT_BYTES: u64 = 64 << 20;
/// Number of bytes that decide what a file is; the size of the header of a tar archive.
const HEAD_BYTES: u64 = archive::HEADER_BYTES as u64;
/// Number of compressed bytes that unpack to at least [`HEAD_BYTES`].
const PACKED_HEAD_BYTES: u64 = 4096;

/// The content of a file.
pub(super) enum Input {
    /// A snapshot.
    Archive(Archive),
    /// A text.
    Text(String),
}

/// Reads a file. The file may be a pipe, so it is read once.
pub(super) fn read(path: &Path) -> Result<Input, TreeError> {
    let unreadable = |source: InputError| TreeError::Unreadable { path: path.to_owned(), source };
    let mut file = input_file::open(path).map_err(unreadable)?;
    let mut packed = Vec::new();
    (&mut file).take(PACKED_HEAD_BYTES).read_to_end(&mut packed).map_err(|error| unreadable(error.into()))?;
    let is_packed = packed.starts_with(&[0x1f, 0x8b]);
    let mut head = Vec::new();
    if is_packed {
        // An error of the decoder is reported when the whole file is read.
        let _ = MultiGzDecoder::new(&packed[..]).take(HEAD_BYTES).read_to_end(&mut head);
    } else {
        head.extend(packed.iter().take(HEAD_BYTES as usize));
    }
    if let Some(kind) = kind::of_bytes(&head) {
        return Err(TreeError::other_kind(Some(path), kind.what, kind.instead));
    }
    let stream = Cursor::new(packed).chain(file);
    if !is_text(&head) {
        // A short head of a compressed file results from damaged compression, which the decoder reports.
        let is_whole = head.len() == HEAD_BYTES as usize || !is_packed;
        if is_whole && !archive::is_header(&head) {
            return Err(TreeError::other_kind(Some(path), kind::BINARY.what, kind::BINARY.instead));
        }
        return archive::load(stream, &Limits::default()).map(Input::Archive).map_err(|error| error.in_file(path));
    }
    let text = if is_packed { text(MultiGzDecoder::new(stream)) } else { text(stream) };
    text.map_err(|error| error.in_file(path)).map(Input::Text)
}

fn text(stream: impl Read) -> Result<String, TreeError> {
    let mut bytes = Vec::new();
    let read = stream.take(TEXT_LIMIT_BYTES + 1).read_to_end(&mut bytes);
    if bytes.len() as u64 > TEXT_LIMIT_BYTES {
        return Err(TreeError::rejected(format!("it is a text of more than {} MiB", TEXT_LIMIT_BYTES >> 20)));
    }
    match read {
        Ok(_) => Ok(lspci::decode(&bytes).into_owned()),
        Err(error) => Err(TreeError::malformed(io::Error::new(error.kind(), error))),
    }
}

/// Whether the first bytes of a file are text. A tar archive contains zeros in its header, an empty file is an empty text.
fn is_text(head: &[u8]) -> bool {
    matches!(head, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) || !head.contains(&0)
}
