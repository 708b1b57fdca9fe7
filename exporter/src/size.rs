//! Sizes and offsets as text: `4K`, `4KiB`, `0x2000`, `1G`.

/// Suffixes of a number of bytes, with the binary logarithm of their value. All are powers of 1024, as in fio and in the BAR
/// sizes of lspci: a dma-buf consists of whole pages, and 1,000,000 bytes are not whole pages.
const SUFFIXES: [(&str, u32); 9] =
    [("kib", 10), ("mib", 20), ("gib", 30), ("kb", 10), ("mb", 20), ("gb", 30), ("k", 10), ("m", 20), ("g", 30)];

/// Parses a number of bytes: hexadecimal (`0x2000`), or decimal with an optional suffix. `K`, `KB` and `KiB` are 1024 bytes;
/// `M`, `MB`, `MiB`, `G`, `GB` and `GiB` follow the same rule. Case is ignored. `None` if the text has another form or the
/// number exceeds 64 bits.
pub fn parse_bytes(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        // Check the digits first, because `from_str_radix` would accept a sign.
        return digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?;
    }
    let (digits, suffix) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let shift = match suffix {
        "" | "B" => 0,
        suffix => SUFFIXES.iter().find(|(name, _)| suffix.eq_ignore_ascii_case(name))?.1,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Formats a number of bytes with the largest unit that divides it, e.g. `2M`, `4K`, `100`.
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
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("4K", 4096),
            ("4k", 4096),
            ("2M", 2 << 20),
            ("1G", 1 << 30),
            ("0x2000", 0x2000),
        ] {
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
            "4KX",
            "4BK",
            "4Ki",
            "0x1KiB",
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
        fn every_suffix_of_a_unit_has_the_same_value(number in 0u64..1 << 30, unit in "[KMGkmg]", end in "(b|B|ib|iB)") {
            prop_assert_eq!(parse_bytes(&format!("{number}{unit}{end}")), parse_bytes(&format!("{number}{unit}")));
            prop_assert_eq!(parse_bytes(&format!("{number}K")), Some(number * 1024));
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = parse_bytes(&text);
        }
    }
}
