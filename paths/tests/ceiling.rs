//! The ceilings of paths: which links count, which packet sizes apply, and which paths have no ceiling.

mod support;

use std::time::Duration;

use peerpath_paths::ceiling::{
    Assumption, Ceiling, CeilingReport, Engine, Hop, Limit, LinkSettings, NoCeiling, Op, PathHops, Port, Traffic,
    Transfer, Wire,
};
use peerpath_paths::{HostFacts, Inventory, Limits, PathName, Request, Tree, is_soft_rdma, write_snapshot};
use support::{EPYC, Kind, Machine, bdf};

const WRITE: Transfer =
    Transfer { op: Op::Write, traffic: Traffic::OneWay, engine: Engine::Hardware, round_trip: None };
const READ: Transfer = Transfer { op: Op::Read, ..WRITE };

/// Device Control with sizes in bytes.
fn sizes(payload: u16, read_request: u16) -> u16 {
    let encoded = |bytes: u16| (bytes / 128).ilog2() as u16;
    encoded(payload) << 5 | encoded(read_request) << 12
}

const EXPORTER: &str = "0000:03:00.0";
const IMPORTER: &str = "0000:04:00.0";

/// Two endpoints below a switch: the exporter with 16 GT/s x8, the importer with 8 GT/s x16, the switch with 16 GT/s x4.
fn switch(acs: u16) -> Machine {
    let port = |link: (u8, u8)| move |port: support::Function| port.link([link; 2]).device_control(sizes(512, 512));
    Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |function| port((4, 4))(function).device_control(sizes(128, 512)))
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, port((4, 4)))
        .add("0000:02:00.0", Some("0000:01:00.0"), Kind::Downstream, |function| port((4, 8))(function).acs(acs))
        .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, |function| port((3, 16))(function).acs(acs))
        .add(EXPORTER, Some("0000:02:00.0"), Kind::Endpoint, |function| {
            function.link([(4, 8); 2]).device_control(sizes(256, 512))
        })
        .add(IMPORTER, Some("0000:02:01.0"), Kind::Endpoint, |function| {
            function.link([(3, 16); 2]).device_control(sizes(512, 1024))
        })
}

fn hops(machine: &Machine, from: &str, to: &str) -> (PathName, PathHops) {
    let inventory = machine.inventory();
    let report = inventory.predictor(Request::default()).explain(bdf(from), bdf(to)).unwrap();
    (report.predicted, PathHops::read(&inventory.topology, &report))
}

#[track_caller]
fn known(limit: Limit) -> Ceiling {
    match limit {
        Limit::Known(ceiling) => ceiling,
        other => panic!("{other:?}"),
    }
}

/// Lower end, write payload, completion payload and width of addresses of each link.
fn links(hops: &PathHops) -> Vec<(String, u16, u16, bool)> {
    let link = |hop: &Hop| match hop {
        Hop::Link { lower, settings, .. } => {
            let LinkSettings { write_payload_bytes: write, completion_payload_bytes: completion, .. } = *settings;
            (lower.to_string(), write, completion, settings.wide_addresses)
        }
        other => panic!("{other}"),
    };
    hops.hops().map(link).collect()
}

#[test]
fn a_path_below_a_switch_passes_two_links() {
    let (path, hops) = hops(&switch(0), EXPORTER, IMPORTER);
    assert_eq!(path, PathName::BusAddress);
    assert_eq!(links(&hops), [(EXPORTER.into(), 512, 256, true), (IMPORTER.into(), 512, 256, true)]);
    // Both links have the same raw rate, so the first one is named.
    let write = known(hops.ceiling(&WRITE));
    assert!(
        write.limited_by.to_string().starts_with("link 0000:02:00.0 - 0000:03:00.0 (16 GT/s x8, MPS 512 for writes")
    );
    let raw = 128.0 / 130.0 * 16e9;
    assert_eq!(write.bytes_per_s, (raw * (1.0 - 1.0 / 376.0) * 512.0 / 536.0) as u64);
    let read = known(hops.ceiling(&READ));
    assert_eq!(read.bytes_per_s, (raw * (1.0 - 1.0 / 376.0) * 256.0 / 276.0) as u64);
    assert!(
        read.assumptions.contains(&Assumption::EnoughReads) && !write.assumptions.contains(&Assumption::EnoughReads)
    );
}

