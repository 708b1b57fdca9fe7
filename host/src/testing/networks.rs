//! Fake network interfaces as files below their function, and fake programs `ip` and `rdma` that change them.

use std::fs;
use std::path::{Path, PathBuf};

use peerpath_paths::Bdf;

use super::{Fixture, relink};

/// Files of a new interface: down, without addresses. Some files are not in a real sysfs: `ip` reads these
/// values over netlink.
const NEW: &[(&str, &str)] = &[
    ("ifindex", "2\n"),
    ("flags", "0x1002\n"),
    ("dev_port", "0\n"),
    ("mtu", "1500\n"),
    ("address", "52:54:00:00:00:01\n"),
    ("tx_queue_len", "1000\n"),
    ("ifalias", "\n"),
    ("altnames", ""),
    ("promisc", "off\n"),
    ("allmulticast", "off\n"),
    ("addresses", ""),
    ("routes", ""),
    ("neighbours", ""),
];

/// Files of an interface whose whole configuration differs from [`NEW`].
const CONFIGURED: &[(&str, &str)] = &[
    ("flags", "0x1003\n"),
    ("mtu", "9000\n"),
    ("address", "52:54:00:00:00:02\n"),
    ("tx_queue_len", "500\n"),
    ("ifalias", "to the second rack\n"),
    ("altnames", "enp2s0\nlan0\n"),
    ("promisc", "on\n"),
    ("allmulticast", "on\n"),
    ("addresses", "192.168.101.1/24 scope global\n10.0.0.1/8 scope global\n"),
    ("routes", "-4 10.9.0.0/16 via 192.168.101.254\n"),
    ("neighbours", "192.168.101.7 lladdr 52:54:00:00:00:07 nud permanent\n"),
];

impl Fixture {
    /// Adds a NIC with the driver e1000e, the configured interface eth0 and the RDMA device rxe0 on it.
    pub(crate) fn nic(&self, bdf: &str, group: u32) -> Bdf {
        let bdf = self.function(bdf).group(group).driver("e1000e").file("class", "0x020000\n").bdf();
        let net = format!("sys/devices/pci0000:00/{bdf}/net/eth0");
        self.interface(&net, "0x1003");
        for (file, text) in NEW.iter().chain(CONFIGURED) {
            self.file(&format!("{net}/{file}"), text);
        }
        self.file("sys/class/infiniband/rxe0/parent", "eth0\n");
        self.file("sys/class/infiniband/rxe0/ports/1/state", "4: ACTIVE\n");
        bdf
    }
}

/// Creates the interface of a NIC after its driver was bound, under the first free name.
pub(super) fn appear(root: &Path, bdf: &str) {
    let name = (0..).map(|number| format!("eth{number}")).find(|name| !class(root, name).exists()).unwrap();
    let folder = root.join(format!("sys/devices/pci0000:00/{bdf}/net/{name}"));
    fs::create_dir_all(&folder).unwrap();
    for (file, text) in NEW {
        fs::write(folder.join(file), text).unwrap();
    }
    relink(&class(root, &name), &folder);
}

/// Removes the interfaces of a function after its driver was unbound, and the RDMA devices on them.
pub(super) fn disappear(root: &Path, bdf: &str) {
    let net = root.join(format!("sys/devices/pci0000:00/{bdf}/net"));
    for entry in fs::read_dir(&net).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        fs::remove_file(class(root, &name)).unwrap();
        for device in fs::read_dir(root.join("sys/class/infiniband")).into_iter().flatten().flatten() {
            if fs::read_to_string(device.path().join("parent")).unwrap_or_default().trim() == name {
                fs::remove_dir_all(device.path()).unwrap();
            }
        }
    }
    let _ = fs::remove_dir_all(net);
}

/// Implements only the commands that this crate runs.
pub(super) fn run(root: &Path, program: &str, parts: &[&str]) -> Result<String, String> {
    match (program, parts) {
        ("rdma", ["-V"]) => Ok(String::new()),
        ("rdma", ["link", "add", device, "type", "rxe", "netdev", name]) => add_rdma(root, device, name),
        ("ip", ["-details", "-json", "address", "show", "dev", name]) => Ok(show_interface(root, name)),
        ("ip", ["-json", "neighbour", "show", "dev", name, "nud", "permanent"]) => {
            Ok(show_neighbours(&lines(root, name, "neighbours")))
        }
        ("ip", ["-json", family, "route", "show", "table", "all", "dev", name]) => {
            let listed = lines(root, name, "routes");
            Ok(show_routes(listed.iter().filter_map(|line| line.strip_prefix(&format!("{family} ")))))
        }
        ("ip", ["link", "set", "dev", name, "up"]) => put(root, name, "flags", "0x1003"),
        ("ip", ["link", "set", "dev", name, "down"]) => put(root, name, "flags", "0x1002"),
        ("ip", ["link", "set", "dev", name, key @ ("mtu" | "address" | "promisc" | "allmulticast"), value]) => {
            put(root, name, key, value)
        }
        ("ip", ["link", "set", "dev", name, "txqueuelen", value]) => put(root, name, "tx_queue_len", value),
        ("ip", ["link", "set", "dev", name, "alias", value]) => put(root, name, "ifalias", value),
        ("ip", ["link", "property", "add", "dev", name, "altname", value]) => add(root, name, "altnames", value),
        ("ip", ["neighbour", "replace", .., "dev", name]) => {
            add(root, name, "neighbours", &parts[2..parts.len() - 2].join(" "))
        }
        ("ip", ["link", "set", "dev", name, "name", new]) => rename(root, name, new),
        ("ip", ["address", "replace", .., "dev", name]) => {
            let address = parts[2..parts.len() - 2].join(" ");
            add(root, name, "addresses", &address)
        }
        ("ip", [family, "route", "replace", .., "dev", name]) => {
            if !is_up(root, name) {
                return Err("Error: Device for nexthop is not up.".to_owned());
            }
            if parts.contains(&"0.0.0.0") {
                return Err("Error: Nexthop has invalid gateway.".to_owned());
            }
            add(root, name, "routes", &format!("{family} {}", parts[3..parts.len() - 2].join(" ")))
        }
        _ => Err(format!("{program} {} is not supported", parts.join(" "))),
    }
}

