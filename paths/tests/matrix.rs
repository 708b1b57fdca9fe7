//! Localities and matrices of random hosts agree with predictions of single pairs and with a second implementation.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use peerpath_paths::{Bdf, EndpointKind, Inventory, Locality, PathMatrix, PortType, Request, Tree};
use proptest::prelude::*;
use support::{EPYC, INTEL, Kind, Machine, bdf};

/// A step that adds functions to a host.
#[derive(Debug, Clone)]
enum Step {
    RootPort {
        root: usize,
        acs: Option<u16>,
    },
    /// A switch with two downstream ports below a port.
    Switch {
        below: usize,
        acs: [Option<u16>; 2],
    },
    Endpoint {
        below: usize,
        group: u32,
        mask: u8,
        driver: &'static str,
        has_bar: bool,
    },
}

/// Bus and NUMA node of each root bus.
const ROOTS: [(u8, i32); 4] = [(0x00, 0), (0x40, 0), (0x80, 1), (0xc0, -1)];

fn step() -> impl Strategy<Value = Step> {
    let acs = || prop::sample::select(&[None, Some(0), Some(0x1d)][..]);
    prop_oneof![
        2 => (0..ROOTS.len(), acs()).prop_map(|(root, acs)| Step::RootPort { root, acs }),
        2 => (any::<usize>(), [acs(), acs()]).prop_map(|(below, acs)| Step::Switch { below, acs }),
        4 => (any::<usize>(), 0_u32..4, prop::sample::select(&[32_u8, 64][..]),
              prop::sample::select(&["vfio-pci", "mlx5_core", "nvme"][..]), any::<bool>())
            .prop_map(|(below, group, mask, driver, has_bar)| Step::Endpoint { below, group, mask, driver, has_bar }),
    ]
}

/// Builds a host. Every port has its own bus, and the endpoints below a port are functions of one device.
fn build(cpu: &str, steps: &[Step]) -> Machine {
    let mut machine = Machine::new(cpu);
    // Address, bus below, NUMA node and number of functions of each port.
    let mut ports: Vec<(String, u8, i32, u8)> = Vec::new();
    let mut devices = [1_u8; ROOTS.len()];
    // Buses between those of the roots.
    let mut buses = (1..=255_u8).filter(|bus| bus % 0x40 != 0);
    for step in steps {
        match *step {
            Step::RootPort { root, acs } => {
                let (bus, numa) = ROOTS[root];
                let address = format!("0000:{bus:02x}:{:02x}.0", devices[root]);
                let Some(below) = buses.next().filter(|_| devices[root] < 31) else { continue };
                devices[root] += 1;
                machine = machine.add(&address, None, Kind::RootPort, |port| with(port.numa_node(numa), acs));
                ports.push((address, below, numa, 0));
            }
            Step::Switch { below, acs } => {
                if ports.is_empty() || machine.len() > 60 {
                    continue;
                }
                let at = below % ports.len();
                let (above, bus, numa, used) = ports[at].clone();
                // A port that has endpoints gets no switch.
                let (Some(inner), Some(first), Some(second)) = (buses.next(), buses.next(), buses.next()) else {
                    continue;
                };
                if used > 0 {
                    continue;
                }
                ports[at].3 = 8;
                let upstream = format!("0000:{bus:02x}:00.0");
                machine = machine.add(&upstream, Some(&above), Kind::Upstream, |port| port.numa_node(numa));
                for (device, (below, acs)) in [(first, acs[0]), (second, acs[1])].into_iter().enumerate() {
                    let address = format!("0000:{inner:02x}:{device:02x}.0");
                    machine = machine
                        .add(&address, Some(&upstream), Kind::Downstream, |port| with(port.numa_node(numa), acs));
                    ports.push((address, below, numa, 0));
                }
            }
            Step::Endpoint { below, group, mask, driver, has_bar } => {
                if ports.is_empty() {
                    continue;
                }
                let at = below % ports.len();
                let (above, bus, numa, used) = ports[at].clone();
                if used >= 8 {
                    continue;
                }
                ports[at].3 += 1;
                let address = format!("0000:{bus:02x}:00.{used}");
                machine = machine.add(&address, Some(&above), Kind::Endpoint, |function| {
                    let function = function.numa_node(numa).group(group).mask(mask).driver(driver);
                    if has_bar { function } else { function.no_bar() }
                });
            }
        }
    }
    machine.group_type(0, "DMA", "").group_type(1, "identity", "").group_type(2, "DMA-FQ", "").group_type(3, "auto", "")
}

