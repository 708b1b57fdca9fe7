//! Uses of the network interfaces of a function, of the interfaces stacked on them, and of software RDMA devices.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use peerpath_paths::Bdf;

use super::below::Below;
use super::{InUse, UseKind, processes, rdma, rdma_devices, sessions};
use crate::Error;
use crate::host_tree::{HostTree, names, read_trimmed};

pub(super) fn uses(host: &HostTree, bdf: Bdf, below: &Below) -> Result<Vec<InUse>, Error> {
    let addresses = addresses(host)?;
    let busy = Busy {
        routes: default_routes(host)?,
        sessions: sessions::interfaces(host, &addresses),
        addressed: addresses.into_iter().map(|(_, name)| name).collect(),
    };
    let mut uses = Vec::new();
    for interface in &below.interfaces {
        let mut stacked = BTreeSet::new();
        follow(host, interface, &mut stacked)?;
        for name in &stacked {
            uses.extend(one(host, name, &busy)?);
        }
    }
    for device in rdma_devices(host, below)? {
        if let Some((_, interface)) = device.software {
            let detail = format!("the RDMA device {} uses {interface}", device.name);
            uses.push(InUse::new(UseKind::Rdma, true, detail));
            // The kernel cannot revoke the device, so unbinding blocks until the program closes it.
            uses.extend(processes::open_files(host, &rdma::verbs_files(host, &device.name)?, false)?);
        }
    }
    uses.extend(hidden(host, bdf, below)?);
    Ok(uses)
}

/// Names of the interfaces with default routes, login sessions and addresses.
struct Busy {
    routes: BTreeSet<String>,
    sessions: Vec<String>,
    addressed: BTreeSet<String>,
}

/// Collects an interface and all interfaces stacked on it: bonds, bridges, VLANs.
fn follow(host: &HostTree, name: &str, stacked: &mut BTreeSet<String>) -> Result<(), Error> {
    if !stacked.insert(name.to_owned()) {
        return Ok(());
    }
    for entry in names(&host.path("sys/class/net").join(name))? {
        if let Some(upper) = entry.strip_prefix("upper_") {
            follow(host, upper, stacked)?;
        }
    }
    Ok(())
}

fn one(host: &HostTree, name: &String, busy: &Busy) -> Result<Option<InUse>, Error> {
    Ok(if busy.routes.contains(name) {
        Some(InUse::new(UseKind::Network, false, format!("{name} carries the default route")))
    } else if busy.sessions.contains(name) {
        Some(InUse::new(UseKind::Network, false, format!("{name} carries the login session")))
    } else if is_up(host, name)? {
        Some(InUse::new(UseKind::Network, true, format!("{name} is up")))
    } else if busy.addressed.contains(name) {
        Some(InUse::new(UseKind::Network, true, format!("{name} has an address")))
    } else {
        None
    })
}

pub(crate) fn is_up(host: &HostTree, name: &str) -> Result<bool, Error> {
    let flags = read_trimmed(&host.path(format!("sys/class/net/{name}/flags")))?;
    let flags = flags.and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    Ok(flags.is_some_and(|flags| flags & libc::IFF_UP.cast_unsigned() != 0))
}

/// Reads the interfaces of the default routes. Two routes that each cover half of the address space count as a default route:
/// VPN clients add them instead of replacing the default route.
fn default_routes(host: &HostTree) -> Result<BTreeSet<String>, Error> {
    let mut names = BTreeSet::new();
    for routes in [routes_of_ipv4(host)?, routes_of_ipv6(host)?] {
        let has = |wanted: Share| routes.iter().any(|(share, _)| *share == wanted);
        let is_split = has(Share::LowerHalf) && has(Share::UpperHalf);
        let carries = |share| share == Share::All || is_split;
        names.extend(routes.into_iter().filter(|(share, _)| carries(*share)).map(|(_, name)| name));
    }
    Ok(names)
}

/// Share of the address space that a route covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    All,
    LowerHalf,
    UpperHalf,
}

/// Reads the routes to at least half of the IPv4 addresses, and their interfaces. The kernel prints the addresses as
/// little-endian numbers.
fn routes_of_ipv4(host: &HostTree) -> Result<Vec<(Share, String)>, Error> {
    let text = read_trimmed(&host.path("proc/net/route"))?.unwrap_or_default();
    let route = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [name, destination, _, _, _, _, _, mask, ..] = fields[..] else { return None };
        let share = match (destination, mask) {
            ("00000000", "00000000") => Share::All,
            ("00000000", "00000080") => Share::LowerHalf,
            ("00000080", "00000080") => Share::UpperHalf,
            _ => return None,
        };
        Some((share, name.to_owned()))
    };
    Ok(text.lines().skip(1).filter_map(route).collect())
}

