//! `DEV[/PORT]`.

use std::str::FromStr;

/// libibverbs holds device names in 64 bytes, the terminating zero included.
const LONGEST_NAME_BYTES: usize = 63;

/// A port of an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The device's name (`rxe0`).
    pub(super) device: String,
    /// Counted from 1.
    pub(super) port: u8,
}

/// Why the text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("no device is named")]
    NoName,
    #[error("a device name has at most {LONGEST_NAME_BYTES} letters, digits, and `_`, `-` or `.`")]
    BadName,
    #[error("a port is a number from 1 to 255")]
    BadPort,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (device, port) = match text.split_once('/') {
            None => (text, 1),
            Some((device, port)) => (device, parse_port(port).ok_or(AddressError::BadPort)?),
        };
        check_name(device)?;
        Ok(Self { device: device.to_owned(), port })
    }
}

/// The name becomes a part of sysfs paths, so nothing that could lead elsewhere may stand in it.
fn check_name(name: &str) -> Result<(), AddressError> {
    if name.is_empty() {
        return Err(AddressError::NoName);
    }
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    if !plain || name.starts_with('.') || name.len() > LONGEST_NAME_BYTES {
        return Err(AddressError::BadName);
    }
    Ok(())
}

/// Plain decimal: what `u8::from_str` takes beyond that (`+1`) is no port.
fn parse_port(text: &str) -> Option<u8> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(device: &str, port: u8) -> Result<Address, AddressError> {
        Ok(Address { device: device.to_owned(), port })
    }

    #[test]
    fn the_first_port_is_meant_where_none_is_named() {
        assert_eq!("rxe0".parse(), address("rxe0", 1));
        assert_eq!("mlx5_0/2".parse(), address("mlx5_0", 2));
        assert_eq!("rocep1s0f0.100/255".parse(), address("rocep1s0f0.100", 255));
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for (text, problem) in [
            ("", AddressError::NoName),
            ("/1", AddressError::NoName),
            ("rxe0/", AddressError::BadPort),
            ("rxe0/0", AddressError::BadPort),
            ("rxe0/256", AddressError::BadPort),
            ("rxe0/+1", AddressError::BadPort),
            ("rxe0/1/2", AddressError::BadPort),
            ("..", AddressError::BadName),
            ("../net/1", AddressError::BadPort),
            ("rxe 0", AddressError::BadName),
            ("rxe\0", AddressError::BadName),
            ("réseau", AddressError::BadName),
        ] {
            assert_eq!(text.parse::<Address>(), Err(problem), "{text:?}");
        }
        assert_eq!("x".repeat(64).parse::<Address>(), Err(AddressError::BadName));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_names_stay_in_their_folder(text in ".*") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert!(!address.device.contains('/') && !address.device.starts_with('.'));
                prop_assert!(address.port >= 1);
            }
        }
    }
}