fn with(port: support::Function, acs: Option<u16>) -> support::Function {
    match acs {
        Some(control) => port.acs(control),
        None => port,
    }
}

/// The locality, from the lists of bridges above each of the two functions.
fn expected(inventory: &Inventory, from: Bdf, to: Bdf) -> Option<Locality> {
    let topology = &inventory.topology;
    let (up, down) = (topology.bridges_above(from), topology.bridges_above(to));
    let port_type = |bdf: Bdf| topology.function(bdf).and_then(|port| port.pcie.present()).map(|pcie| pcie.port_type);
    // Replace a downstream port by the upstream port of its switch, so that a switch counts once.
    let switch = |bdf: Bdf| match port_type(bdf) {
        Some(PortType::SwitchDownstream) => topology.bridges_above(bdf)[0],
        _ => bdf,
    };
    if let Some(common) = up.iter().find(|bridge| down.contains(bridge)) {
        let below =
            |bridges: &[Bdf]| -> Vec<Bdf> { bridges.iter().take_while(|bridge| *bridge != common).copied().collect() };
        let between: BTreeSet<Bdf> = below(&up).into_iter().chain(below(&down)).chain([*common]).map(switch).collect();
        return Some(if between.len() <= 1 { Locality::Pix } else { Locality::Pxb });
    }
    if topology.root_above(from) == topology.root_above(to) {
        return Some(Locality::Phb);
    }
    let node = |bdf| topology.function(bdf).and_then(|function| function.numa_node);
    Some(if node(from)? == node(to)? { Locality::Node } else { Locality::Sys })
}

/// The entry of a matrix for two functions.
fn cell(matrix: &PathMatrix, from: Bdf, to: Bdf) -> Option<peerpath_paths::MatrixCell> {
    let group = |bdf| matrix.function_groups().iter().position(|group| group.functions.contains(&bdf)).unwrap();
    matrix.cell(group(from), group(to))
}

proptest! {
    #[test]
    fn localities_agree_with_the_bridges_between(steps in prop::collection::vec(step(), 0..40)) {
        let inventory = build(EPYC, &steps).inventory();
        let predictor = inventory.predictor(Request::default());
        let functions: Vec<Bdf> = predictor.importers().collect();
        for from in &functions {
            for to in &functions {
                let found = predictor.locality(*from, *to);
                prop_assert_eq!(found, predictor.locality(*to, *from), "{} {}", from, to);
                let expected = if from == to { None } else { expected(&inventory, *from, *to) };
                prop_assert_eq!(found, expected, "{} {}", from, to);
            }
        }
    }

    #[test]
    fn matrices_agree_with_single_predictions(steps in prop::collection::vec(step(), 0..40), amd: bool) {
        let inventory = build(if amd { EPYC } else { INTEL }, &steps).inventory();
        let predictor = inventory.predictor(Request::default());
        let functions: Vec<Bdf> = predictor.importers().collect();
        let exporters: Vec<Bdf> = predictor.exporters().collect();
        let matrix = predictor.matrix(&functions, usize::MAX);
        let merged = matrix.clone().merged();
        prop_assert!(merged.function_groups().len() <= matrix.function_groups().len());
        let mut counts = BTreeMap::new();
        for from in &exporters {
            for to in functions.iter().filter(|to| *to != from) {
                let report = predictor.explain(*from, *to).unwrap();
                *counts.entry((report.predicted, report.cause)).or_default() += 1_u64;
                for matrix in [&matrix, &merged] {
                    let cell = cell(matrix, *from, *to).expect("a pair of different functions has a cell");
                    prop_assert_eq!(
                        (cell.path, cell.cause, cell.locality),
                        (report.predicted, report.cause, report.locality),
                        "{} {}", from, to
                    );
                }
            }
        }
        prop_assert_eq!(matrix.reasons().iter().map(|reason| reason.pairs).sum::<u64>(), counts.values().sum::<u64>());
        prop_assert_eq!(predictor.count_paths(&exporters, &functions), counts);
    }
}

