//! Formats numbers with their units.

/// A number of bytes in the largest binary unit that divides it: `4 KiB`, `1 MiB`, `4097 B`.
pub fn bytes(count: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        if count >= 1 << shift && count.trailing_zeros() >= shift {
            return format!("{} {unit}", count >> shift);
        }
    }
    format!("{count} B")
}

/// A time in nanoseconds, with three digits and a suitable unit: `95.1 us`.
pub fn nanoseconds(count: f64) -> String {
    scaled(count, &[(1e9, "s"), (1e6, "ms"), (1e3, "us")], "ns")
}

/// A rate in bytes per second, with three digits and a decimal unit: `1.25 GB/s`.
pub fn bytes_per_second(rate: f64) -> String {
    scaled(rate, &[(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")], "B/s")
}

/// Unit in which rates are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RateUnit {
    /// Bytes per second.
    #[default]
    Bytes,
    /// Bits per second, the unit of network ports.
    Bits,
}

impl RateUnit {
    /// A rate in bytes per second, with three digits and a decimal unit: `1.25 GB/s` or `10.0 Gb/s`.
    pub fn rate(self, bytes_per_s: f64) -> String {
        match self {
            Self::Bytes => bytes_per_second(bytes_per_s),
            Self::Bits => scaled(bytes_per_s * 8.0, &[(1e9, "Gb/s"), (1e6, "Mb/s"), (1e3, "kb/s")], "b/s"),
        }
    }
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
    fn formats_numbers_with_suitable_units() {
        assert_eq!(bytes(4096), "4 KiB");
        assert_eq!(bytes(4097), "4097 B");
        assert_eq!(nanoseconds(95_120.0), "95.1 us");
        assert_eq!(nanoseconds(0.0), "0.00 ns");
        assert_eq!(bytes_per_second(1.25e9), "1.25 GB/s");
        assert_eq!(RateUnit::Bits.rate(1.25e9), "10.0 Gb/s");
    }
}
