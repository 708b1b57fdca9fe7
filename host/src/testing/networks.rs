//! Fake network interfaces as files below their function, and fake programs `ip` and `rdma` that change them.

use std::fs;
use std::path::{Path, PathBuf};

use super::relink;

/// Creates the interface of a NIC after its driver was bound: down, without addresses, under the first free name.
pub(super) fn appear(root: &Path, bdf: &str) {
    let name = (0..).map(|number| format!("eth{number}")).find(|name| !class(root, name).exists()).unwrap();
    let folder = root.join(format!("sys/devices/pci0000:00/{bdf}/net/{name}"));
    fs::create_dir_all(&folder).unwrap();
    for (file, text) in [
        ("ifindex", "2\n"),
        ("flags", "0x1002\n"),
        ("dev_port", "0\n"),
        ("mtu", "1500\n"),
        ("address", "52:54:00:00:00:01\n"),
        ("addresses", ""),
        ("routes", ""),
    ] {
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
pub(super) fn run(root: &Path, program: &str, arguments: &str) -> Result<String, String> {
    let parts: Vec<&str> = arguments.split(' ').collect();
    match (program, &parts[..]) {
        ("rdma", ["-V"]) => Ok(String::new()),
        ("rdma", ["link", "add", device, "type", "rxe", "netdev", name]) => add_rdma(root, device, name),
        ("ip", ["-json", "address", "show", "dev", name]) => Ok(show_addresses(&lines(root, name, "addresses"))),
        ("ip", ["-json", family, "route", "show", "table", "all", "dev", name]) => {
            let listed = lines(root, name, "routes");
            Ok(show_routes(listed.iter().filter_map(|line| line.strip_prefix(&format!("{family} ")))))
        }
        ("ip", ["link", "set", "dev", name, "up"]) => put(root, name, "flags", "0x1003"),
        ("ip", ["link", "set", "dev", name, "down"]) => put(root, name, "flags", "0x1002"),
        ("ip", ["link", "set", "dev", name, "mtu", value]) => put(root, name, "mtu", value),
        ("ip", ["link", "set", "dev", name, "address", value]) => put(root, name, "address", value),
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
        _ => Err(format!("{program} {arguments} is not supported")),
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
fn show_addresses(addresses: &[String]) -> String {
    let shown = addresses.iter().map(|address| {
        let (local, rest) = address.split_once('/').unwrap();
        let (length, scope) = rest.split_once(" scope ").unwrap();
        let length: u8 = length.parse().unwrap();
        serde_json::json!({"family": "inet", "local": local, "prefixlen": length, "scope": scope})
    });
    serde_json::json!([{"addr_info": shown.collect::<Vec<_>>()}]).to_string()
}

/// Routes of a fixture have the form `10.9.0.0/16 via 192.168.101.254`.
fn show_routes<'a>(routes: impl Iterator<Item = &'a str>) -> String {
    let shown = routes.map(|route| {
        let (destination, gateway) = route.split_once(" via ").unwrap();
        serde_json::json!({"dst": destination, "gateway": gateway, "flags": []})
    });
    serde_json::Value::from(shown.collect::<Vec<_>>()).to_string()
}