#[test]
fn the_ports_of_one_switch_are_one_bridge() {
    let machine = Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, |port| port)
        .add("0000:02:00.0", Some("0000:01:00.0"), Kind::Downstream, |port| port)
        .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, |port| port)
        .endpoint("0000:03:00.0", "0000:02:00.0")
        .endpoint("0000:03:00.1", "0000:02:00.0")
        .endpoint("0000:04:00.0", "0000:02:01.0")
        .add("0000:00:02.0", None, Kind::RootPort, |port| port)
        .endpoint("0000:09:00.0", "0000:00:02.0");
    let found = |inventory: &Inventory| {
        let locality = |to| inventory.predictor(Request::default()).locality(bdf("0000:03:00.0"), bdf(to));
        ["0000:03:00.1", "0000:04:00.0", "0000:09:00.0", "0000:03:00.0"].map(locality)
    };
    let expected = [Some(Locality::Pix), Some(Locality::Pix), Some(Locality::Phb), None];
    assert_eq!(found(&machine.inventory()), expected);
    // Without privilege, the port types are not readable.
    let short = |port: support::Function| port.config_bytes(64);
    assert_eq!(found(&machine.each(short).inventory()), expected);
}

#[test]
fn a_switch_inside_an_accelerator_counts_as_a_bridge() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hosts/07-turin-mi325x-bnxt/host.tar.gz");
    let inventory = Inventory::read(&Tree::open(file.as_ref()).unwrap());
    let predictor = inventory.predictor(Request::default());
    let locality = |to| predictor.locality(bdf("0000:05:00.0"), bdf(to));
    let found = ["0000:06:00.0", "0000:16:00.0", "0000:c1:00.0"].map(locality);
    assert_eq!(found, [Some(Locality::Pxb), Some(Locality::Node), Some(Locality::Sys)]);
}

#[test]
fn finds_the_kinds_of_endpoints() {
    let machine = Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Endpoint, |gpu| gpu.class(0x03_0200).driver("nvidia"))
        .add("0000:01:00.1", Some("0000:00:01.0"), Kind::Endpoint, |nic| {
            nic.class(0x02_0000).driver("e1000e").device("infiniband", "rxe0")
        })
        .add("0000:01:00.2", Some("0000:00:01.0"), Kind::Endpoint, |nic| nic.class(0x02_0000).driver("mlx5_core"))
        .add("0000:01:00.3", Some("0000:00:01.0"), Kind::Endpoint, |drive| drive.class(0x01_0802).no_driver())
        .add("0000:01:00.4", Some("0000:00:01.0"), Kind::Endpoint, |gpu| gpu.class(0x03_0200).driver("vfio-pci"))
        .add("0000:01:00.5", Some("0000:00:01.0"), Kind::Endpoint, |usb| usb.class(0x0c_0330).driver("xhci_hcd"))
        .add("0000:01:00.6", Some("0000:00:01.0"), Kind::Endpoint, |bmc| {
            bmc.class(0x03_0000).ids((0x1a03, 0x2000)).driver("ast")
        })
        .add("0000:01:00.7", Some("0000:00:01.0"), Kind::Endpoint, |nic| nic.class(0x02_0000).driver("e1000e"));
    let inventory = machine.inventory();
    let kind = |function: u8| {
        inventory
            .topology
            .function(Bdf::new(0, 1, 0, function).unwrap())
            .and_then(peerpath_paths::Function::endpoint_kind)
    };
    let found: Vec<_> = (0..8).map(kind).collect();
    let (gpu, rdma, nvme, vfio) = (EndpointKind::Gpu, EndpointKind::Rdma, EndpointKind::Nvme, EndpointKind::Vfio);
    assert_eq!(found, [Some(gpu), Some(rdma), Some(rdma), Some(nvme), Some(vfio), None, None, None]);
    assert_eq!(inventory.topology.function(bdf("0000:00:01.0")).unwrap().endpoint_kind(), None);
}