#[test]
fn a_redirected_path_passes_the_link_of_the_switch_twice() {
    let (path, hops) = hops(&switch(0x1d), EXPORTER, IMPORTER);
    assert_eq!(path, PathName::HostBridgeTranslated);
    // The root port splits what it sends to its own payload size. The I/O virtual address is unknown.
    let expected = [
        (EXPORTER.to_owned(), 128, 256, true),
        ("0000:01:00.0".to_owned(), 128, 256, true),
        ("0000:01:00.0".to_owned(), 512, 128, false),
        (IMPORTER.to_owned(), 512, 128, false),
    ];
    assert_eq!(links(&hops), expected);
    let write = known(hops.ceiling(&WRITE));
    assert!(write.limited_by.to_string().contains("0000:00:01.0 - 0000:01:00.0 (16 GT/s x4"), "{}", write.limited_by);
    assert!(write.assumptions.contains(&Assumption::NarrowAddresses));
}

#[test]
fn emulated_devices_and_soft_rdma_have_no_ceiling() {
    let (_, hops) = hops(&switch(0), EXPORTER, IMPORTER);
    for (engine, reason) in [(Engine::Emulated, NoCeiling::Emulated), (Engine::SoftRdma, NoCeiling::SoftRdma)] {
        assert_eq!(hops.ceiling(&Transfer { engine, ..WRITE }), Limit::None(reason));
        let json = serde_json::to_value(CeilingReport::of(&hops, None, engine)).unwrap();
        assert_eq!(json["write"]["no_ceiling"], reason.as_str());
        assert_eq!((&json["write"]["bytes_per_s"], &json["hops"]), (&serde_json::Value::Null, &serde_json::json!([])));
    }
}

#[test]
fn functions_of_one_device_and_refused_pairs_have_no_ceiling() {
    let machine = switch(0).add("0000:03:00.1", Some("0000:02:00.0"), Kind::Endpoint, |function| function);
    let (_, within) = hops(&machine, EXPORTER, "0000:03:00.1");
    assert_eq!(within.ceiling(&WRITE), Limit::None(NoCeiling::InsideDevice));
    let refused = Machine::new("vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n")
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add("0000:00:02.0", None, Kind::RootPort, |port| port)
        .endpoint("0000:01:00.0", "0000:00:01.0")
        .endpoint("0000:02:00.0", "0000:00:02.0");
    let (path, refused) = hops(&refused, "0000:01:00.0", "0000:02:00.0");
    assert_eq!((path, refused.ceiling(&WRITE)), (PathName::Refused, Limit::None(NoCeiling::Refused)));
    let integrated = Machine::new(EPYC).add("0000:00:03.0", None, Kind::Endpoint, |function| function).add(
        "0000:00:04.0",
        None,
        Kind::Endpoint,
        |function| function,
    );
    let (_, integrated) = hops(&integrated, "0000:00:03.0", "0000:00:04.0");
    assert_eq!(integrated.ceiling(&WRITE), Limit::None(NoCeiling::NoLink));
}

#[test]
fn names_what_is_not_readable() {
    let (_, unreadable) = hops(&switch(0).each(|function| function.config_bytes(64)), EXPORTER, IMPORTER);
    let Limit::Unknown(missing) = unreadable.ceiling(&WRITE) else { panic!("{unreadable:?}") };
    assert_eq!(missing, ["the predicted path"]);
    let (_, without_link) = hops(&switch(0).each(|function| function.link([(0, 0); 2])), EXPORTER, IMPORTER);
    let Limit::Unknown(missing) = without_link.ceiling(&READ) else { panic!("{without_link:?}") };
    assert_eq!(missing, ["the link status of 0000:03:00.0", "the link status of 0000:04:00.0"]);
    let (_, future) = hops(&switch(0).each(|function| function.link([(9, 16); 2])), EXPORTER, IMPORTER);
    let Limit::Unknown(missing) = future.ceiling(&READ) else { panic!("{future:?}") };
    assert!(missing[0].starts_with("the speed of the link 0000:02:00.0"), "{missing:?}");
}

