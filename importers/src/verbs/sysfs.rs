//! What sysfs says of an RDMA device and libibverbs does not: the function and network device behind it, its driver, and
//! the kinds of its GIDs.

use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use peerpath_paths::Bdf;

/// A sysfs tree.
#[derive(Debug, Clone)]
pub(super) struct Sysfs {
    root: PathBuf,
}

/// How a GID is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum GidKind {
    /// RoCE v1: Ethernet frames, not routed.
    RoceV1,
    /// RoCE v2: UDP.
    RoceV2,
}

/// An entry of a port's GID table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gid {
    /// Its place in the table.
    pub(super) index: u8,
    /// The address itself.
    pub(super) bytes: [u8; 16],
}

impl Sysfs {
    /// This host's.
    pub(super) fn host() -> Self {
        Self::at("/sys")
    }

    /// A tree somewhere else, for tests.
    pub(super) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The PCI function that the device sits on: its own, or for a software device that of the network device under it.
    pub(super) fn function(&self, device: &str) -> Option<Bdf> {
        let own = self.class(device).join("device");
        let under = || Some(self.root.join("class/net").join(self.net_device(device)?).join("device"));
        nearest_function(&own).or_else(|| nearest_function(&under()?))
    }

    /// The network device that belongs to the device.
    pub(super) fn net_device(&self, device: &str) -> Option<String> {
        let class = self.class(device);
        // rxe names it outright; others show it beside each GID.
        read(&class.join("parent")).or_else(|| {
            let entries = fs::read_dir(class.join("ports/1/gid_attrs/ndevs")).ok()?;
            entries.flatten().find_map(|entry| read(&entry.path()))
        })
    }

    /// The driver: `rxe` or `siw` for software devices, else that of the PCI function (`mlx5_core`).
    pub(super) fn driver(&self, device: &str) -> Option<String> {
        let class = self.class(device);
        if let Ok(link) = fs::read_link(class.join("device/driver")) {
            return Some(link.file_name()?.to_str()?.to_owned());
        }
        if class.join("device").exists() {
            return None;
        }
        if class.join("parent").exists() {
            return Some("rxe".to_owned());
        }
        // The only other software driver, and it speaks iWARP, whose nodes are "RNIC"s.
        read(&class.join("node_type")).filter(|node| node.ends_with("RNIC")).map(|_| "siw".to_owned())
    }

    /// The GID to connect a port to itself with: RoCE v2 before v1, an IPv4 address before any other, and one that can be
    /// routed before a link-local one.
    pub(super) fn best_gid(&self, device: &str, port: u8) -> Option<Gid> {
        let port = self.class(device).join("ports").join(port.to_string());
        let kinds = fs::read_dir(port.join("gid_attrs/types")).ok()?;
        kinds
            .flatten()
            .filter_map(|entry| {
                let index: u8 = entry.file_name().to_str()?.parse().ok()?;
                // Reading the kind of an unused entry fails: only used ones get past this.
                let kind = match read(&entry.path())?.as_str() {
                    "RoCE v2" => GidKind::RoceV2,
                    _ => GidKind::RoceV1,
                };
                let address: Ipv6Addr = read(&port.join("gids").join(index.to_string()))?.parse().ok()?;
                let usable = !address.is_unspecified();
                usable.then_some((kind, address, index))
            })
            .max_by_key(|(kind, address, index)| {
                let link_local = address.is_unicast_link_local();
                (*kind, address.to_ipv4_mapped().is_some(), !link_local, std::cmp::Reverse(*index))
            })
            .map(|(_, address, index)| Gid { index, bytes: address.octets() })
    }

    /// Whether the IOMMU translates what the function sends; `None` where it has no IOMMU group or cannot be asked.
    pub(super) fn translated(&self, function: Bdf) -> Option<bool> {
        let kind = self.root.join("bus/pci/devices").join(function.to_string()).join("iommu_group/type");
        read(&kind).map(|kind| kind != "identity")
    }

    fn class(&self, device: &str) -> PathBuf {
        self.root.join("class/infiniband").join(device)
    }
}

/// The function at the end of a sysfs link, or the nearest one above it: a virtio NIC's network device hangs off
/// `virtio0`, and that off the function.
fn nearest_function(link: &Path) -> Option<Bdf> {
    let path = fs::canonicalize(link).ok()?;
    path.ancestors().find_map(|folder| folder.file_name()?.to_str()?.parse().ok())
}

