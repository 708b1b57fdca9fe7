//! Splits an lspci output into lines, in the forms in which users store and send it: quoted in a mail, with CRLF, in UTF-16.

use std::borrow::Cow;

/// Decodes UTF-8, or UTF-16 with a byte order mark.
pub(in crate::tree) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    let utf_16 = |pair: fn([u8; 2]) -> u16| {
        let units = bytes[2..].chunks_exact(2).map(|unit| pair([unit[0], unit[1]]));
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    match bytes {
        [0xff, 0xfe, ..] => Cow::Owned(utf_16(u16::from_le_bytes)),
        [0xfe, 0xff, ..] => Cow::Owned(utf_16(u16::from_be_bytes)),
        [0xef, 0xbb, 0xbf, text @ ..] => String::from_utf8_lossy(text),
        _ => String::from_utf8_lossy(bytes),
    }
}

/// The lines without the `>` of a quoted mail and without carriage returns. Drops a last line without line feed unless it starts
/// with an address: the output may be cut off within a number.
pub(super) fn of(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n') || super::Header::parse(unquoted(line)).is_some())
        .map(unquoted)
}

fn unquoted(line: &str) -> &str {
    let mut line = line.trim_end();
    while let Some(rest) = line.trim_start_matches(' ').strip_prefix('>') {
        line = rest.strip_prefix(' ').unwrap_or(rest);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_quotation_and_carriage_returns() {
        assert_eq!(of("> > a\r\n>\tb\r\n\n>  c\nd").collect::<Vec<_>>(), ["a", "\tb", "", " c"]);
        assert_eq!(of("00:00.0 Host bridge: x").count(), 1);
    }

    #[test]
    fn decodes_utf_16() {
        let text: Vec<u8> =
            [0xfeff].into_iter().chain("00:1f.0 ISA".encode_utf16()).flat_map(u16::to_le_bytes).collect();
        assert_eq!(decode(&text), "00:1f.0 ISA");
        assert_eq!(decode(&[0xff, 0xfe, 0]), "");
    }
}