#[test]
fn the_physical_function_counts_for_a_virtual_function() {
    let machine = switch(0)
        .add("0000:04:00.1", Some("0000:02:01.0"), Kind::Endpoint, |function| function.virtual_function_of(IMPORTER));
    let ceiling = |to: &str| known(hops(&machine, EXPORTER, to).1.ceiling(&READ)).bytes_per_s;
    assert_eq!(ceiling("0000:04:00.1"), ceiling(IMPORTER));
}

#[test]
fn the_number_of_tags_limits_reads_if_the_round_trip_is_known() {
    let (_, hops) = hops(&switch(0), EXPORTER, IMPORTER);
    let within = |ns| known(hops.ceiling(&Transfer { round_trip: Some(Duration::from_nanos(ns)), ..READ }));
    // 32 tags, because extended tags are off, and an MRRS of 1024 bytes.
    let slow = within(10_000);
    assert_eq!(slow.bytes_per_s, 3_276_800_000);
    assert_eq!(slow.limited_by.to_string(), "reads of 0000:04:00.0 (32 tags, MRRS 1024, 10000 ns each)");
    assert!(!slow.assumptions.contains(&Assumption::EnoughReads));
    assert!(matches!(within(100).limited_by, Hop::Link { .. }));
    assert!(matches!(
        known(hops.ceiling(&Transfer { round_trip: Some(Duration::MAX), ..WRITE })).limited_by,
        Hop::Link { .. }
    ));
}

/// RDMA device mlx5_9 with an active port 2 of 100 Gb/s on an interface with an MTU of 1500 bytes.
fn with_port(machine: Machine) -> Machine {
    let port = "sys/class/infiniband/mlx5_9/ports/2";
    machine
        .add("0000:05:00.0", Some("0000:02:01.0"), Kind::Endpoint, |nic| nic.device("net", "enp5s0"))
        .file("sys/class/infiniband/mlx5_9/node_type", "1: CA\n")
        .file(&format!("{port}/rate"), "100 Gb/sec (4X EDR)\n")
        .file(&format!("{port}/link_layer"), "Ethernet\n")
        .file(&format!("{port}/state"), "4: ACTIVE\n")
        .file(&format!("{port}/gid_attrs/ndevs/0"), "enp5s0\n")
        .file("sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:05:00.0/net/enp5s0/mtu", "1500\n")
}

#[test]
fn the_port_limits_transfers_between_hosts() {
    let machine = with_port(switch(0));
    let port = Port::read(&machine.tree(), "mlx5_9", 2, None).unwrap();
    assert_eq!((port.wire, port.bits_per_s, port.path_mtu_bytes), (Wire::Roce, 100_000_000_000, 1024));
    let (_, hops) = hops(&machine, EXPORTER, IMPORTER);
    let ceiling = known(hops.across(port).ceiling(&WRITE));
    assert_eq!(ceiling.limited_by.to_string(), "port 2 of mlx5_9 (100 Gb/s, MTU 1024)");
    assert_eq!(ceiling.bytes_per_s, (12.5e9 * 1024.0 / 1106.0) as u64);
    assert!([Assumption::RoceV2, Assumption::LargestPathMtu].iter().all(|one| ceiling.assumptions.contains(one)));
}

#[test]
fn names_what_is_not_known_of_a_port() {
    let of = |path: &str, text: &str| with_port(switch(0)).file(path, text).tree();
    let tree = of("sys/class/infiniband/mlx5_1/ports/1/rate", "100 Gb/sec (4X EDR)");
    let error = |tree: &Tree, device, port| Port::read(tree, device, port, None).unwrap_err();
    assert_eq!(error(&tree, "../net", 1), "the name of the RDMA device");
    assert_eq!(error(&tree, "mlx5_1", 1), "the link layer of port 1 of mlx5_1");
    let tree = of("sys/class/infiniband/mlx5_9/ports/1/state", "1: DOWN");
    assert_eq!(error(&tree, "mlx5_9", 1), "the rate of port 1 of mlx5_9, which is not active");
    let tree = of("sys/class/infiniband/irdma0/node_type", "4: RNIC");
    assert_eq!(error(&tree, "irdma0", 1), "the overhead of iWARP on irdma0");
    assert_eq!(Port::read(&with_port(switch(0)).tree(), "mlx5_9", 2, Some(2048)).unwrap().path_mtu_bytes, 2048);
}