/// Reads the routes to at least half of the IPv6 addresses, and their interfaces.
fn routes_of_ipv6(host: &HostTree) -> Result<Vec<(Share, String)>, Error> {
    let text = read_trimmed(&host.path("proc/net/ipv6_route"))?.unwrap_or_default();
    let route = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [destination, length, .., name] = fields[..] else { return None };
        let (first, rest) = destination.split_at_checked(1)?;
        let share = match (first, length) {
            ("0", "00") => Share::All,
            ("0", "01") => Share::LowerHalf,
            ("8", "01") => Share::UpperHalf,
            _ => return None,
        };
        // The kernel's own "unreachable" default route uses the loopback interface.
        (rest.bytes().all(|byte| byte == b'0') && name != "lo").then(|| (share, name.to_owned()))
    };
    Ok(text.lines().filter_map(route).collect())
}

/// Reads the addresses of this host and their interfaces.
fn addresses(host: &HostTree) -> Result<Vec<(IpAddr, String)>, Error> {
    let six = read_trimmed(&host.path("proc/net/if_inet6"))?.unwrap_or_default();
    let mut found = Vec::new();
    for line in six.lines() {
        let mut fields = line.split_whitespace();
        let address = fields.next().and_then(|hex| u128::from_str_radix(hex, 16).ok());
        if let (Some(address), Some(name)) = (address, fields.last()) {
            found.push((IpAddr::V6(Ipv6Addr::from_bits(address)), name.to_owned()));
        }
    }
    if host.is_live()
        && let Ok(addresses) = nix::ifaddrs::getifaddrs()
    {
        for one in addresses {
            if let Some(four) = one.address.as_ref().and_then(|address| address.as_sockaddr_in()) {
                found.push((IpAddr::V4(four.ip()), one.interface_name));
            }
        }
    }
    Ok(found)
}

/// Reports an Ethernet function without an interface in this network namespace: a container probably uses it.
fn hidden(host: &HostTree, bdf: Bdf, below: &Below) -> Result<Option<InUse>, Error> {
    let ethernet = host.function_number(bdf, "class")?.is_some_and(|class| class >> 8 == 0x0200);
    let driver = host.driver(bdf)?.filter(|driver| driver != "pci-stub" && !driver.starts_with("uio"));
    if !ethernet || !below.interfaces.is_empty() {
        return Ok(None);
    }
    Ok(driver.map(|driver| {
        let detail =
            format!("{driver} has no interface in this network namespace, so another namespace probably uses it");
        InUse::new(UseKind::Network, true, detail)
    }))
}

#[cfg(test)]
mod tests {
    use super::super::uses;
    use crate::testing::Fixture;
    use peerpath_paths::Bdf;

    fn nic() -> (Fixture, Bdf) {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:03:00.0").driver("e1000e").file("class", "0x020000\n").bdf();
        fixture.interface("sys/devices/pci0000:00/0000:03:00.0/net/eth0", "0x1002");
        (fixture, bdf)
    }

    fn details(fixture: &Fixture, bdf: Bdf) -> Vec<(String, bool)> {
        uses(&fixture.host(), bdf).unwrap().into_iter().map(|one| (one.detail, one.forceable)).collect()
    }

    #[test]
    fn finds_no_use_of_an_interface_that_is_down() {
        let (fixture, bdf) = nic();
        assert_eq!(details(&fixture, bdf), []);
    }

    #[test]
    fn an_interface_that_is_up_is_forceable() {
        let (fixture, bdf) = nic();
        fixture.interface("sys/devices/pci0000:00/0000:03:00.0/net/eth0", "0x1003");
        assert_eq!(details(&fixture, bdf), [("eth0 is up".to_owned(), true)]);
    }

    #[test]
    fn the_default_route_is_never_forceable() {
        let (fixture, bdf) = nic();
        let header = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";
        fixture.file("proc/net/route", &format!("{header}eth0 00000000 0102A8C0 0003 0 0 100 00000000 0 0 0\n"));
        assert_eq!(details(&fixture, bdf), [("eth0 carries the default route".to_owned(), false)]);
        fixture.file("proc/net/route", &format!("{header}eth0 0002A8C0 00000000 0001 0 0 100 00FFFFFF 0 0 0\n"));
        assert_eq!(details(&fixture, bdf), []);
        let zeros = "0".repeat(32);
        fixture.file("proc/net/ipv6_route", &format!("{zeros} 00 {zeros} 00 {zeros} 1 1 0 3 eth0\n"));
        assert_eq!(details(&fixture, bdf), [("eth0 carries the default route".to_owned(), false)]);
        fixture.file("proc/net/ipv6_route", &format!("{zeros} 00 {zeros} 00 {zeros} 1 1 0 200200 lo\n"));
        assert_eq!(details(&fixture, bdf), []);
    }

