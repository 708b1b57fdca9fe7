//! `N[?mechanism=M]`, as `cuda:` takes it.

use std::str::FromStr;

use super::mechanism::Mechanism;

/// A GPU, and by which mechanism it is to reach buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    /// The driver's number of it.
    pub(super) index: u32,
    /// Without it each is tried, in its turn.
    pub(super) mechanism: Option<Mechanism>,
}

/// What is wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("a GPU has a number, 0 being the first")]
    Number,
    #[error("after the question mark stands only mechanism=NAME")]
    Option,
    #[error("there is no mechanism of that name")]
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
    fn a_number_and_perhaps_a_mechanism() {
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
        fn anything_is_answered(text in ".{0,40}") {
            let _ = text.parse::<Address>();
        }
    }
}