#[test]
fn a_snapshot_contains_the_facts_of_a_port() {
    let tree = with_port(switch(0)).tree();
    let snapshot = write_snapshot(&tree, &HostFacts::read(&tree), Vec::new()).unwrap();
    let again = Tree::from_archive(&snapshot[..], &Limits::default()).unwrap();
    assert_eq!(Port::read(&again, "mlx5_9", 2, None), Port::read(&tree, "mlx5_9", 2, None));
    assert_eq!(again.text("sys/class/infiniband/mlx5_9/node_type").as_deref(), Some("1: CA"));
}

#[test]
fn recognizes_soft_rdma() {
    let tree = switch(0)
        .add("0000:05:00.0", Some("0000:02:01.0"), Kind::Endpoint, |function| function.device("infiniband", "mlx5_0"))
        .file("sys/class/infiniband/rxe0/parent", "eth0\n")
        .tree();
    let answers = ["mlx5_0", "rxe0", "mlx5_1", "../infiniband/rxe0", ""].map(|name| is_soft_rdma(&tree, name));
    assert_eq!(answers, [Some(false), Some(true), None, None, None]);
}

#[test]
fn the_link_inside_a_gpu_does_not_count() {
    // As Intel Arc reports it: 2.5 GT/s x1 below the switch on the card.
    let card = |vendor: u16| {
        let machine = Machine::new(EPYC).add("0000:00:01.0", None, Kind::RootPort, |port| port.link([(4, 8), (5, 16)]));
        let machine = machine
            .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, |port| {
                port.ids((vendor, 0xe2ff)).link([(4, 8), (5, 8)])
            })
            .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, |port| {
                port.ids((vendor, 0xe2f0)).link([(4, 16); 2])
            })
            .add("0000:03:00.0", Some("0000:02:01.0"), Kind::Endpoint, |gpu| {
                gpu.ids((vendor, 0xe223)).class(0x03_0000).link([(1, 1); 2])
            })
            .add("0000:00:02.0", None, Kind::RootPort, |port| port.link([(5, 16); 2]))
            .add("0000:04:00.0", Some("0000:00:02.0"), Kind::Endpoint, |nic| nic.link([(5, 16); 2]));
        known(hops(&machine, "0000:03:00.0", "0000:04:00.0").1.ceiling(&WRITE))
    };
    let intel = card(0x8086);
    assert!(intel.limited_by.to_string().contains("0000:00:01.0 - 0000:01:00.0 (16 GT/s x8"), "{}", intel.limited_by);
    // The slot supports 32 GT/s, so the current speed may be that of an idle GPU.
    for assumption in [Assumption::InternalLinks, Assumption::CurrentSpeed] {
        assert!(intel.assumptions.contains(&assumption), "{:?}", intel.assumptions);
    }
    let other = card(0x10b5);
    assert!(other.limited_by.to_string().contains("2.5 GT/s x1"), "{}", other.limited_by);
}

#[test]
fn every_pair_of_every_host_has_an_answer() {
    let hosts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hosts");
    let (mut known, mut unknown, mut none) = (0, 0, 0);
    for host in std::fs::read_dir(hosts).unwrap().filter_map(|entry| std::fs::read_dir(entry.unwrap().path()).ok()) {
        for path in
            host.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "gz"))
        {
            let inventory = Inventory::read(&Tree::open(&path).unwrap());
            for report in inventory.reports(None, None, Request::default()) {
                let hops = PathHops::read(&inventory.topology, &report);
                match hops.ceiling(&WRITE) {
                    Limit::Known(ceiling) => {
                        let rates = hops.hops().map(|hop| hop.bytes_per_s(Op::Write, Traffic::OneWay).unwrap());
                        assert_eq!(rates.min(), Some(ceiling.bytes_per_s));
                        assert!((100_000_000..130_000_000_000).contains(&ceiling.bytes_per_s), "{ceiling:?}");
                        known += 1;
                    }
                    Limit::Unknown(missing) => {
                        assert!(!missing.is_empty());
                        unknown += 1;
                    }
                    Limit::None(reason) => {
                        assert_eq!(reason == NoCeiling::Refused, report.predicted == PathName::Refused);
                        none += 1;
                    }
                }
            }
        }
    }
    eprintln!("{known} known, {unknown} unknown, {none} without a ceiling");
    assert!(known > 500 && unknown > 0 && none > 0, "{known} {unknown} {none}");
}
