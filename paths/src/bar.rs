//! Base address registers, as the `resource` file of sysfs lists them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// Number of BARs. They are the first lines of `resource`; ROM, SR-IOV BARs and bridge windows follow.
const BARS: usize = 6;

const FLAG_IO: u64 = 0x100;
const FLAG_MEMORY: u64 = 0x200;
const FLAG_PREFETCH: u64 = 0x2000;
const FLAG_64_BIT: u64 = 0x10_0000;
const FLAG_DISABLED: u64 = 0x1000_0000;
const FLAG_UNSET: u64 = 0x2000_0000;

/// Index of a BAR: 0 to 5. A function with a type 0 configuration header has six base address registers (PCI Local Bus
/// Specification 3.0, 6.2.5); a 64-bit BAR uses two of them and has the index of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct BarIndex(u8);

/// The error for a number or text that is not a BAR index. Contains at most 16 characters of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid BAR index {0:?}: BARs have the numbers 0 to 5")]
pub struct BarIndexError(String);

impl BarIndex {
    /// BAR 0, which contains the registers of an NVMe controller.
    pub const BAR0: Self = Self(0);

    /// Creates the index from its number.
    ///
    /// # Errors
    /// The number is greater than 5.
    pub fn new(index: u8) -> Result<Self, BarIndexError> {
        if usize::from(index) < BARS { Ok(Self(index)) } else { Err(BarIndexError(index.to_string())) }
    }

    /// The number, 0 to 5.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for BarIndex {
    type Error = BarIndexError;

    fn try_from(index: u8) -> Result<Self, BarIndexError> {
        Self::new(index)
    }
}

impl FromStr for BarIndex {
    type Err = BarIndexError;

    /// Parses one decimal digit.
    fn from_str(text: &str) -> Result<Self, BarIndexError> {
        match text.as_bytes() {
            [digit @ b'0'..=b'5'] => Ok(Self(digit - b'0')),
            _ => Err(BarIndexError(text.chars().take(16).collect())),
        }
    }
}

impl From<BarIndex> for u8 {
    fn from(index: BarIndex) -> Self {
        index.0
    }
}

impl fmt::Display for BarIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Address space that a BAR decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory address space (MMIO).
    Memory {
        /// Whether the BAR register has 64 bits, so that the BAR can be above 4 GiB.
        wide: bool,
        /// Whether reads have no side effects.
        prefetchable: bool,
    },
}

impl fmt::Display for BarKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Io => "io",
            Self::Memory { wide: false, prefetchable: false } => "mem32",
            Self::Memory { wide: false, prefetchable: true } => "mem32-prefetch",
            Self::Memory { wide: true, prefetchable: false } => "mem64",
            Self::Memory { wide: true, prefetchable: true } => "mem64-prefetch",
        })
    }
}

impl Serialize for BarKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An implemented BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bar {
    /// Index 0 to 5. A 64-bit BAR has the index of its first register.
    pub index: u8,
    /// CPU address; 0 if unassigned.
    pub start: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Address space that the BAR decodes.
    pub kind: BarKind,
    /// Whether an address is assigned to the BAR.
    pub assigned: bool,
}

impl Bar {
    /// Parses a function's `resource` file.
    pub fn parse_all(resource: &str) -> Vec<Self> {
        parse_resource(resource)
    }

    /// CPU address of the last byte.
    pub fn last(&self) -> u64 {
        self.start.saturating_add(self.size_bytes.saturating_sub(1))
    }

    /// Reason why vfio-pci does not export the BAR; `None` if vfio-pci exports it.
    pub fn why_not_exportable(&self, page_bytes: u64) -> Option<String> {
        if self.kind == BarKind::Io {
            Some("I/O BARs cannot be exported".to_owned())
        } else if self.size_bytes < page_bytes {
            Some(format!("smaller than a page of {page_bytes} bytes"))
        } else if !self.assigned {
            Some("no address is assigned to the BAR".to_owned())
        } else {
            None
        }
    }
}

/// Parses the text of `resource`. An invalid line counts as an unimplemented BAR.
pub(crate) fn parse_resource(text: &str) -> Vec<Bar> {
    text.lines().take(BARS).zip(0..).filter_map(|(line, index)| parse_line(line, index)).collect()
}

fn parse_line(line: &str, index: u8) -> Option<Bar> {
    let mut numbers = line.split_whitespace().map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    let (start, end, flags) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let kind = match flags {
        flags if flags & FLAG_MEMORY != 0 => {
            BarKind::Memory { wide: flags & FLAG_64_BIT != 0, prefetchable: flags & FLAG_PREFETCH != 0 }
        }
        flags if flags & FLAG_IO != 0 => BarKind::Io,
        _ => return None,
    };
    let size_bytes = end.checked_sub(start)?.checked_add(1)?;
    let assigned = start != 0 && flags & (FLAG_UNSET | FLAG_DISABLED) == 0;
    (size_bytes > 1 || assigned).then_some(Bar { index, start, size_bytes, kind, assigned })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_the_resource_file() {
        let bars = parse_resource(
            "0x00000000fe800000 0x00000000fe8000ff 0x0000000000040200\n\
             0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
             0x0000008000000000 0x0000008007ffffff 0x000000000014220c\n\
             0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
             0x000000000000c040 0x000000000000c05f 0x0000000000040101\n\
             0x0000000000000000 0x00000000000fffff 0x0000000020040200\n\
             0x00000000c0000000 0x00000000c00fffff 0x0000000000046200\n",
        );
        let summary: Vec<_> = bars
            .iter()
            .map(|bar| (bar.index, bar.kind.to_string(), bar.size_bytes, bar.why_not_exportable(4096).is_none()))
            .collect();
        assert_eq!(
            summary,
            [
                (0, "mem32".into(), 256, false),
                (2, "mem64-prefetch".into(), 128 << 20, true),
                (4, "io".into(), 32, false),
                (5, "mem32".into(), 1 << 20, false),
            ]
        );
        assert_eq!(bars[1].last(), 0x80_07ff_ffff);
    }

    #[test]
    fn bar_indexes_are_plain_numbers_from_0_to_5() {
        assert_eq!(BarIndex::new(5).map(BarIndex::get), Ok(5));
        assert_eq!(BarIndex::new(6).unwrap_err().to_string(), r#"invalid BAR index "6": BARs have the numbers 0 to 5"#);
        assert_eq!("5".parse(), BarIndex::new(5));
        for text in ["", "6", "02", "+2", "-1", "x"] {
            assert!(text.parse::<BarIndex>().is_err(), "{text:?}");
        }
        assert_eq!(serde_json::to_string(&BarIndex(2)).unwrap(), "2");
        assert_eq!(serde_json::from_str::<BarIndex>("2").unwrap(), BarIndex(2));
        assert!(serde_json::from_str::<BarIndex>("6").is_err());
    }

    proptest! {
        #[test]
        fn accepts_any_text(text in "(0x[0-9a-f]{0,17} ?|\n|.){0,40}") {
            for bar in parse_resource(&text) {
                prop_assert!(bar.index < 6 && bar.last() >= bar.start);
            }
        }
    }
}
