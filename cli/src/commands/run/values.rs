//! Values of the options of `run`.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use peerpath_bench::cpus;
use peerpath_bench::plan::Mode;

/// Parses a time such as `500ms`, `2s` or `1m`; a number without a unit is in seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let duration = humantime::parse_duration(&if bare { format!("{text}s") } else { text.to_owned() })
        .map_err(|error| format!("{error}; use a form such as 500ms, 2s or 1m"))?;
    if duration.is_zero() || duration > Duration::from_secs(7 * 24 * 3600) {
        return Err(format!("{text:?} is not between 1ns and 7 days"));
    }
    Ok(duration)
}

/// Parses the name of a mode as it appears in results.
pub(super) fn mode_parser() -> impl TypedValueParser<Value = Mode> {
    let named = |name: String| Mode::ALL.into_iter().find(|mode| mode.as_str() == name);
    PossibleValuesParser::new(Mode::ALL.map(Mode::as_str)).map(move |name| named(name).expect("clap checked the name"))
}

/// Parses a number of bytes; K, M and G are powers of 1024.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    peerpath_exporter::parse_bytes(text)
        .ok_or_else(|| format!("invalid size {text:?}; use a form such as 4096, 4K or 1M"))
}

/// CPU numbers of one option. A separate type, because clap treats a `Vec` as an option given several times.
#[derive(Debug, Clone)]
pub(super) struct CpuList(pub(super) Vec<u32>);

pub(super) fn parse_cpus(text: &str) -> Result<CpuList, String> {
    cpus::parse_list(text)
        .map(CpuList)
        .ok_or_else(|| format!("invalid CPU list {text:?}; use a form such as 2 or 0-3,8"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
