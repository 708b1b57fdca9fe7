//! The port of an RDMA device, as a hop between two hosts.

use serde::Serialize;

use super::Assumption;
use crate::Tree;
use crate::function::printable_name;

const CLASS: &str = "sys/class/infiniband";

/// Path MTUs of the InfiniBand architecture, in bytes.
const PATH_MTUS: [u16; 5] = [256, 512, 1024, 2048, 4096];
/// Bytes that the kernel reserves for headers when it derives the path MTU of a RoCE port from the MTU of its interface
/// (`iboe_get_mtu` in `include/rdma/ib_addr.h`): GRH 40, UDP 8, BTH 12, XRC 4, atomic 28, ICRC 4.
const RESERVED_BYTES: u32 = 96;

/// Protocol of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// RoCE v2 over Ethernet.
    Roce,
    /// InfiniBand.
    InfiniBand,
}

/// A port of an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Port {
    /// RDMA device, e.g. `mlx5_0`.
    pub device: String,
    /// Number of the port, from 1.
    pub port: u8,
    /// Protocol of the wire.
    pub wire: Wire,
    /// Rate of one direction after line encoding, in bits per second.
    pub bits_per_s: u64,
    /// Path MTU in bytes: payload of one packet.
    pub path_mtu_bytes: u16,
    /// Whether the path MTU is derived, not read from a queue pair.
    #[serde(skip)]
    pub mtu_assumed: bool,
}

impl Port {
    /// Reads rate, link layer and MTU of a port from sysfs. `path_mtu_bytes` is the MTU of the connection, if it is known.
    ///
    /// # Errors
    /// A noun phrase for what is not readable or not modelled.
    pub fn read(tree: &Tree, device: &str, port: u8, path_mtu_bytes: Option<u16>) -> Result<Self, String> {
        // Reject names that would lead to another directory, because the name becomes part of a path.
        if device.is_empty() || device.contains('/') || device.starts_with('.') {
            return Err("the name of the RDMA device".to_owned());
        }
        let name = printable_name(device);
        let text = |file: &str| tree.text(&format!("{CLASS}/{device}/ports/{port}/{file}"));
        if tree.text(&format!("{CLASS}/{device}/node_type")).is_some_and(|kind| kind.starts_with("4:")) {
            return Err(format!("the overhead of iWARP on {name}"));
        }
        if text("state").is_some_and(|state| !state.contains("ACTIVE")) {
            return Err(format!("the rate of port {port} of {name}, which is not active"));
        }
        let wire = match text("link_layer").as_deref() {
            Some("Ethernet") => Wire::Roce,
            Some("InfiniBand") => Wire::InfiniBand,
            _ => return Err(format!("the link layer of port {port} of {name}")),
        };
        let rate = text("rate").and_then(|rate| bits_per_s(&rate, wire));
        let bits_per_s = rate.ok_or_else(|| format!("the rate of port {port} of {name}"))?;
        let derived = || match wire {
            Wire::Roce => interface_mtu(tree, device, port).map_or(4096, path_mtu),
            Wire::InfiniBand => 4096,
        };
        let path_mtu_known = path_mtu_bytes.filter(|bytes| *bytes > 0);
        Ok(Self {
            device: name,
            port,
            wire,
            bits_per_s,
            path_mtu_bytes: path_mtu_known.unwrap_or_else(derived),
            mtu_assumed: path_mtu_known.is_none(),
        })
    }

    /// Upper limit of the payload rate of one direction, in bytes per second.
    pub fn bytes_per_s(&self) -> f64 {
        let overhead = match self.wire {
            // Preamble and start 8, gap 12, Ethernet 14, FCS 4, IPv4 20, UDP 8, BTH 12, ICRC 4.
            Wire::Roce => 82.0,
            // LRH 8, BTH 12, ICRC 4, VCRC 2.
            Wire::InfiniBand => 26.0,
        };
        let payload = f64::from(self.path_mtu_bytes);
        self.bits_per_s as f64 / 8.0 * payload / (payload + overhead)
    }

    pub(super) fn assumptions(&self) -> impl Iterator<Item = Assumption> {
        let wire = match self.wire {
            Wire::Roce => Assumption::RoceV2,
            Wire::InfiniBand => Assumption::LocalInfiniBand,
        };
        [wire].into_iter().chain(self.mtu_assumed.then_some(Assumption::LargestPathMtu))
    }
}

/// The rate after line encoding from `100 Gb/sec (4X EDR)`. For the InfiniBand speeds up to FDR the kernel reports the signaling
/// rate (`rate_show` in `drivers/infiniband/core/sysfs.c`).
fn bits_per_s(text: &str, wire: Wire) -> Option<u64> {
    let (number, rest) = text.split_once(" Gb/sec")?;
    let gbit: f64 = number.trim().parse().ok().filter(|gbit| (0.1..1e6).contains(gbit))?;
    let speed = rest.trim().trim_end_matches(')').rsplit(' ').next().unwrap_or_default();
    let encoding = match (wire, speed) {
        (Wire::InfiniBand, "SDR" | "DDR" | "QDR") => 8.0 / 10.0,
        // 14.0625 Gb/s per lane with 64b/66b encoding, which the kernel rounds to 14.
        (Wire::InfiniBand, "FDR") => 14.0625 / 14.0 * 64.0 / 66.0,
        _ => 1.0,
    };
    Some((gbit * encoding * 1e9) as u64)
}

/// MTU in bytes of the network interface of a RoCE port.
fn interface_mtu(tree: &Tree, device: &str, port: u8) -> Option<u32> {
    let interface = tree.text(&format!("{CLASS}/{device}/ports/{port}/gid_attrs/ndevs/0"))?;
    if interface.is_empty() || interface.contains('/') || interface.starts_with('.') {
        return None;
    }
    tree.text(&format!("sys/class/net/{interface}/mtu"))?.parse().ok()
}

fn path_mtu(interface_mtu: u32) -> u16 {
    let fits = |bytes: &&u16| u32::from(**bytes) + RESERVED_BYTES <= interface_mtu;
    PATH_MTUS.iter().rev().find(fits).copied().unwrap_or(PATH_MTUS[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_rate_as_the_kernel_prints_it() {
        let ethernet = |text| bits_per_s(text, Wire::Roce);
        let infiniband = |text| bits_per_s(text, Wire::InfiniBand);
        assert_eq!(ethernet("100 Gb/sec (4X EDR)"), Some(100_000_000_000));
        assert_eq!(ethernet("40 Gb/sec (4X QDR)"), Some(40_000_000_000));
        assert_eq!(ethernet("2.5 Gb/sec (1X SDR)"), Some(2_500_000_000));
        assert_eq!(infiniband("40 Gb/sec (4X QDR)"), Some(32_000_000_000));
        assert_eq!(infiniband("56 Gb/sec (4X FDR)"), Some(54_545_454_545));
        assert_eq!(infiniband("400 Gb/sec (4X NDR)"), Some(400_000_000_000));
        assert_eq!(ethernet("fast"), None);
        assert_eq!(ethernet("-1 Gb/sec"), None);
        assert_eq!(ethernet("NaN Gb/sec"), None);
    }

    #[test]
    fn derives_the_path_mtu_as_the_kernel_does() {
        assert_eq!([1500, 2200, 4200, 9000, 100].map(path_mtu), [1024, 2048, 4096, 4096, 256]);
    }
}
