//! Sizes and offsets as text: `4K`, `0x2000`, `1G`.

/// Parses a number of bytes: hexadecimal (`0x2000`), or decimal with an optional suffix `K`, `M` or `G` for a power of 1024.
/// `None` if the text has another form or the number exceeds 64 bits.
pub fn parse_bytes(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        // Check the digits first, because `from_str_radix` would accept a sign.
        return digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?;
    }
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    number.checked_mul(1 << shift)
}

/// Formats a number of bytes with the largest suffix that divides it: `2M`, `4K`, `100`.
pub fn format_bytes(bytes: u64) -> String {
    for (shift, suffix) in [(30, "G"), (20, "M"), (10, "K")] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{suffix}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_decimal_hexadecimal_and_suffixes() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("4K", 4096), ("4k", 4096), ("2M", 2 << 20), ("1G", 1 << 30), ("0x2000", 0x2000)]
        {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn rejects_other_texts() {
        for text in [
            "",
            "K",
            "0x",
            "0x+1",
            "+1",
            "-1",
            "1.5K",
            "4KB",
            "0x1K",
            " 1",
            "99999999999999999999",
            "18014398509481984K",
        ] {
            assert_eq!(parse_bytes(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parses_what_it_formats(bytes: u64) {
            prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Some(bytes));
            prop_assert_eq!(parse_bytes(&format!("{bytes:#x}")), Some(bytes));
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = parse_bytes(&text);
        }
    }
}