/// A file's only line; `None` where there is none.
fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    struct Fixture {
        folder: TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            Self { folder: TempDir::new().unwrap() }
        }

        fn file(&self, path: &str, text: &str) -> &Self {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn link(&self, path: &str, to: &str) -> &Self {
            let (path, to) = (self.folder.path().join(path), self.folder.path().join(to));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::create_dir_all(&to).unwrap();
            symlink(to, path).unwrap();
            self
        }

        fn gid(&self, index: u8, kind: &str, address: &str) -> &Self {
            let port = "class/infiniband/rxe0/ports/1";
            self.file(&format!("{port}/gid_attrs/types/{index}"), kind);
            self.file(&format!("{port}/gids/{index}"), address)
        }

        fn sysfs(&self) -> Sysfs {
            Sysfs::at(self.folder.path())
        }
    }

    #[test]
    fn hardware_sits_on_its_own_function() {
        let fixture = Fixture::new();
        fixture.link("class/infiniband/mlx5_0/device", "devices/pci0000:00/0000:00:01.0/0000:01:00.0");
        fixture.link("devices/pci0000:00/0000:00:01.0/0000:01:00.0/driver", "bus/pci/drivers/mlx5_core");
        fixture.file("class/infiniband/mlx5_0/node_type", "1: CA\n");
        let sysfs = fixture.sysfs();
        assert_eq!(sysfs.function("mlx5_0"), Some("0000:01:00.0".parse().unwrap()));
        assert_eq!(sysfs.driver("mlx5_0").as_deref(), Some("mlx5_core"));
    }

    #[test]
    fn rxe_sits_on_the_function_of_its_network_device() {
        let fixture = Fixture::new();
        fixture.file("class/infiniband/rxe0/parent", "enp1s0\n");
        fixture.link("class/net/enp1s0/device", "devices/pci0000:00/0000:00:02.0/0000:01:00.0");
        let sysfs = fixture.sysfs();
        assert_eq!(sysfs.net_device("rxe0").as_deref(), Some("enp1s0"));
        assert_eq!(sysfs.function("rxe0"), Some("0000:01:00.0".parse().unwrap()));
        assert_eq!(sysfs.driver("rxe0").as_deref(), Some("rxe"));
    }

    #[test]
    fn a_virtio_network_device_hangs_below_its_function() {
        let fixture = Fixture::new();
        fixture.file("class/infiniband/rxe0/parent", "eth0\n");
        fixture.link("class/net/eth0/device", "devices/pci0000:00/0000:00:03.0/virtio0");
        assert_eq!(fixture.sysfs().function("rxe0"), Some("0000:00:03.0".parse().unwrap()));
    }

    #[test]
    fn a_virtual_network_device_has_no_function() {
        let fixture = Fixture::new();
        fixture.file("class/infiniband/rxe0/parent", "veth0\n").file("class/net/veth0/operstate", "up\n");
        let sysfs = fixture.sysfs();
        assert_eq!(sysfs.function("rxe0"), None);
        assert_eq!(sysfs.function("no-such-device"), None);
        assert_eq!(sysfs.driver("no-such-device"), None);
    }

    #[test]
    fn siw_is_known_by_its_node_type() {
        let fixture = Fixture::new();
        fixture.file("class/infiniband/siw0/node_type", "4: RNIC\n");
        fixture.file("class/infiniband/siw0/ports/1/gid_attrs/ndevs/0", "eth1\n");
        assert_eq!(fixture.sysfs().driver("siw0").as_deref(), Some("siw"));
        assert_eq!(fixture.sysfs().net_device("siw0").as_deref(), Some("eth1"));
    }

    #[test]
    fn an_ipv4_address_over_roce_v2_is_preferred() {
        let fixture = Fixture::new();
        assert_eq!(fixture.sysfs().best_gid("rxe0", 1), None);
        fixture.gid(7, "RoCE v2\n", "0000:0000:0000:0000:0000:0000:0000:0000\n");
        assert_eq!(fixture.sysfs().best_gid("rxe0", 1), None);
        fixture.gid(0, "IB/RoCE v1\n", "0000:0000:0000:0000:0000:ffff:0a00:0001\n");
        assert_eq!(fixture.sysfs().best_gid("rxe0", 1).map(|gid| gid.index), Some(0));
        fixture.gid(1, "RoCE v2\n", "fe80:0000:0000:0000:5054:00ff:fe12:3456\n");
        assert_eq!(fixture.sysfs().best_gid("rxe0", 1).map(|gid| gid.index), Some(1));
        fixture.gid(2, "RoCE v2\n", "2001:0db8:0000:0000:0000:0000:0000:0001\n");
        assert_eq!(fixture.sysfs().best_gid("rxe0", 1).map(|gid| gid.index), Some(2));
        fixture.gid(3, "RoCE v2\n", "0000:0000:0000:0000:0000:ffff:0a00:0001\n");
        fixture.gid(4, "RoCE v2\n", "0000:0000:0000:0000:0000:ffff:0a00:0002\n");
        let gid = fixture.sysfs().best_gid("rxe0", 1).unwrap();
        assert_eq!((gid.index, &gid.bytes[10..]), (3, &[0xff, 0xff, 10, 0, 0, 1][..]));
    }

    #[test]
    fn the_group_says_whether_addresses_are_translated() {
        let fixture = Fixture::new();
        let function: Bdf = "0000:01:00.0".parse().unwrap();
        assert_eq!(fixture.sysfs().translated(function), None);
        fixture.file("bus/pci/devices/0000:01:00.0/iommu_group/type", "DMA-FQ\n");
        assert_eq!(fixture.sysfs().translated(function), Some(true));
        fixture.file("bus/pci/devices/0000:01:00.0/iommu_group/type", "identity\n");
        assert_eq!(fixture.sysfs().translated(function), Some(false));
    }
}
