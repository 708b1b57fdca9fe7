//! Addresses of RDMA devices: `DEV[/PORT]`.

use std::str::FromStr;

/// Form of a target.
pub(super) const FORM: &str = "verbs:DEV[/PORT]";

/// Maximum length of a name. libibverbs stores device names in 64 bytes, including the terminating zero.
const MAX_NAME_BYTES: usize = 63;

/// A port of an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Name of the device, e.g. `rxe0`.
    pub(super) device: String,
    /// Port number, from 1.
    pub(super) port: u8,
}

/// Error in the address of an RDMA device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The device name is empty.
    #[error("the name of the device is missing")]
    NoName,
    /// The device name contains an invalid character, or is too long.
    #[error("a device name has at most {MAX_NAME_BYTES} letters, digits, and `_`, `-` or `.`")]
    BadName,
    /// The port is not a number from 1 to 255.
    #[error("the port must be a number from 1 to 255")]
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

/// Checks a device name. The name becomes part of sysfs paths, so it must not contain path separators or be `..`.
fn check_name(name: &str) -> Result<(), AddressError> {
    if name.is_empty() {
        return Err(AddressError::NoName);
    }
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    if !plain || name.starts_with('.') || name.len() > MAX_NAME_BYTES {
        return Err(AddressError::BadName);
    }
    Ok(())
}

/// Parses decimal digits. `u8::from_str` would also accept a sign.
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
    fn defaults_to_the_first_port() {
        assert_eq!("rxe0".parse(), address("rxe0", 1));
        assert_eq!("mlx5_0/2".parse(), address("mlx5_0", 2));
        assert_eq!("rocep1s0f0.100/255".parse(), address("rocep1s0f0.100", 255));
    }

    #[test]
    fn rejects_malformed_addresses() {
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
        fn never_panics_and_names_stay_in_their_folder(text in ".*") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert!(!address.device.contains('/') && !address.device.starts_with('.'));
                prop_assert!(address.port >= 1);
            }
        }
    }
}