fn class(root: &Path, name: &str) -> PathBuf {
    root.join(format!("sys/class/net/{name}"))
}

fn is_up(root: &Path, name: &str) -> bool {
    fs::read_to_string(class(root, name).join("flags")).is_ok_and(|flags| flags.trim() == "0x1003")
}

fn lines(root: &Path, name: &str, file: &str) -> Vec<String> {
    let text = fs::read_to_string(class(root, name).join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn put(root: &Path, name: &str, file: &str, text: &str) -> Result<String, String> {
    let path = class(root, name).join(file);
    if !path.exists() {
        return Err(format!("Cannot find device \"{name}\""));
    }
    fs::write(path, format!("{text}\n")).unwrap();
    Ok(String::new())
}

fn add(root: &Path, name: &str, file: &str, line: &str) -> Result<String, String> {
    let mut all = lines(root, name, file);
    if !all.iter().any(|known| known == line) {
        all.push(line.to_owned());
    }
    put(root, name, file, &all.join("\n"))
}

fn rename(root: &Path, name: &str, new: &str) -> Result<String, String> {
    let old = fs::read_link(class(root, name)).unwrap();
    let path = old.with_file_name(new);
    fs::rename(&old, &path).unwrap();
    fs::remove_file(class(root, name)).unwrap();
    relink(&class(root, new), &path);
    Ok(String::new())
}

fn add_rdma(root: &Path, device: &str, name: &str) -> Result<String, String> {
    let folder = root.join(format!("sys/class/infiniband/{device}"));
    if folder.exists() || !class(root, name).exists() {
        return Err("error: File exists".to_owned());
    }
    fs::create_dir_all(folder.join("ports/1")).unwrap();
    fs::write(folder.join("parent"), format!("{name}\n")).unwrap();
    let state = if is_up(root, name) { "4: ACTIVE\n" } else { "1: DOWN\n" };
    fs::write(folder.join("ports/1/state"), state).unwrap();
    Ok(String::new())
}

/// Addresses of a fixture have the form `192.168.101.1/24 scope global`.
fn show_interface(root: &Path, name: &str) -> String {
    let addresses = lines(root, name, "addresses").into_iter().map(|address| {
        let (local, rest) = address.split_once('/').unwrap();
        let (length, scope) = rest.split_once(" scope ").unwrap();
        let length: u8 = length.parse().unwrap();
        serde_json::json!({"family": "inet", "local": local, "prefixlen": length, "scope": scope})
    });
    let only = |file: &str| lines(root, name, file).into_iter().next().filter(|line| !line.is_empty());
    let is_on = |file: &str| only(file).is_some_and(|text| text == "on");
    let flags = [("BROADCAST", true), ("PROMISC", is_on("promisc")), ("ALLMULTI", is_on("allmulticast"))];
    let flags: Vec<_> = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag).collect();
    let length = only("tx_queue_len").and_then(|text| text.parse::<u32>().ok());
    serde_json::json!([{"addr_info": addresses.collect::<Vec<_>>(), "flags": flags, "txqlen": length,
        "ifalias": only("ifalias"), "altnames": lines(root, name, "altnames")}])
    .to_string()
}

/// Neighbours of a fixture have the form `192.168.101.7 lladdr 52:54:00:00:00:07 nud permanent`.
fn show_neighbours(neighbours: &[String]) -> String {
    let shown = neighbours.iter().map(|neighbour| {
        let parts: Vec<_> = neighbour.split(' ').collect();
        serde_json::json!({"dst": parts[0], "lladdr": parts[2], "state": ["PERMANENT"]})
    });
    serde_json::Value::from(shown.collect::<Vec<_>>()).to_string()
}

/// Routes of a fixture have the form `10.9.0.0/16 via 192.168.101.254`.
fn show_routes<'a>(routes: impl Iterator<Item = &'a str>) -> String {
    let shown = routes.map(|route| {
        let (destination, gateway) = route.split_once(" via ").unwrap();
        serde_json::json!({"dst": destination, "gateway": gateway, "flags": []})
    });
    serde_json::Value::from(shown.collect::<Vec<_>>()).to_string()
}
