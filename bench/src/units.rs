//! Numbers with their units, as people write and read them.

use std::time::Duration;

/// Reads a time such as `500ms`, `2s`, `1m`; a bare number is seconds.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let duration = humantime::parse_duration(&if bare { format!("{text}s") } else { text.to_owned() })
        .map_err(|error| format!("{error}; write 500ms, 2s or 1m"))?;
    if duration.is_zero() || duration > Duration::from_secs(7 * 24 * 3600) {
        return Err(format!("{text:?} is not between 1ns and 7 days"));
    }
    Ok(duration)
}

/// `4 KiB`, `1 MiB`; what is no whole number of a unit stays in bytes.
pub fn bytes(count: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        if count >= 1 << shift && count.trailing_zeros() >= shift {
            return format!("{} {unit}", count >> shift);
        }
    }
    format!("{count} B")
}

/// Three digits and the unit that suits: `95.1 us`.
pub fn nanoseconds(count: f64) -> String {
    scaled(count, &[(1e9, "s"), (1e6, "ms"), (1e3, "us")], "ns")
}

/// Three digits, powers of 1000, as network tools print: `1.25 GB/s`.
pub fn bytes_per_second(rate: f64) -> String {
    scaled(rate, &[(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")], "B/s")
}

fn scaled(value: f64, units: &[(f64, &str)], base: &str) -> String {
    let (value, unit) =
        units.iter().find(|(scale, _)| value >= *scale).map_or((value, base), |(scale, unit)| (value / scale, unit));
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(bytes(4096), "4 KiB");
        assert_eq!(bytes(4097), "4097 B");
        assert_eq!(nanoseconds(95_120.0), "95.1 us");
        assert_eq!(nanoseconds(0.0), "0.00 ns");
        assert_eq!(bytes_per_second(1.25e9), "1.25 GB/s");
    }

    #[test]
    fn times_are_read() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2"), Ok(Duration::from_secs(2)));
        for wrong in ["", "s", "-1s", "1e99", "5 parsecs", "0s", "nan", "1..2s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
