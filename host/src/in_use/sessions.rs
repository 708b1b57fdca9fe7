//! The network interface of the user's login session.

use std::fs;
use std::net::IpAddr;

use crate::host_tree::{HostTree, read_trimmed};

/// Maximum number of parent processes to search. A longer chain indicates a loop.
const PARENT_LIMIT: usize = 64;

/// Finds the interfaces of the login sessions that started this process and its parents.
///
/// sshd sets `SSH_CONNECTION` to the addresses of client and server. Programs such as sudo remove the variable from the
/// environment, but the environment of a parent process still contains it.
pub(super) fn interfaces(host: &HostTree, addresses: &[(IpAddr, String)]) -> Vec<String> {
    let mut pid = std::process::id();
    let mut found = Vec::new();
    for _ in 0..PARENT_LIMIT {
        let environment = fs::read(host.path(format!("proc/{pid}/environ"))).unwrap_or_default();
        if let Some(address) = login_address(&environment) {
            match address.split_once('%') {
                Some((_, interface)) => found.push(interface.to_owned()),
                None => {
                    let address = address.parse().ok().map(unmapped);
                    let matching = addresses.iter().filter(|(one, _)| Some(*one) == address);
                    found.extend(matching.map(|(_, name)| name.clone()));
                }
            }
        }
        match parent(host, pid) {
            Some(parent) if parent > 1 => pid = parent,
            _ => break,
        }
    }
    found
}

/// The server address in `SSH_CONNECTION`, which contains client address, client port, server address and server port.
fn login_address(environment: &[u8]) -> Option<String> {
    let variable = environment.split(|&byte| byte == 0).find_map(|one| one.strip_prefix(b"SSH_CONNECTION="))?;
    std::str::from_utf8(variable).ok()?.split(' ').nth(2).map(str::to_owned)
}

/// Converts an IPv4-mapped IPv6 address, as an IPv6 socket reports it, to IPv4.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn parent(host: &HostTree, pid: u32) -> Option<u32> {
    let status = read_trimmed(&host.path(format!("proc/{pid}/status"))).ok()??;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    fn carried_by(fixture: &Fixture) -> Vec<String> {
        let address = |text: &str, name: &str| (text.parse().unwrap(), name.to_owned());
        interfaces(&fixture.host(), &[address("10.0.0.1", "eth0"), address("fd00::1", "eth1")])
    }

    #[test]
    fn finds_the_session_of_a_parent() {
        let me = std::process::id();
        for (variable, expected) in [
            ("SSH_CONNECTION=10.0.0.9 5000 10.0.0.1 22", vec!["eth0"]),
            ("SSH_CONNECTION=fd00::9 5000 fd00::1 22", vec!["eth1"]),
            ("SSH_CONNECTION=::ffff:10.0.0.9 5000 ::ffff:10.0.0.1 22", vec!["eth0"]),
            ("SSH_CONNECTION=fe80::9%eth2 5000 fe80::1%eth2 22", vec!["eth2"]),
            ("SSH_CONNECTION=127.0.0.1 5000 127.0.0.1 22", vec![]),
            ("SSH_CONNECTION=", vec![]),
            ("OTHER=SSH_CONNECTION=10.0.0.9 5000 10.0.0.1 22", vec![]),
        ] {
            let fixture = Fixture::new();
            fixture.file(&format!("proc/{me}/environ"), "HOME=/root\0");
            fixture.file(&format!("proc/{me}/status"), "Name:\tpeerpath\nPPid:\t77\n");
            fixture.file("proc/77/environ", &format!("HOME=/home/somebody\0{variable}\0LANG=C\0"));
            fixture.file("proc/77/status", "PPid:\t1\n");
            assert_eq!(carried_by(&fixture), expected, "{variable}");
        }
        assert!(carried_by(&Fixture::new()).is_empty());
    }
}
