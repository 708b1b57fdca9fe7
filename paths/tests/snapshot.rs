//! A snapshot gives the same results on another host, and omits what identifies the host.

mod support;

use std::path::Path;

use peerpath_paths::{HostFacts, Inbound, Inventory, Limits, PathReport, Request, Tree, write_snapshot};
use support::{EPYC, Kind, Machine};

fn again(tree: &Tree) -> Tree {
    let bytes = write_snapshot(tree, &HostFacts::read(tree), Vec::new()).unwrap();
    Tree::from_archive(&bytes[..], &Limits::default()).unwrap()
}

fn reports(inventory: &Inventory) -> Vec<PathReport> {
    inventory.reports(None, None, Request::default()).collect()
}

#[test]
fn a_snapshot_of_a_snapshot_gives_the_same_results() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/truth");
    let mut compared = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "gz") {
            continue;
        }
        let tree = Tree::open(&path).unwrap();
        let (before, after) = (Inventory::read(&tree), Inventory::read(&again(&tree)));
        assert_eq!(reports(&before), reports(&after), "{}", path.display());
        assert_eq!(before.list(), after.list());
        compared += 1;
    }
    assert_eq!(compared, 8);
}

#[test]
fn contains_the_inbound_ranges_of_host_bridges() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernel-cases/dma-ranges-7.3.tar.gz");
    let tree = Tree::open(&path).unwrap();
    let inbound = |tree: &Tree| {
        let topology = Inventory::read(tree).topology;
        topology.roots().iter().map(|root| root.inbound.clone()).collect::<Vec<_>>()
    };
    assert!(inbound(&tree).iter().any(|inbound| matches!(inbound, Inbound::Ranges(_))), "{:?}", inbound(&tree));
    assert_eq!(inbound(&tree), inbound(&again(&tree)));
}

#[test]
fn contains_soft_rdma_and_guest_marks() {
    let machine = Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Endpoint, |nic| nic.device("net", "enp1s0"))
        .file("sys/class/infiniband/rxe0/parent", "enp1s0\n")
        .file("sys/class/misc/sev-guest", "");
    let tree = machine.command_line("intel_iommu=on").tree();
    let (before, after) = (Inventory::read(&tree), Inventory::read(&again(&tree)));
    assert_eq!(before.host, after.host);
    assert_eq!(before.list(), after.list());
    assert!(after.host.confidential_guest.is_some());
    assert_eq!(after.list()[0].devices, ["verbs:rxe0", "net:enp1s0"]);
}

#[test]
fn omits_network_addresses_and_serial_numbers() {
    let machine = Machine::new(&format!("{EPYC}Serial\t\t: 00000000c0ffee\nmicrocode\t: 0x1\n"))
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .endpoint("0000:01:00.0", "0000:00:01.0")
        .command_line(
            "root=UUID=c0ffee ip=192.0.2.7 intel_iommu=on iommu=pt note=\"a iommu=c0ffee\" netconsole=@192.0.2.7/",
        )
        .file("proc/version", "Linux version 7.2.12 (c0ffee@build) #1 SMP\n")
        .file(
            "proc/iomem",
            "00001000-0009fbff : System RAM\n40000000-afffffff : PCI Bus 0000:00\n  0a200000-0b4ca85f : Kernel code\n",
        )
        .file("sys/class/infiniband/rxe0/node_guid", "0200:00ff:fec0:ffee\n")
        .file("sys/class/net/eth0/address", "02:00:00:c0:ff:ee\n");
    let tree = again(&machine.tree());
    let everything: String =
        ["proc/cpuinfo", "proc/cmdline", "proc/version", "proc/iomem", "sys/class/infiniband/rxe0/node_guid"]
            .iter()
            .filter_map(|path| tree.text(path))
            .collect();
    for forbidden in ["c0ffee", "192.0.2.7", "microcode", "Kernel code", "System RAM", "ffee"] {
        assert!(!everything.contains(forbidden), "{forbidden} in {everything}");
    }
    assert_eq!(tree.text("proc/cmdline").as_deref(), Some("intel_iommu=on iommu=pt"));
    assert_eq!(tree.text("proc/iomem").as_deref(), Some("40000000-afffffff : PCI Bus 0000:00"));
    assert_eq!(tree.text("sys/class/net/eth0/address"), None);
}

#[test]
fn takes_and_reads_a_snapshot_of_the_running_host() {
    let tree = Tree::live();
    let (here, there) = (Inventory::read(&tree), Inventory::read(&again(&tree)));
    assert_eq!(here.topology.functions().len(), there.topology.functions().len());
    assert_eq!(here.host.kernel, there.host.kernel);
    assert_eq!(reports(&here), reports(&there));
}
