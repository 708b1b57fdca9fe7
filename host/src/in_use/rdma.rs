//! RDMA devices of a function, and software RDMA devices (rxe, siw) on its network interfaces.

use super::below::Below;
use crate::Error;
use crate::host_tree::{HostTree, names, read_trimmed};

/// An RDMA device that depends on the function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RdmaDevice {
    pub(crate) name: String,
    /// Kind (`rxe` or `siw`) and network interface of a software RDMA device; `None` for hardware.
    pub(crate) software: Option<(String, String)>,
}

/// Finds the RDMA devices that disappear when the function's driver is unbound.
pub(crate) fn rdma_devices(host: &HostTree, below: &Below) -> Result<Vec<RdmaDevice>, Error> {
    let class = host.path("sys/class/infiniband");
    let mut found = Vec::new();
    for name in names(&class)? {
        let folder = class.join(&name);
        if folder.join("device").exists() {
            if below.contains(&folder.join("device")) {
                found.push(RdmaDevice { name, software: None });
            }
            continue;
        }
        // sysfs names the interface of rxe in `parent`, and that of siw, an iWARP device, in an attribute of its GID.
        let software = match read_trimmed(&folder.join("parent"))? {
            Some(interface) => Some(("rxe", interface)),
            None => {
                let is_siw = read_trimmed(&folder.join("node_type"))?.is_some_and(|kind| kind.ends_with("RNIC"));
                // The kernel rejects reading an unused GID entry.
                let interface = read_trimmed(&folder.join("ports/1/gid_attrs/ndevs/0")).ok().flatten();
                interface.filter(|_| is_siw).map(|interface| ("siw", interface))
            }
        };
        if let Some((kind, interface)) = software.filter(|(_, interface)| below.interfaces.contains(interface)) {
            found.push(RdmaDevice { name, software: Some((kind.to_owned(), interface)) });
        }
    }
    Ok(found)
}

/// The device files of an RDMA device, e.g. `/dev/infiniband/uverbs0`.
pub(super) fn verbs_files(host: &HostTree, device: &str) -> Result<Vec<String>, Error> {
    let class = host.path("sys/class/infiniband_verbs");
    let mut files = Vec::new();
    for name in names(&class)? {
        if read_trimmed(&class.join(&name).join("ibdev"))?.as_deref() == Some(device) {
            files.push(format!("/dev/infiniband/{name}"));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn finds_hardware_below_the_function_and_software_on_its_interfaces() {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:03:00.0").bdf();
        let root = "sys/devices/pci0000:00/0000:03:00.0";
        fixture.interface(&format!("{root}/net/eth0"), "0x1003");
        let class = |name: &str| format!("sys/class/infiniband/{name}");
        fixture.link(&format!("{}/device", class("mlx5_0")), fixture.path(root).to_str().unwrap());
        fixture.function("0000:04:00.0");
        let other = fixture.path("sys/devices/pci0000:00/0000:04:00.0");
        fixture.link(&format!("{}/device", class("mlx5_1")), other.to_str().unwrap());
        fixture.file(&format!("{}/parent", class("rxe0")), "eth0\n");
        fixture.file(&format!("{}/parent", class("rxe1")), "eth1\n");
        for (name, interface) in [("siw0", "eth0"), ("siw1", "eth1")] {
            fixture.file(&format!("{}/node_type", class(name)), "4: RNIC\n");
            fixture.file(&format!("{}/ports/1/gid_attrs/ndevs/0", class(name)), &format!("{interface}\n"));
        }
        let below = Below::read(&fixture.host(), bdf).unwrap();
        let found = rdma_devices(&fixture.host(), &below).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|device| (device.name.as_str(), device.software.as_ref().map(|(kind, _)| kind.as_str())))
            .collect();
        assert_eq!(found, [("mlx5_0", None), ("rxe0", Some("rxe")), ("siw0", Some("siw"))]);
    }
}
