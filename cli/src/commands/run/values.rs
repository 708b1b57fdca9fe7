//! Values of the options of `run`.

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use peerpath_bench::cpus;
use peerpath_bench::plan::Mode;
use peerpath_paths::PathName;
use peerpath_report::units::RateUnit;

/// Parses a time such as `500ms`, `2s` or `1m`; a number without a unit is in seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let duration = humantime::parse_duration(&if bare { format!("{text}s") } else { text.to_owned() })
        .map_err(|_| "use a time such as 500ms, 2s or 1m".to_owned())?;
    if duration.is_zero() || duration > Duration::from_secs(7 * 24 * 3600) {
        return Err("use a time from 1ns to 7 days".to_owned());
    }
    Ok(duration)
}

/// Accepts the given words; clap suggests a similar one for any other.
pub(in crate::commands) fn words<T>(
    words: impl IntoIterator<Item = impl Into<PossibleValue>>,
) -> impl TypedValueParser<Value = T>
where
    T: FromStr + Clone + Send + Sync + 'static,
    T::Err: Error + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}

/// Paths that can be requested, with their short names. The result reports `unknown` for a path that was not observed.
pub(super) fn paths() -> impl TypedValueParser<Value = PathName> {
    let all = PathName::ALL.into_iter().filter(|path| *path != PathName::Unknown).map(PathName::as_str);
    words(["bypass", "translated"].into_iter().chain(all))
}

/// Modes, by their names in results.
pub(super) fn modes() -> impl TypedValueParser<Value = Mode> {
    let named = |name: String| Mode::ALL.into_iter().find(|mode| mode.as_str() == name);
    PossibleValuesParser::new(Mode::ALL.map(Mode::as_str)).map(move |name| named(name).expect("clap checked the name"))
}

/// Units of rates.
pub(super) fn rate_units() -> impl TypedValueParser<Value = RateUnit> {
    PossibleValuesParser::new(["bytes", "bits"])
        .map(|name| if name == "bits" { RateUnit::Bits } else { RateUnit::Bytes })
}

/// Parses a number of bytes; K, M and G are powers of 1024.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    peerpath_exporter::parse_bytes(text).ok_or_else(|| "use a number of bytes such as 4096, 4K or 1MiB".to_owned())
}

/// Like [`parse_size`], for a size below 4 GiB.
pub(in crate::commands) fn parse_size_u32(text: &str) -> Result<u32, String> {
    u32::try_from(parse_size(text)?).map_err(|_| "use a number of bytes below 4G".to_owned())
}

/// Parses a whole number. Unlike the errors of the standard parser, the errors state which numbers are accepted.
pub(in crate::commands) fn whole<T: FromStr + std::fmt::Display + Bounded>(text: &str) -> Result<T, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("use a whole number".to_owned());
    }
    text.parse().map_err(|_| format!("use a whole number of at most {}", T::LARGEST))
}

/// A type of whole numbers, with its largest one.
pub(in crate::commands) trait Bounded {
    const LARGEST: Self;
}

impl Bounded for u8 {
    const LARGEST: Self = Self::MAX;
}

impl Bounded for u32 {
    const LARGEST: Self = Self::MAX;
}

/// Parses a number of operations: `1000`, `1k`, `2M` or `1e6`. Suffixes are powers of 1000, because numbers of operations are
/// decimal.
pub(super) fn parse_count(text: &str) -> Result<u64, String> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, number(exponent).and_then(|exponent| u32::try_from(exponent).ok())),
        None => match text.as_bytes().last() {
            Some(b'k' | b'K') => (&text[..text.len() - 1], Some(3)),
            Some(b'm' | b'M') => (&text[..text.len() - 1], Some(6)),
            _ => (text, Some(0)),
        },
    };
    let scale = exponent.and_then(|exponent| 10_u64.checked_pow(exponent));
    let count = number(digits).zip(scale).and_then(|(number, scale)| number.checked_mul(scale));
    count.ok_or_else(|| "use a whole number such as 1000, 1k or 1e6".to_owned())
}

/// Parses decimal digits. `u64::from_str` would also accept a sign.
fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// CPUs that the threads are pinned to.
#[derive(Debug, Clone)]
pub(super) enum Cpus {
    /// Threads are not pinned.
    Any,
    /// These CPUs, in turn.
    Listed(Vec<u32>),
}

pub(super) fn parse_cpus(text: &str) -> Result<Cpus, String> {
    if text == "any" {
        return Ok(Cpus::Any);
    }
    cpus::parse_list(text)
        .map(Cpus::Listed)
        .ok_or_else(|| "use a list of CPU numbers such as 2 or 0-3,8, or any; the largest number is 1023".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_durations_with_and_without_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2"), Ok(Duration::from_secs(2)));
    }

    #[test]
    fn rejects_invalid_and_zero_durations() {
        for wrong in ["", "s", "-1s", "1e99", "5 parsecs", "0s", "nan", "1..2s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn suffixes_of_counts_are_powers_of_1000() {
        for (text, count) in
            [("0", 0), ("1000", 1000), ("1k", 1000), ("3K", 3000), ("2M", 2_000_000), ("1e6", 1_000_000)]
        {
            assert_eq!(parse_count(text), Ok(count), "{text}");
        }
        for wrong in ["", "k", "e6", "1e", "-1", "+1", "1.5k", "1G", "1e20", "1 000", "1k k", "1ek"] {
            assert!(parse_count(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_count_has_the_value_of_its_long_form(number in 0u64..1_000_000, exponent in 0u32..9) {
            let long = format!("{number}{}", "0".repeat(exponent as usize));
            prop_assert_eq!(parse_count(&format!("{number}e{exponent}")), parse_count(&long));
            prop_assert_eq!(parse_count(&format!("{number}k")), Ok(number * 1000));
        }

        #[test]
        fn parsing_any_text_never_panics(text in ".*") {
            let _ = (parse_count(&text), parse_size(&text), parse_duration(&text), parse_cpus(&text));
        }
    }
}
