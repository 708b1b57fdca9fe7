//! Parses server addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};

use peerpath_paths::sentence;

use crate::failure::Failure;

/// Default TCP port of the server.
pub const PORT: u16 = 18_551;
/// The default listen address. Other hosts cannot reach it.
pub const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);

/// Resolves `HOST[:PORT]` to addresses, in the order in which to try them.
///
/// # Errors
/// The text is not an address, or the host name does not resolve.
pub fn resolve(text: &str) -> Result<Vec<SocketAddr>, Failure> {
    let what = || format!("cannot use the address {text:?}");
    let unresolved = |why: String| {
        let remedy = format!("Write HOST or HOST:PORT, e.g. 192.0.2.7 or [2001:db8::7]:{PORT}.");
        Failure::bad_input(what(), why, remedy)
    };
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, PORT)]);
    }
    let found = match text.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_err() => {
            let why = format!("{port:?} is not a port.");
            return Err(Failure::bad_input(
                what(),
                why,
                "Write HOST:PORT with a port from 1 to 65535, or omit the port.",
            ));
        }
        Some(_) => text.to_socket_addrs(),
        None => (text, PORT).to_socket_addrs(),
    };
    let found: Vec<_> = found.map_err(|error| unresolved(sentence(&error.to_string())))?.collect();
    if found.is_empty() {
        return Err(unresolved("The host name does not resolve to an address.".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerpath_paths::Severity;

    #[test]
    fn the_port_is_optional() {
        for (text, address) in [
            ("192.0.2.7", "192.0.2.7:18551"),
            ("192.0.2.7:7", "192.0.2.7:7"),
            ("2001:db8::7", "[2001:db8::7]:18551"),
            ("[2001:db8::7]", "[2001:db8::7]:18551"),
            ("[2001:db8::7]:7", "[2001:db8::7]:7"),
        ] {
            assert_eq!(resolve(text).unwrap(), [address.parse().unwrap()], "{text}");
        }
    }

    #[test]
    fn rejects_invalid_addresses() {
        for text in ["", ":", "192.0.2.7:", "192.0.2.7:65536", "192.0.2.7:-1", "a b"] {
            assert_eq!(resolve(text).unwrap_err().severity, Severity::BadInput, "{text:?}");
        }
    }
}
