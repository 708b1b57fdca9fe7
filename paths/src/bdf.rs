//! The address of a PCI function.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The address of a PCI function: segment (*domain* in Linux), bus, device, function, written `0000:03:00.0` as sysfs writes it.
///
/// Segments above 0xffff exist: Linux numbers the buses behind an Intel VMD controller from 0x10000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf {
    segment: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// The error for a text that is not a PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid PCI address {text:?}: {why}")]
pub struct ParseBdfError {
    /// The text, truncated for display.
    text: String,
    why: &'static str,
}

impl ParseBdfError {
    /// Reason of the error, without the text.
    pub fn why(&self) -> &'static str {
        self.why
    }
}

impl Bdf {
    /// Creates an address; `None` if the device is not below 32 or the function is not below 8.
    pub fn new(segment: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        (device < 32 && function < 8).then_some(Self { segment, bus, device, function })
    }

    /// The segment ("domain" in Linux).
    pub fn segment(self) -> u32 {
        self.segment
    }

    /// The bus number within the segment.
    pub fn bus(self) -> u8 {
        self.bus
    }

    /// The device number on the bus, 0 to 31.
    pub fn device(self) -> u8 {
        self.device
    }

    /// The function number of the device, 0 to 7.
    pub fn function(self) -> u8 {
        self.function
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, bus, device, function } = self;
        // `pad` lets tables align the address.
        f.pad(&format!("{segment:04x}:{bus:02x}:{device:02x}.{function:x}"))
    }
}

impl FromStr for Bdf {
    type Err = ParseBdfError;

    /// Accepts `0000:03:00.0` and, as `lspci` prints on hosts with one segment, `03:00.0`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |why| ParseBdfError { text: text.chars().take(64).collect(), why };
        let [segment, bus, device, function] =
            numbers(text).ok_or_else(|| fail("write DOMAIN:BUS:DEVICE.FUNCTION in hexadecimal, e.g. 0000:03:00.0"))?;
        if function > 7 {
            return Err(fail("the function number, after the dot, is 0 to 7"));
        }
        let bytes = u8::try_from(bus).ok().zip(u8::try_from(device).ok()).zip(u8::try_from(function).ok());
        let bdf = bytes.and_then(|((bus, device), function)| Self::new(segment, bus, device, function));
        bdf.ok_or_else(|| fail("the device number, before the dot, is 00 to 1f"))
    }
}

/// Segment, bus, device and function number; not checked for their maximum.
fn numbers(text: &str) -> Option<[u32; 4]> {
    let (rest, function) = text.split_once('.')?;
    let mut parts = rest.rsplitn(3, ':');
    let device = hex(parts.next()?, 2)?;
    let bus = hex(parts.next()?, 2)?;
    let segment = parts.next().map_or(Some(0), |segment| hex(segment, 8))?;
    Some([segment, bus, device, hex(function, 1)?])
}

/// Parses up to `max_digits` hexadecimal digits. Rejects the sign that `from_str_radix` accepts.
fn hex(text: &str, max_digits: usize) -> Option<u32> {
    let plain = !text.is_empty() && text.len() <= max_digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(text, 16).ok())?
}

impl Serialize for Bdf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bdf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_the_formats_of_lspci_and_sysfs() {
        assert_eq!("0000:03:00.1".parse(), Ok(Bdf::new(0, 3, 0, 1).unwrap()));
        assert_eq!("03:1f.7".parse(), Ok(Bdf::new(0, 3, 31, 7).unwrap()));
        assert_eq!("10000:e1:00.0".parse(), Ok(Bdf::new(0x10000, 0xe1, 0, 0).unwrap()));
    }

    #[test]
    fn rejects_invalid_addresses() {
        for text in
            ["", "03:00", "0000:03:20.0", "0000:03:00.8", "0000:+3:00.0", "0000:003:00.0", "0000:03:00.0 ", "a:b:c:d.0"]
        {
            assert!(text.parse::<Bdf>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn display_and_parse_agree(segment: u32, bus: u8, device in 0u8..32, function in 0u8..8) {
            let bdf = Bdf::new(segment, bus, device, function).unwrap();
            prop_assert_eq!(bdf.to_string().parse(), Ok(bdf));
        }

        #[test]
        fn accepts_any_text_without_panic(text in ".*") {
            let _ = text.parse::<Bdf>();
        }
    }
}