    #[test]
    fn routes_to_both_halves_of_the_addresses_are_a_default_route() {
        let (fixture, bdf) = nic();
        let carries = [("eth0 carries the default route".to_owned(), false)];
        let [lower, upper] =
            ["00000000", "00000080"].map(|half| format!("eth0 {half} 0102A8C0 0003 0 0 100 00000080 0 0 0\n"));
        fixture.file("proc/net/route", &format!("header\n{lower}{upper}"));
        assert_eq!(details(&fixture, bdf), carries);
        // The other half uses another interface.
        fixture.file("proc/net/route", &format!("header\n{lower}{}", upper.replace("eth0", "tun0")));
        assert_eq!(details(&fixture, bdf), carries);
        for half in [&lower, &upper] {
            fixture.file("proc/net/route", &format!("header\n{half}"));
            assert_eq!(details(&fixture, bdf), []);
        }
        let zeros = "0".repeat(31);
        let [lower, upper] = ["0", "8"].map(|first| format!("{first}{zeros} 01 0{zeros} 00 0{zeros} 1 1 0 3 eth0\n"));
        fixture.file("proc/net/ipv6_route", &format!("{lower}{upper}"));
        assert_eq!(details(&fixture, bdf), carries);
        fixture.file("proc/net/ipv6_route", &lower);
        assert_eq!(details(&fixture, bdf), []);
        // Routes to one half of the IPv4 addresses and one half of the IPv6 addresses do not form a default route.
        fixture.file("proc/net/ipv6_route", &upper);
        assert_eq!(details(&fixture, bdf), []);
    }

    #[test]
    fn the_login_session_is_never_forceable() {
        let (fixture, bdf) = nic();
        fixture.file("proc/net/if_inet6", "fd000000000000000000000000000001 02 40 00 80 eth0\n");
        let environment = "SSH_CONNECTION=fd00::9 50000 fd00::1 22\0";
        fixture.file(&format!("proc/{}/environ", std::process::id()), environment);
        assert_eq!(details(&fixture, bdf), [("eth0 carries the login session".to_owned(), false)]);
    }

    #[test]
    fn the_use_of_a_bond_counts_for_its_interfaces() {
        let (fixture, bdf) = nic();
        fixture.interface("sys/devices/virtual/net/bond0", "0x1002");
        fixture.link("sys/devices/pci0000:00/0000:03:00.0/net/eth0/upper_bond0", "/anywhere");
        fixture.file("proc/net/route", "header\nbond0 00000000 0 0003 0 0 0 00000000 0 0 0\n");
        assert_eq!(details(&fixture, bdf), [("bond0 carries the default route".to_owned(), false)]);
    }

    #[test]
    fn an_address_counts_although_the_interface_is_down() {
        let (fixture, bdf) = nic();
        fixture.file("proc/net/if_inet6", "fe800000000000000000000000000001 02 40 20 80 eth0\n");
        assert_eq!(details(&fixture, bdf), [("eth0 has an address".to_owned(), true)]);
    }

    #[test]
    fn finds_software_rdma() {
        let (fixture, bdf) = nic();
        fixture.file("sys/class/infiniband/rxe0/parent", "eth0\n");
        assert_eq!(details(&fixture, bdf), [("the RDMA device rxe0 uses eth0".to_owned(), true)]);
    }

    #[test]
    fn open_software_rdma_is_never_forceable() {
        let (fixture, bdf) = nic();
        fixture.file("sys/class/infiniband/rxe0/parent", "eth0\n");
        fixture.file("sys/class/infiniband_verbs/abi_version", "6\n");
        for (file, device) in [("uverbs0", "mlx5_0"), ("uverbs1", "rxe0")] {
            fixture.file(&format!("sys/class/infiniband_verbs/{file}/ibdev"), &format!("{device}\n"));
        }
        fixture.file("proc/4242/comm", "ib_send_bw\n");
        fixture.link("proc/4242/fd/3", "/dev/infiniband/uverbs1");
        fixture.link("proc/4243/fd/3", "/dev/infiniband/uverbs0");
        // Devices that this process has open do not count, because this process closes them before a change.
        fixture.link(&format!("proc/{}/fd/3", std::process::id()), "/dev/infiniband/uverbs1");
        assert_eq!(
            details(&fixture, bdf),
            [
                ("the RDMA device rxe0 uses eth0".to_owned(), true),
                ("/dev/infiniband/uverbs1 is open in ib_send_bw (process 4242)".to_owned(), false)
            ]
        );
    }

    #[test]
    fn suspects_an_interface_in_another_namespace() {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:03:00.0").driver("e1000e").file("class", "0x020000\n").bdf();
        let found = details(&fixture, bdf);
        assert!(found.len() == 1 && found[0].0.contains("namespace") && found[0].1, "{found:?}");
    }
}
