//! Properties of an RDMA device that libibverbs does not report, from sysfs: PCI function, network device, driver, and types
//! of the GIDs.

use std::net::Ipv6Addr;

use peerpath_paths::{Bdf, Tree};

/// Type of a GID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum GidKind {
    /// RoCE v1: Ethernet frames, not routable.
    RoceV1,
    /// RoCE v2: UDP, routable.
    RoceV2,
}

/// An entry of a port's GID table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gid {
    /// Index in the GID table.
    pub(super) index: u8,
    /// The GID, in network byte order.
    pub(super) bytes: [u8; 16],
}

/// Returns the PCI function of the device. For a software device, returns the PCI function of its network device.
pub(super) fn function(tree: &Tree, device: &str) -> Option<Bdf> {
    nearest_function(tree, &format!("{}/device", class(device)))
        .or_else(|| nearest_function(tree, &format!("sys/class/net/{}/device", net_device(tree, device)?)))
}

/// Returns the network device of an RDMA device.
pub(super) fn net_device(tree: &Tree, device: &str) -> Option<String> {
    let class = class(device);
    // The file `parent` of rxe names the network device; other drivers name it per GID.
    line(tree, &format!("{class}/parent")).or_else(|| {
        let table = format!("{class}/ports/1/gid_attrs/ndevs");
        tree.names(&table).iter().find_map(|index| line(tree, &format!("{table}/{index}")))
    })
}

/// Returns the driver: `rxe` or `siw` for software devices, otherwise the PCI driver (`mlx5_core`).
pub(super) fn driver(tree: &Tree, device: &str) -> Option<String> {
    let class = class(device);
    if tree.has(&format!("{class}/device")) {
        return tree.link_name(&format!("{class}/device/driver"));
    }
    if tree.has(&format!("{class}/parent")) {
        return Some("rxe".to_owned());
    }
    // siw is the only other software driver. It uses iWARP, whose node type is RNIC.
    line(tree, &format!("{class}/node_type")).filter(|node| node.ends_with("RNIC")).map(|_| "siw".to_owned())
}

/// Returns the best GID of a port: RoCE v2 before v1, IPv4 before IPv6, and routable before link-local.
///
/// Of several link-local GIDs, returns the last. The table starts with GIDs that the kernel derives from the MAC address.
/// They are unreachable unless the network device has the same link-local address.
pub(super) fn best_gid(tree: &Tree, device: &str, port: u8) -> Option<Gid> {
    let port = format!("{}/ports/{port}", class(device));
    let usable = |name: &String| {
        let index: u8 = name.parse().ok()?;
        // The type of an unused entry cannot be read, so unused entries are skipped.
        let kind = match line(tree, &format!("{port}/gid_attrs/types/{index}"))?.as_str() {
            "RoCE v2" => GidKind::RoceV2,
            _ => GidKind::RoceV1,
        };
        let address: Ipv6Addr = line(tree, &format!("{port}/gids/{index}"))?.parse().ok()?;
        (!address.is_unspecified()).then_some((kind, address, index))
    };
    let names = tree.names(&format!("{port}/gid_attrs/types"));
    let (_, address, index) = names.iter().filter_map(usable).max_by_key(|(kind, address, index)| {
        let link_local = address.is_unicast_link_local();
        let place = i16::from(*index);
        (*kind, address.to_ipv4_mapped().is_some(), !link_local, if link_local { place } else { -place })
    })?;
    Some(Gid { index, bytes: address.octets() })
}

/// Returns the GID at an index. `None` if the entry is unused.
pub(super) fn gid(tree: &Tree, device: &str, port: u8, index: u8) -> Option<[u8; 16]> {
    let address: Ipv6Addr = line(tree, &format!("{}/ports/{port}/gids/{index}", class(device)))?.parse().ok()?;
    (!address.is_unspecified()).then_some(address.octets())
}

/// Whether the IOMMU translates accesses of the function. `None` if the function has no IOMMU group.
pub(super) fn translated(tree: &Tree, function: Bdf) -> Option<bool> {
    line(tree, &format!("sys/bus/pci/devices/{function}/iommu_group/type")).map(|kind| kind != "identity")
}

fn class(device: &str) -> String {
    format!("sys/class/infiniband/{device}")
}

/// Returns the PCI function that a sysfs link points to, or the nearest ancestor that is a PCI function. For example, the
/// network device of a virtio NIC is a child of `virtio0`, and `virtio0` is a child of the PCI function.
fn nearest_function(tree: &Tree, link: &str) -> Option<Bdf> {
    tree.resolve(link)?.rsplit('/').find_map(|folder| folder.parse().ok())
}

