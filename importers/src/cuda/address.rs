//! Addresses of GPUs: `N[?mechanism=M]`.

use std::str::FromStr;

use super::mechanism::Mechanism;

/// Form of a target.
pub(super) const FORM: &str = "cuda:N[?mechanism=M]";

/// A GPU, and the mechanism that lets it access buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    /// GPU number in the driver's enumeration, from 0.
    pub(super) index: u32,
    /// Mechanism for every buffer. `None` tries each mechanism in turn.
    pub(super) mechanism: Option<Mechanism>,
}

/// Error in the address of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The GPU number is missing or malformed.
    #[error("N must be the number of a GPU, 0 or higher")]
    Number,
    /// The address contains an option other than `mechanism`.
    #[error("the only option is mechanism=NAME")]
    Option,
    /// No mechanism has this name.
    #[error("unknown mechanism")]
    Mechanism,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, option) = text.split_once('?').map_or((text, None), |(number, option)| (number, Some(option)));
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let index = number.parse().ok().filter(|_| digits).ok_or(AddressError::Number)?;
        let mechanism = |option: &str| {
            let name = option.strip_prefix("mechanism=").ok_or(AddressError::Option)?;
            Mechanism::named(name).ok_or(AddressError::Mechanism)
        };
        Ok(Self { index, mechanism: option.map(mechanism).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_a_number_and_an_optional_mechanism() {
        assert_eq!("0".parse(), Ok(Address { index: 0, mechanism: None }));
        let mechanism = Some(Mechanism::RegisterIoMemory);
        assert_eq!("12?mechanism=register-io-memory".parse(), Ok(Address { index: 12, mechanism }));
        for (text, problem) in [
            ("", AddressError::Number),
            ("gpu", AddressError::Number),
            ("+1", AddressError::Number),
            ("4294967296", AddressError::Number),
            ("0?", AddressError::Option),
            ("0?write=0+1", AddressError::Option),
            ("0?mechanism=", AddressError::Mechanism),
            ("0?mechanism=magic", AddressError::Mechanism),
        ] {
            assert_eq!(text.parse::<Address>(), Err(problem), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = text.parse::<Address>();
        }
    }
}
