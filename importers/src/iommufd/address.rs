//! Addresses of PCI functions: `BDF[?write=LBA+COUNT]`.

use std::fmt;
use std::str::FromStr;

use peerpath_paths::Bdf;

/// Form of a target.
pub(super) const FORM: &str = "iommufd:BDF[?write=LBA+COUNT]";

/// Consecutive blocks of a drive. Written `FIRST+COUNT`, in decimal or in hexadecimal after `0x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// Number of the first block (LBA).
    pub(super) first: u64,
    /// Number of blocks, at least one.
    pub(super) count: u64,
}

impl Blocks {
    /// Creates a span of `count` blocks that starts at block number `first` (LBA).
    ///
    /// # Errors
    /// `count` is zero, or the block number after the last block exceeds 64 bits.
    pub fn new(first: u64, count: u64) -> Result<Self, AddressError> {
        match first.checked_add(count) {
            Some(_) if count > 0 => Ok(Self { first, count }),
            _ => Err(AddressError::Blocks),
        }
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.first, self.count)
    }
}

/// A PCI function, and the blocks of its drive that may be overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) bdf: Bdf,
    /// Blocks that may be overwritten. `None` if the drive is only read.
    pub(super) write: Option<Blocks>,
}

/// Error in the address of a PCI function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The PCI address is malformed.
    #[error("BDF must be the PCI address of a function")]
    Function,
    /// The address contains an option other than `write`.
    #[error("the only option is write=LBA+COUNT")]
    Option,
    /// The blocks do not have the form `LBA+COUNT`.
    #[error("LBA is the first block and COUNT the number of blocks, above zero and within 64 bits")]
    Blocks,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (function, option) =
            text.split_once('?').map_or((text, None), |(function, option)| (function, Some(option)));
        let bdf = function.parse().map_err(|_| AddressError::Function)?;
        let blocks = |option: &str| option.strip_prefix("write=").ok_or(AddressError::Option)?.parse();
        Ok(Self { bdf, write: option.map(blocks).transpose()? })
    }
}

impl FromStr for Blocks {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, count) = text.split_once('+').ok_or(AddressError::Blocks)?;
        let (first, count) = number(first).zip(number(count)).ok_or(AddressError::Blocks)?;
        Self::new(first, count)
    }
}

/// Parses decimal digits, or hexadecimal digits after `0x`. The standard library would also accept a sign.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_a_function_and_optional_blocks() {
        let bdf = "0000:03:00.0".parse().unwrap();
        assert_eq!("0000:03:00.0".parse(), Ok(Address { bdf, write: None }));
        let write = Some(Blocks { first: 2048, count: 16 });
        assert_eq!("0000:03:00.0?write=2048+16".parse(), Ok(Address { bdf, write }));
        assert_eq!("0000:03:00.0?write=0x800+0x10".parse(), Ok(Address { bdf, write }));
        for (text, problem) in [
            ("", AddressError::Function),
            ("nvme0", AddressError::Function),
            ("?write=0+1", AddressError::Function),
            ("0000:03:00.0?", AddressError::Option),
            ("0000:03:00.0?read=0+1", AddressError::Option),
            ("0000:03:00.0?write", AddressError::Option),
            ("0000:03:00.0?write=", AddressError::Blocks),
            ("0000:03:00.0?write=0", AddressError::Blocks),
            ("0000:03:00.0?write=0+0", AddressError::Blocks),
            ("0000:03:00.0?write=+1", AddressError::Blocks),
            ("0000:03:00.0?write=-1+1", AddressError::Blocks),
            ("0000:03:00.0?write=0++1", AddressError::Blocks),
            ("0000:03:00.0?write=1+18446744073709551615", AddressError::Blocks),
        ] {
            assert_eq!(text.parse::<Address>(), Err(problem), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = text.parse::<Address>();
        }

        #[test]
        fn parses_what_it_formats(first in any::<u32>(), count in 1_u32..) {
            let blocks = Blocks { first: first.into(), count: count.into() };
            prop_assert_eq!(blocks.to_string().parse(), Ok(blocks));
        }
    }
}
