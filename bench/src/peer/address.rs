//! Where the server listens, as people write it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};

use crate::failure::Failure;

/// The port where none is named.
pub const PORT: u16 = 18_551;
/// Where `serve` listens unless it is told otherwise: nobody else reaches it there.
pub const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);

/// The addresses that `HOST[:PORT]` stands for, in the order in which to try them.
///
/// # Errors
/// It stands for none.
pub fn resolve(text: &str) -> Result<Vec<SocketAddr>, Failure> {
    let refuse = |why: String| {
        Failure::bad_input(
            format!("{text:?} is no address of a host"),
            why,
            format!("write HOST or HOST:PORT, such as 192.0.2.7 or [2001:db8::7]:{PORT}"),
        )
    };
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, PORT)]);
    }
    let found = match text.rsplit_once(':') {
        Some(_) => text.to_socket_addrs(),
        None => (text, PORT).to_socket_addrs(),
    };
    let found: Vec<_> = found.map_err(|error| refuse(error.to_string()))?.collect();
    if found.is_empty() { Err(refuse("it has no address".to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerpath_paths::Severity;

    #[test]
    fn the_port_may_be_left_away() {
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
    fn what_is_no_address_is_bad_input() {
        for text in ["", ":", "192.0.2.7:", "192.0.2.7:65536", "192.0.2.7:-1", "a b"] {
            assert_eq!(resolve(text).unwrap_err().severity, Severity::BadInput, "{text:?}");
        }
    }
}