/// Reads the line in a sysfs file. `None` if the file is empty or absent.
fn line(tree: &Tree, path: &str) -> Option<String> {
    tree.text(path).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
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
            let path = self.folder.path().join("sys").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn link(&self, path: &str, to: &str) -> &Self {
            let sys = self.folder.path().join("sys");
            let path = sys.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::create_dir_all(sys.join(to)).unwrap();
            symlink(format!("/sys/{to}"), path).unwrap();
            self
        }

        fn gid(&self, index: u8, kind: &str, address: &str) -> &Self {
            let port = "class/infiniband/rxe0/ports/1";
            self.file(&format!("{port}/gid_attrs/types/{index}"), kind);
            self.file(&format!("{port}/gids/{index}"), address)
        }

        fn tree(&self) -> Tree {
            Tree::open(self.folder.path()).unwrap()
        }
    }

    #[test]
    fn finds_the_function_of_hardware() {
        let fixture = Fixture::new();
        fixture.link("class/infiniband/mlx5_0/device", "devices/pci0000:00/0000:00:01.0/0000:01:00.0");
        fixture.link("devices/pci0000:00/0000:00:01.0/0000:01:00.0/driver", "bus/pci/drivers/mlx5_core");
        fixture.file("class/infiniband/mlx5_0/node_type", "1: CA\n");
        let tree = fixture.tree();
        assert_eq!(function(&tree, "mlx5_0"), Some("0000:01:00.0".parse().unwrap()));
        assert_eq!(driver(&tree, "mlx5_0").as_deref(), Some("mlx5_core"));
    }

    #[test]
    fn finds_the_function_of_the_network_device_of_rxe() {
        let fixture = Fixture::new();
        fixture.file("class/infiniband/rxe0/parent", "enp1s0\n");
        fixture.link("class/net/enp1s0/device", "devices/pci0000:00/0000:00:02.0/0000:01:00.0");
        let tree = fixture.tree();
        assert_eq!(net_device(&tree, "rxe0").as_deref(), Some("enp1s0"));
        assert_eq!(function(&tree, "rxe0"), Some("0000:01:00.0".parse().unwrap()));
        assert_eq!(driver(&tree, "rxe0").as_deref(), Some("rxe"));
    }

    #[test]
    fn finds_the_function_above_virtio() {
        let fixture = Fixture::new();
        fixture.file("class/infiniband/rxe0/parent", "eth0\n");
        fixture.link("class/net/eth0/device", "devices/pci0000:00/0000:00:03.0/virtio0");
        assert_eq!(function(&fixture.tree(), "rxe0"), Some("0000:00:03.0".parse().unwrap()));
    }

    #[test]
    fn virtual_network_device_has_no_function() {
        let fixture = Fixture::new();
        fixture.file("class/infiniband/rxe0/parent", "veth0\n").file("class/net/veth0/operstate", "up\n");
        let tree = fixture.tree();
        assert_eq!(function(&tree, "rxe0"), None);
        assert_eq!(function(&tree, "no-such-device"), None);
        assert_eq!(driver(&tree, "no-such-device"), None);
    }

    #[test]
    fn recognizes_siw_by_its_node_type() {
        let fixture = Fixture::new();
        fixture.file("class/infiniband/siw0/node_type", "4: RNIC\n");
        fixture.file("class/infiniband/siw0/ports/1/gid_attrs/ndevs/0", "eth1\n");
        assert_eq!(driver(&fixture.tree(), "siw0").as_deref(), Some("siw"));
        assert_eq!(net_device(&fixture.tree(), "siw0").as_deref(), Some("eth1"));
    }

    #[test]
    fn prefers_roce_v2_and_then_ipv4() {
        let fixture = Fixture::new();
        let best = || best_gid(&fixture.tree(), "rxe0", 1);
        assert_eq!(best(), None);
        fixture.gid(7, "RoCE v2\n", "0000:0000:0000:0000:0000:0000:0000:0000\n");
        assert_eq!(best(), None);
        fixture.gid(0, "IB/RoCE v1\n", "0000:0000:0000:0000:0000:ffff:0a00:0001\n");
        assert_eq!(best().map(|gid| gid.index), Some(0));
        fixture.gid(1, "RoCE v2\n", "fe80:0000:0000:0000:5054:00ff:fe12:3456\n");
        assert_eq!(best().map(|gid| gid.index), Some(1));
        fixture.gid(8, "RoCE v2\n", "fe80:0000:0000:0000:0000:0000:0000:0077\n");
        assert_eq!(best().map(|gid| gid.index), Some(8));
        fixture.gid(2, "RoCE v2\n", "2001:0db8:0000:0000:0000:0000:0000:0001\n");
        assert_eq!(best().map(|gid| gid.index), Some(2));
        fixture.gid(3, "RoCE v2\n", "0000:0000:0000:0000:0000:ffff:0a00:0001\n");
        fixture.gid(4, "RoCE v2\n", "0000:0000:0000:0000:0000:ffff:0a00:0002\n");
        let gid = best().unwrap();
        assert_eq!((gid.index, &gid.bytes[10..]), (3, &[0xff, 0xff, 10, 0, 0, 1][..]));
    }

    #[test]
    fn reads_translation_from_the_iommu_group() {
        let fixture = Fixture::new();
        let function: Bdf = "0000:01:00.0".parse().unwrap();
        assert_eq!(translated(&fixture.tree(), function), None);
        fixture.file("bus/pci/devices/0000:01:00.0/iommu_group/type", "DMA-FQ\n");
        assert_eq!(translated(&fixture.tree(), function), Some(true));
        fixture.file("bus/pci/devices/0000:01:00.0/iommu_group/type", "identity\n");
        assert_eq!(translated(&fixture.tree(), function), Some(false));
    }
}
