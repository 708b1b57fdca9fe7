//! Predictions for constructed hosts.

mod support;

use peerpath_paths::{Cause, PathName, Request};

use support::{EPYC, INTEL, Kind, Machine, bdf};

/// Two root ports with one endpoint each: `0000:01:00.0` and `0000:02:00.0`.
fn two_root_ports(cpuinfo: &str, first: (u16, u16)) -> Machine {
    Machine::new(cpuinfo)
        .add("0000:00:00.0", None, Kind::Conventional, |bridge| bridge.ids(first))
        .add("0000:00:01.0", None, Kind::RootPort, |port| port.acs(0x1d))
        .add("0000:00:02.0", None, Kind::RootPort, |port| port.acs(0x1d))
        .endpoint("0000:01:00.0", "0000:00:01.0")
        .add("0000:02:00.0", Some("0000:00:02.0"), Kind::Endpoint, |nic| {
            nic.driver("mlx5_core").ids((0x15b3, 0x1017)).class(0x02_0000)
        })
}

/// A switch with three ports below a root port: `0000:03:00.0`, `0000:04:00.0`, `0000:05:00.0`.
fn one_switch(cpuinfo: &str, upstream: Option<u16>, downstream: [Option<u16>; 3]) -> Machine {
    let acs = |control: Option<u16>| {
        move |port: support::Function| match control {
            Some(control) => port.acs(control),
            None => port,
        }
    };
    Machine::new(cpuinfo)
        .add("0000:00:00.0", None, Kind::Conventional, |bridge| bridge)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port.acs(0x1d))
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, acs(upstream))
        .add("0000:02:00.0", Some("0000:01:00.0"), Kind::Downstream, acs(downstream[0]))
        .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, acs(downstream[1]))
        .add("0000:02:02.0", Some("0000:01:00.0"), Kind::Downstream, acs(downstream[2]))
        .endpoint("0000:03:00.0", "0000:02:00.0")
        .endpoint("0000:04:00.0", "0000:02:01.0")
        .endpoint("0000:05:00.0", "0000:02:02.0")
}

const UNLISTED: (u16, u16) = (0x8086, 0x29c0);
const LISTED: (u16, u16) = (0x8086, 0x2020);
const SAME_ONLY: (u16, u16) = (0x8086, 0x2f00);

fn path(machine: &Machine, from: &str, to: &str) -> PathName {
    let report = machine.report(from, to);
    assert!(report.unknown.is_empty() || report.predicted == PathName::Unknown, "{report:#?}");
    report.predicted
}

const A: &str = "0000:01:00.0";
const B: &str = "0000:02:00.0";

// ---- ACS

#[test]
fn a_redirect_counts_up_to_and_including_the_common_node() {
    let (a, b) = ("0000:03:00.0", "0000:04:00.0");
    assert_eq!(path(&one_switch(EPYC, None, [None; 3]), a, b), PathName::BusAddress);
    // SV, TB, UF and DT do not redirect.
    assert_eq!(path(&one_switch(EPYC, Some(0x53), [Some(0x53); 3]), a, b), PathName::BusAddress);
    for bit in [0x04, 0x08, 0x20] {
        assert_eq!(path(&one_switch(EPYC, None, [Some(bit), None, None]), a, b), PathName::HostBridgeTranslated);
        assert_eq!(path(&one_switch(EPYC, None, [None, Some(bit), None]), a, b), PathName::HostBridgeTranslated);
        assert_eq!(path(&one_switch(EPYC, None, [None, None, Some(bit)]), a, b), PathName::BusAddress);
        assert_eq!(path(&one_switch(EPYC, Some(bit), [None; 3]), a, b), PathName::HostBridgeTranslated);
    }
}

#[test]
fn the_acs_of_an_endpoint_counts() {
    let machine = |acs| {
        Machine::new(EPYC)
            .add("0000:00:01.0", None, Kind::RootPort, |port| port)
            .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Endpoint, |device| device.acs(acs))
            .endpoint("0000:01:00.1", "0000:00:01.0")
    };
    assert_eq!(path(&machine(0x04), "0000:01:00.0", "0000:01:00.1"), PathName::HostBridgeTranslated);
    assert_eq!(path(&machine(0x04), "0000:01:00.1", "0000:01:00.0"), PathName::HostBridgeTranslated);
    assert_eq!(path(&machine(0x04), "0000:01:00.0", "0000:01:00.0"), PathName::HostBridgeTranslated);
    assert_eq!(path(&machine(0x01), "0000:01:00.0", "0000:01:00.1"), PathName::BusAddress);
    assert_eq!(path(&machine(0x04), "0000:01:00.1", "0000:01:00.1"), PathName::BusAddress);
}

#[test]
fn the_report_names_the_redirecting_bridge_and_the_hops() {
    let report = one_switch(EPYC, None, [None, Some(0x0c), None]).report("0000:03:00.0", "0000:04:00.0");
    assert_eq!(report.deciding.bdf, Some(bdf("0000:02:01.0")));
    assert!(
        report.deciding.fact.starts_with("ACS redirect is set on 0000:02:01.0 (RR CR)"),
        "{}",
        report.deciding.fact
    );
    let hops: Vec<String> = report.hops.iter().map(ToString::to_string).collect();
    assert_eq!(
        hops,
        [
            "0000:03:00.0",
            "0000:02:00.0",
            "0000:01:00.0",
            "0000:00:01.0",
            "0000:01:00.0",
            "0000:02:01.0",
            "0000:04:00.0"
        ]
    );
    assert!(report.would_change[0].contains("disable_acs_redir=0000:02:01.0"), "{:?}", report.would_change);
    let named = one_switch(EPYC, None, [None, Some(0x0c), None]).command_line("pci=disable_acs_redir=0000:02:01.0\n");
    let report = named.report("0000:03:00.0", "0000:04:00.0");
    assert!(report.would_change[0].contains("names them (`peerpath doctor`)"), "{:?}", report.would_change);
    let direct = one_switch(EPYC, None, [None; 3]).report("0000:03:00.0", "0000:04:00.0");
    assert_eq!(direct.hops.len(), 5);
    assert_eq!(direct.deciding.bdf, Some(bdf("0000:01:00.0")));
}

#[test]
fn config_space_of_64_bytes_gives_an_unknown_path() {
    let cut = |padded: bool| {
        let keep = move |function: support::Function| function.config_bytes(64).padded(padded);
        Machine::new(EPYC)
            .add("0000:00:01.0", None, Kind::RootPort, keep)
            .add("0000:00:02.0", None, Kind::RootPort, keep)
            .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Endpoint, keep)
            .add("0000:01:00.1", Some("0000:00:01.0"), Kind::Endpoint, keep)
            .add("0000:02:00.0", Some("0000:00:02.0"), Kind::Endpoint, keep)
    };
    for machine in [cut(false), cut(true)] {
        let report = machine.report("0000:01:00.0", "0000:01:00.1");
        assert_eq!((report.predicted, report.cause), (PathName::Unknown, None));
        assert_eq!(
            report.unknown,
            [
                "ACS of 0000:01:00.0 (only 64 bytes of config space are readable)",
                "ACS of 0000:00:01.0 (only 64 bytes of config space are readable)",
                "ACS of 0000:01:00.1 (only 64 bytes of config space are readable)",
            ]
        );
        // Without a common bridge the kernel does not check ACS.
        let report = machine.report("0000:01:00.0", "0000:02:00.0");
        assert_eq!((report.predicted, report.unknown.is_empty()), (PathName::HostBridgeTranslated, true));
    }
}

#[test]
fn one_readable_redirect_is_sufficient() {
    let machine = Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port.acs(0x04))
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Endpoint, |function| function.config_bytes(64))
        .endpoint("0000:01:00.1", "0000:00:01.0");
    assert_eq!(path(&machine, "0000:01:00.0", "0000:01:00.1"), PathName::HostBridgeTranslated);
}

#[test]
fn acs_is_absent_without_extended_config_space() {
    let short = |function: support::Function| function.acs(0x1d).config_bytes(256);
    let machine = Machine::new(EPYC)
        .command_line("pci=nommconf")
        .add("0000:00:01.0", None, Kind::RootPort, short)
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Endpoint, short)
        .add("0000:01:00.1", Some("0000:00:01.0"), Kind::Endpoint, short);
    assert_eq!(path(&machine, "0000:01:00.0", "0000:01:00.1"), PathName::BusAddress);
}

#[test]
fn ats_adds_a_note_and_keeps_the_prediction() {
    let machine = Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add("0000:00:02.0", None, Kind::RootPort, |port| port)
        .endpoint("0000:01:00.0", "0000:00:01.0")
        .add("0000:02:00.0", Some("0000:00:02.0"), Kind::Endpoint, |function| function.ats(true));
    let report = machine.report("0000:01:00.0", "0000:02:00.0");
    assert_eq!(report.predicted, PathName::HostBridgeTranslated);
    assert!(report.notes.join("\n").contains("take the same path"), "{:?}", report.notes);
}

// ---- position in the tree

#[test]
fn functions_of_one_root_bus_device_have_no_common_node() {
    let machine = |cpuinfo| {
        Machine::new(cpuinfo)
            .add("0000:00:00.0", None, Kind::Conventional, |bridge| bridge)
            .add("0000:00:05.0", None, Kind::Endpoint, |function| function)
            .add("0000:00:05.1", None, Kind::Endpoint, |function| function)
    };
    assert_eq!(path(&machine(EPYC), "0000:00:05.0", "0000:00:05.1"), PathName::HostBridgeTranslated);
    let refused = machine(INTEL).report("0000:00:05.0", "0000:00:05.1");
    assert_eq!((refused.predicted, refused.cause), (PathName::Refused, Some(Cause::Topology)));
    assert_eq!(path(&machine(INTEL), "0000:00:05.0", "0000:00:05.0"), PathName::BusAddress);
}

#[test]
fn a_virtual_function_has_the_position_of_its_physical_function() {
    let machine = Machine::new(INTEL)
        .add("0000:00:00.0", None, Kind::Conventional, |bridge| bridge)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .endpoint("0000:01:00.0", "0000:00:01.0")
        .endpoint("0000:01:00.1", "0000:00:01.0")
        // No bridge has this bus as its secondary bus.
        .add("0000:02:10.0", Some("0000:00:01.0"), Kind::Endpoint, |function| {
            function.virtual_function_of("0000:01:00.0")
        })
        .add("0000:00:07.0", None, Kind::Endpoint, |function| function)
        .add("0000:00:07.2", None, Kind::Endpoint, |function| function.virtual_function_of("0000:00:07.0"));
    assert_eq!(path(&machine, "0000:02:10.0", "0000:01:00.0"), PathName::BusAddress);
    assert_eq!(path(&machine, "0000:01:00.1", "0000:02:10.0"), PathName::BusAddress);
    // On a root bus neither the physical nor the virtual function has a bridge above.
    assert_eq!(path(&machine, "0000:00:07.0", "0000:00:07.2"), PathName::Refused);
}

#[test]
fn a_controller_with_its_own_segment_is_not_a_common_bridge() {
    let machine = Machine::new(INTEL)
        .add("0000:00:00.0", None, Kind::Conventional, |bridge| bridge.ids(LISTED))
        .add("0000:00:0e.0", None, Kind::Endpoint, |controller| controller.driver("vmd"))
        .add("10000:e0:00.0", None, Kind::RootPort, |port| {
            port.host("pci0000:00/0000:00:0e.0".to_owned()).ids((0x8086, 0x2030))
        })
        .add("10000:e0:01.0", None, Kind::RootPort, |port| port.host("pci0000:00/0000:00:0e.0".to_owned()))
        .endpoint("10000:e1:00.0", "10000:e0:00.0")
        .endpoint("10000:e2:00.0", "10000:e0:01.0");
    assert_eq!(path(&machine, "10000:e1:00.0", "0000:00:0e.0"), PathName::HostBridgeTranslated);
    let report = machine.report("10000:e1:00.0", "10000:e2:00.0");
    assert_eq!(report.predicted, PathName::HostBridgeTranslated);
    assert_eq!(report.hops, [bdf("10000:e1:00.0"), bdf("10000:e0:00.0"), bdf("10000:e0:01.0"), bdf("10000:e2:00.0")]);
}

#[test]
fn two_segments_are_two_host_bridges() {
    let segment = |machine: Machine, segment: u32, first: (u16, u16)| {
        let address = |rest: &str| format!("{segment:04x}:{rest}");
        machine
            .add(&address("00:00.0"), None, Kind::Conventional, |bridge| bridge.ids(first))
            .add(&address("00:01.0"), None, Kind::RootPort, |port| port)
            .endpoint(&address("01:00.0"), &address("00:01.0"))
            .endpoint(&address("01:00.1"), &address("00:01.0"))
    };
    let pair = |first, second| segment(segment(Machine::new(INTEL), 0, first), 1, second);
    let (a, b) = ("0000:01:00.0", "0001:01:00.0");
    assert_eq!(path(&pair(LISTED, LISTED), a, b), PathName::HostBridgeTranslated);
    assert_eq!(path(&pair(SAME_ONLY, SAME_ONLY), a, b), PathName::Refused);
    assert_eq!(path(&pair(LISTED, UNLISTED), a, b), PathName::Refused);
    assert_eq!(path(&pair(UNLISTED, LISTED), a, b), PathName::Refused);
    assert_eq!(path(&pair(LISTED, UNLISTED), "0001:01:00.0", "0001:01:00.1"), PathName::BusAddress);
    let report = pair(LISTED, UNLISTED).report(a, b);
    assert_eq!(report.deciding.bdf, Some(bdf("0001:00:00.0")), "{}", report.deciding.fact);
}

#[test]
fn identical_segments_give_an_unknown_path_only_if_the_order_matters() {
    // Both segments have the same devices at the same addresses, so the lines of the list match both.
    let machine = |second: (u16, u16)| {
        let mut machine = Machine::new(INTEL);
        for segment in ["0000", "0001"] {
            let address = |rest: &str| format!("{segment}:{rest}");
            machine = machine
                .add(&address("00:00.0"), None, Kind::Conventional, |bridge| bridge.ids(LISTED))
                .add(&address("00:01.0"), None, Kind::RootPort, |port| port.ids(second))
                .endpoint(&address("01:00.0"), &address("00:01.0"));
        }
        machine
    };
    // 0000:00:00.0 was removed and rescanned. The lines of /proc/bus/pci/devices have no segment, so it could also be 0001:00:00.0.
    let order = ["0000:00:01.0", "0000:01:00.0", "0000:00:00.0", "0001:00:00.0", "0001:00:01.0", "0001:01:00.0"];
    let open = machine((0x1b36, 0x000c)).order(&order).report("0000:01:00.0", "0001:01:00.0");
    assert_eq!(open.predicted, PathName::Unknown, "{open:#?}");
    assert_eq!(
        open.unknown,
        [
            "which device is the first on root bus 0000:00 (/proc/bus/pci/devices)",
            "which device is the first on root bus 0001:00 (/proc/bus/pci/devices)"
        ]
    );
    // The allowlist contains both candidates, so the order does not matter.
    let settled = machine((0x8086, 0x2031)).order(&order).report("0000:01:00.0", "0001:01:00.0");
    assert_eq!((settled.predicted, settled.unknown.is_empty()), (PathName::HostBridgeTranslated, true));
}

// ---- host bridges

#[test]
fn the_first_device_is_the_first_in_the_kernels_order() {
    let machine = two_root_ports(INTEL, LISTED);
    assert_eq!(path(&machine, A, B), PathName::HostBridgeTranslated);
    // Device 00.0 was removed and rescanned, so the first device is a root port that is not in the allowlist.
    let rescanned = machine.order(&["0000:00:01.0", "0000:01:00.0", "0000:00:02.0", "0000:02:00.0", "0000:00:00.0"]);
    let report = rescanned.report(A, B);
    assert_eq!(report.predicted, PathName::Refused);
    assert_eq!(report.deciding.bdf, Some(bdf("0000:00:01.0")), "{}", report.deciding.fact);
}

#[test]
fn a_device_in_the_allowlist_counts_only_as_00_0_or_as_root_port() {
    let machine = |kind, address: &str| {
        Machine::new(INTEL)
            .add(address, None, kind, |first| first.ids((0x8086, 0x2030)).no_bar())
            .add("0000:00:1e.0", None, Kind::Endpoint, |function| function)
            .add("0000:00:1f.0", None, Kind::Endpoint, |function| function)
    };
    let (a, b) = ("0000:00:1e.0", "0000:00:1f.0");
    assert_eq!(path(&machine(Kind::RootPort, "0000:00:03.0"), a, b), PathName::HostBridgeTranslated);
    assert_eq!(path(&machine(Kind::Endpoint, "0000:00:03.0"), a, b), PathName::Refused);
    assert_eq!(path(&machine(Kind::Conventional, "0000:00:00.0"), a, b), PathName::HostBridgeTranslated);
    assert_eq!(path(&machine(Kind::Conventional, "0000:00:00.1"), a, b), PathName::Refused);
}

#[test]
fn an_unreadable_first_root_port_gives_an_unknown_path() {
    let machine = Machine::new(INTEL)
        .add("0000:00:03.0", None, Kind::RootPort, |port| port.ids((0x8086, 0x2030)).config_bytes(64))
        .add("0000:00:1e.0", None, Kind::Endpoint, |function| function)
        .add("0000:00:1f.0", None, Kind::Endpoint, |function| function);
    let report = machine.report("0000:00:1e.0", "0000:00:1f.0");
    assert_eq!(report.predicted, PathName::Unknown);
    assert!(report.unknown[0].contains("0000:00:03.0"), "{:?}", report.unknown);
}

#[test]
fn some_host_bridges_are_trusted_only_for_pairs_below_them() {
    assert_eq!(path(&two_root_ports(INTEL, SAME_ONLY), A, B), PathName::HostBridgeTranslated);
    let machine = two_root_ports(INTEL, SAME_ONLY)
        .add("0000:80:00.0", None, Kind::Conventional, |bridge| bridge.ids(SAME_ONLY))
        .add("0000:80:01.0", None, Kind::RootPort, |port| port)
        .endpoint("0000:81:00.0", "0000:80:01.0");
    assert_eq!(path(&machine, A, "0000:81:00.0"), PathName::Refused);
}

#[test]
fn the_allowlist_depends_on_the_kernel_version() {
    const GRACE: (u16, u16) = (0x10de, 0x2f96);
    let arm = "processor\t: 0\nCPU implementer\t: 0x41\n";
    let machine = |kernel| two_root_ports(arm, GRACE).kernel(kernel).report(A, B);
    assert_eq!(machine("7.2.12").predicted, PathName::Refused);
    assert_eq!(machine("7.3.4").predicted, PathName::HostBridgeTranslated);
    let newer = two_root_ports(INTEL, UNLISTED).kernel("7.9.0").report(A, B);
    assert_eq!(newer.predicted, PathName::Refused);
    assert!(newer.unknown[0].contains("Linux 7.9"), "{:?}", newer.unknown);
}

#[test]
fn the_processor_is_trusted_by_vendor_and_family() {
    for (vendor, family, expected) in [
        ("AuthenticAMD", "23", PathName::HostBridgeTranslated),
        ("AuthenticAMD", "26", PathName::HostBridgeTranslated),
        ("AuthenticAMD", "22", PathName::Refused),
        ("HygonGenuine", "24", PathName::Refused),
        ("GenuineIntel", "25", PathName::Refused),
    ] {
        let cpuinfo = format!("processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\n");
        assert_eq!(path(&two_root_ports(&cpuinfo, UNLISTED), A, B), expected, "{vendor} {family}");
    }
}

#[test]
fn the_facts_of_a_pair_explain_a_refusal() {
    let machine = masked("identity", Some("8139cp"), 32, (0x80_0000_0000, 0x10_0000));
    let inventory = machine.inventory();
    let facts = inventory.predictor(Request::default()).facts(bdf(A), bdf(B));
    let enomem = peerpath_paths::explain(peerpath_paths::Step::RegisterDmaBuf, 12, &facts);
    assert_eq!(enomem.cause, Some(Cause::DmaMask), "{facts:?}");
    assert_eq!(inventory.topology.max_payload_bytes(&[bdf(A), bdf(B)]), Some(128));
}

// ---- missing files

#[test]
fn a_missing_file_gives_an_unknown_path_only_if_it_matters() {
    let missing = |machine: Machine, path: &str| machine.without(path).report(A, B);
    let report = missing(two_root_ports(EPYC, UNLISTED), "proc/cpuinfo");
    assert_eq!(
        (report.predicted, report.unknown),
        (PathName::Unknown, vec!["the processor (/proc/cpuinfo)".to_owned()])
    );
    let report = missing(two_root_ports(EPYC, LISTED), "proc/cpuinfo");
    assert_eq!((report.predicted, report.unknown), (PathName::HostBridgeTranslated, vec![]));
    let report = missing(two_root_ports(INTEL, LISTED), "proc/bus/pci/devices");
    // The prediction assumes the order of a boot, and the deciding fact states this.
    assert_eq!((report.predicted, report.unknown), (PathName::HostBridgeTranslated, vec![]));
    assert!(report.deciding.fact.contains("proc/bus/pci/devices"), "{}", report.deciding.fact);
    let report = missing(two_root_ports(EPYC, UNLISTED), "proc/bus/pci/devices");
    assert_eq!((report.predicted, report.unknown), (PathName::HostBridgeTranslated, vec![]));
    let report = missing(two_root_ports(EPYC, UNLISTED), "sys/kernel/iommu_groups/4/type");
    assert_eq!(report.predicted, PathName::Unknown);
    assert!(report.unknown[0].contains("iommu_groups/4/type"));
    let report = missing(two_root_ports(EPYC, UNLISTED).domain_type("identity"), "proc/cmdline");
    assert_eq!(report.predicted, PathName::Unknown);
    let report = missing(two_root_ports(EPYC, UNLISTED), "proc/cmdline");
    assert_eq!((report.predicted, report.unknown), (PathName::HostBridgeTranslated, vec![]));
    let report = missing(two_root_ports(EPYC, UNLISTED).domain_type("identity"), "*/subsystem");
    assert_eq!(report.predicted, PathName::HostBridgeBypass, "the groups were copied");
    let no_links = two_root_ports(EPYC, UNLISTED).no_iommu().without("*/subsystem").report(A, B);
    assert_eq!(no_links.predicted, PathName::Unknown, "no link was copied, so a missing group tells nothing");
    assert!(no_links.unknown[0].contains("IOMMU group of"), "{:?}", no_links.unknown);
}

#[test]
fn finds_functions_without_the_links_of_the_bus() {
    let machine = one_switch(EPYC, None, [None; 3]).without("sys/bus/pci");
    assert_eq!(path(&machine, "0000:03:00.0", "0000:04:00.0"), PathName::BusAddress);
    assert_eq!(machine.inventory().topology.functions().len(), 9);
}

#[test]
fn an_empty_tree_gives_no_report() {
    let inventory = Machine::new(EPYC).without("proc").without("sys").file("else/x", "").inventory();
    assert!(inventory.list().is_empty() && inventory.reports(None, None, Request::default()).next().is_none());
}

// ---- the DMA API

#[test]
fn the_domain_decides_between_bypass_and_translated() {
    for (kind, expected) in [
        ("DMA", PathName::HostBridgeTranslated),
        ("DMA-FQ", PathName::HostBridgeTranslated),
        ("identity", PathName::HostBridgeBypass),
        ("blocked", PathName::HostBridgeBypass),
        ("unmanaged", PathName::HostBridgeBypass),
    ] {
        assert_eq!(path(&two_root_ports(EPYC, UNLISTED).domain_type(kind), A, B), expected, "{kind}");
    }
    assert_eq!(
        path(&two_root_ports(EPYC, UNLISTED).group_type(3, "identity", ""), A, B),
        PathName::HostBridgeTranslated
    );
    assert_eq!(path(&two_root_ports(EPYC, UNLISTED).group_type(4, "identity", ""), A, B), PathName::HostBridgeBypass);
    let report = two_root_ports(EPYC, UNLISTED).no_iommu().report(A, B);
    assert_eq!((report.predicted, report.blockers), (PathName::HostBridgeBypass, vec![Cause::NoIommu]));
}

#[test]
fn swiotlb_force_refuses_only_direct_mappings() {
    let forced = |machine: Machine| machine.command_line("quiet swiotlb=65536,force");
    let report = forced(two_root_ports(EPYC, UNLISTED).domain_type("identity")).report(A, B);
    assert_eq!((report.predicted, report.cause), (PathName::Refused, Some(Cause::SwiotlbForced)));
    assert_eq!(path(&forced(two_root_ports(EPYC, UNLISTED)), A, B), PathName::HostBridgeTranslated);
    let switch = forced(one_switch(EPYC, None, [None; 3]).domain_type("identity"));
    assert_eq!(path(&switch, "0000:03:00.0", "0000:04:00.0"), PathName::BusAddress);
    // The kernel decides the route before the DMA API maps, so swiotlb does not matter here.
    let report = forced(two_root_ports(INTEL, UNLISTED).domain_type("identity")).report(A, B);
    assert_eq!(report.cause, Some(Cause::Topology));
}

/// An exporter and an importer below two root ports.
fn masked(domain: &str, driver: Option<&str>, mask: u8, bar: (u64, u64)) -> Machine {
    Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add("0000:00:02.0", None, Kind::RootPort, |port| port)
        .add(A, Some("0000:00:01.0"), Kind::Endpoint, |function| function.bar(bar.0, bar.1))
        .add(B, Some("0000:00:02.0"), Kind::Endpoint, |function| {
            let function = function.mask(mask);
            driver.map_or_else(|| function.clone().no_driver(), |driver| function.clone().driver(driver))
        })
        .domain_type(domain)
}

#[test]
fn the_mask_must_cover_the_bar_in_a_direct_mapping() {
    let high = (0x80_0000_0000, 0x10_0000);
    let case = |domain, mask, bar| masked(domain, Some("8139cp"), mask, bar).report(A, B);
    let refused = case("identity", 32, high);
    assert_eq!((refused.predicted, refused.cause), (PathName::Refused, Some(Cause::DmaMask)));
    assert!(
        refused.deciding.fact.contains("32 bits") && refused.deciding.bdf == Some(bdf(B)),
        "{:?}",
        refused.deciding
    );
    assert_eq!(case("identity", 32, (0xfff0_0000, 0x10_0000)).predicted, PathName::HostBridgeBypass);
    assert_eq!(case("identity", 32, (0xfff0_0000, 0x20_0000)).predicted, PathName::Refused);
    assert_eq!(case("identity", 64, high).predicted, PathName::HostBridgeBypass);
    assert_eq!(case("identity", 40, high).predicted, PathName::HostBridgeBypass);
    assert_eq!(case("identity", 39, high).predicted, PathName::Refused);
    assert_eq!(case("DMA", 32, high).predicted, PathName::HostBridgeTranslated);
    // In a translated domain only the size of the BAR must fit below the mask.
    assert_eq!(case("DMA", 32, (0x80_0000_0000, 0x1_0000_0000)).cause, Some(Cause::DmaMask));
}

#[test]
fn ignores_the_mask_without_a_driver() {
    for driver in [None, Some("vfio-pci")] {
        let report = masked("identity", driver, 32, (0x80_0000_0000, 0x10_0000)).report(A, B);
        assert_eq!(report.predicted, PathName::HostBridgeBypass);
        assert_eq!(report.unknown, ["the DMA mask of 0000:02:00.0 (no driver has set one)"]);
    }
}

#[test]
fn several_ranges_are_refused_in_a_translated_domain() {
    let many = Request { ranges: 4, ..Request::default() };
    let case = |machine: Machine| machine.report_of(A, B, many);
    let report = case(two_root_ports(EPYC, UNLISTED));
    assert_eq!((report.predicted, report.cause), (PathName::Refused, Some(Cause::MultiRangeDefect)));
    assert_eq!(case(two_root_ports(EPYC, UNLISTED).domain_type("identity")).predicted, PathName::HostBridgeBypass);
    assert_eq!(case(two_root_ports(EPYC, UNLISTED).kernel("8.1.0")).predicted, PathName::Unknown);
    let switch = one_switch(EPYC, None, [None; 3]).report_of("0000:03:00.0", "0000:04:00.0", many);
    assert_eq!(switch.predicted, PathName::BusAddress);
    let parameter = "sys/module/dma_buf_mapping/parameters/iova_multirange";
    assert_eq!(case(two_root_ports(EPYC, UNLISTED).file(parameter, "Y\n")).predicted, PathName::HostBridgeTranslated);
    assert_eq!(case(two_root_ports(EPYC, UNLISTED).file(parameter, "N\n")).predicted, PathName::Refused);
}

// ---- platforms

#[test]
fn notes_a_host_bridge_that_shifts_addresses() {
    let machine = |offset: i64| {
        Machine::new(EPYC)
            .add("0000:00:01.0", None, Kind::RootPort, |port| port)
            .add("0000:00:02.0", None, Kind::RootPort, |port| port)
            .add(A, Some("0000:00:01.0"), Kind::Endpoint, |function| {
                function.bar(0x60_0000_0000, 0x10_0000).offset(offset)
            })
            .add(B, Some("0000:00:02.0"), Kind::Endpoint, |function| function.offset(offset))
            .domain_type("identity")
    };
    let shifted = machine(0x20_0000_0000);
    assert_eq!(shifted.inventory().topology.roots()[0].offset, Some(0x20_0000_0000));
    let report = shifted.report(A, B);
    assert_eq!(report.predicted, PathName::HostBridgeBypass);
    assert!(report.notes.iter().any(|note| note.contains("shifts addresses")), "{:?}", report.notes);
    assert_eq!(machine(0).inventory().topology.roots()[0].offset, Some(0));
    assert!(!machine(0).report(A, B).notes.iter().any(|note| note.contains("shifts")));
}

#[test]
fn arm_with_smmu_has_no_trusted_processor() {
    let arm = "processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n\nprocessor\t: 1\n";
    assert_eq!(path(&two_root_ports(arm, (0x1b36, 0x0008)), A, B), PathName::Refused);
    assert_eq!(path(&one_switch(arm, None, [None; 3]), "0000:03:00.0", "0000:04:00.0"), PathName::BusAddress);
    // The allowlist contains every device of Google.
    assert_eq!(
        path(&two_root_ports(arm, (0x1ae0, 0x0042)).domain_type("DMA-FQ"), A, B),
        PathName::HostBridgeTranslated
    );
}

#[test]
fn confidential_guests_refuse_direct_mappings_and_report_a_blocker() {
    let flags =
        |flags: &str| format!("processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nflags\t\t: fpu {flags}\n");
    let tdx = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nflags\t\t: hypervisor tdx_guest\n";
    let arm = "processor\t: 0\nCPU implementer\t: 0x41\n";
    for machine in [
        two_root_ports(&flags("hypervisor sev sev_es sev_snp"), UNLISTED),
        two_root_ports(&flags("hypervisor"), UNLISTED).file("sys/class/misc/sev-guest", ""),
        two_root_ports(&flags("hypervisor"), UNLISTED)
            .file("peerpath/facts.json", r#"{"confidential_guest": "sev-snp"}"#),
        two_root_ports(tdx, LISTED),
        two_root_ports(arm, (0x1ae0, 1)).file("sys/devices/platform/arm-cca-dev", ""),
    ] {
        let report = machine.clone().no_iommu().report(A, B);
        assert_eq!((report.predicted, report.cause), (PathName::Refused, Some(Cause::ConfidentialGuest)));
        let report = machine.report(A, B);
        assert_eq!(report.predicted, PathName::HostBridgeTranslated);
        assert!(report.blockers.contains(&Cause::ConfidentialGuest));
    }
    // A host that can run confidential guests is not a confidential guest.
    let host = two_root_ports(&flags("sev sev_es sev_snp"), UNLISTED).report(A, B);
    assert!(host.blockers.is_empty());
}

#[test]
fn power_refuses_by_topology_and_not_by_its_dma_operations() {
    let power = "processor\t: 0\ncpu\t\t: POWER10 (architected), altivec supported\n\nplatform\t: pSeries\n";
    let report = two_root_ports(power, UNLISTED).domain_type("unknown").report(A, B);
    assert_eq!((report.predicted, report.cause), (PathName::Refused, Some(Cause::Topology)));
    let report = two_root_ports(power, LISTED).domain_type("unknown").report(A, B);
    assert_eq!(report.predicted, PathName::Unknown, "TCE tables accept MMIO");
    assert!(report.unknown[0].contains("TCE"), "{:?}", report.unknown);
    let sparc = "cpu\t\t: UltraSparc T2\ntype\t\t: sun4v\n";
    let report = two_root_ports(sparc, LISTED).domain_type("unknown").report(A, B);
    assert_eq!((report.predicted, report.cause), (PathName::Refused, Some(Cause::LegacyDmaOps)));
    assert_eq!(path(&one_switch(power, None, [None; 3]), "0000:03:00.0", "0000:04:00.0"), PathName::BusAddress);
}

#[test]
fn a_noiommu_group_is_not_an_iommu() {
    let report = two_root_ports(EPYC, UNLISTED).group_type(3, "unknown", "vfio-noiommu").report(A, B);
    assert_eq!(report.blockers, [Cause::Noiommu]);
    let machine = two_root_ports(EPYC, UNLISTED).group_type(4, "unknown", "vfio-noiommu");
    assert_eq!(path(&machine, A, B), PathName::HostBridgeBypass);
}

// ---- blockers

#[test]
fn blockers_do_not_change_the_prediction() {
    let machine = |with: fn(support::Function) -> support::Function| {
        two_root_ports(EPYC, UNLISTED)
            .add("0000:01:00.1", Some("0000:00:01.0"), Kind::Endpoint, |function| with(function.group(3)))
    };
    let blockers = |machine: &Machine| {
        let report = machine.report(A, B);
        assert_eq!(report.predicted, PathName::HostBridgeTranslated);
        report.blockers
    };
    assert_eq!(blockers(&machine(|function| function.driver("e1000e"))), [Cause::GroupNotViable]);
    for tolerated in ["vfio-pci", "mlx5_vfio_pci", "pci-stub", "pcieport"] {
        let other =
            two_root_ports(EPYC, UNLISTED).add("0000:01:00.1", Some("0000:00:01.0"), Kind::Endpoint, |function| {
                function.group(3).driver(tolerated)
            });
        assert_eq!(blockers(&other), [], "{tolerated}");
    }
    assert_eq!(blockers(&machine(support::Function::no_driver)), []);
    assert_eq!(blockers(&two_root_ports(EPYC, UNLISTED).kernel("6.12.5")), [Cause::KernelTooOld]);
    let report = two_root_ports(EPYC, UNLISTED).report(B, A);
    assert_eq!(report.blockers, [Cause::DriverNotVfio]);
}

#[test]
fn an_rdma_driver_that_cannot_import_is_a_blocker() {
    let machine = |driver: &str| {
        Machine::new(EPYC)
            .add("0000:00:01.0", None, Kind::RootPort, |port| port)
            .add("0000:00:02.0", None, Kind::RootPort, |port| port)
            .endpoint(A, "0000:00:01.0")
            .add(B, Some("0000:00:02.0"), Kind::Endpoint, |nic| {
                nic.driver(driver).device("infiniband", "rdma0").device("net", "eth0")
            })
    };
    assert_eq!(machine("mlx5_core").report(A, B).blockers, []);
    assert_eq!(machine("bnxt_en").report(A, B).blockers, [Cause::ImporterNotRevocable]);
    assert_eq!(machine("mlx4_core").report(A, B).blockers, [Cause::ImporterNoDmabuf]);
    let inventory = machine("mlx5_core").inventory();
    assert_eq!(inventory.list()[1].devices, ["verbs:rdma0", "net:eth0"]);
}

#[test]
fn soft_rdma_belongs_to_the_function_of_its_net_device() {
    let machine = two_root_ports(EPYC, UNLISTED)
        .add("0000:02:00.1", Some("0000:00:02.0"), Kind::Endpoint, |nic| nic.driver("e1000e").device("net", "enp2s0f1"))
        .file("sys/class/infiniband/rxe0/parent", "enp2s0f1\n");
    let list = machine.inventory().list();
    let nic = list.iter().find(|entry| entry.bdf == bdf("0000:02:00.1")).unwrap();
    assert_eq!(nic.devices, ["verbs:rxe0", "net:enp2s0f1"]);
}

#[test]
fn bridges_neither_export_nor_import() {
    let inventory = one_switch(EPYC, None, [None; 3])
        .add("0000:00:1f.0", None, Kind::Endpoint, |function| function.class(0x06_0100))
        .add("0000:00:1e.0", None, Kind::Endpoint, |function| function.class(0x06_8000))
        .add("0000:00:1d.0", None, Kind::Endpoint, |function| function.bar(0xfe80_0000, 0x100))
        .inventory();
    let predictor = inventory.predictor(Request::default());
    let exporters: Vec<_> = predictor.exporters().map(|bdf| bdf.to_string()).collect();
    assert_eq!(exporters, ["0000:00:1e.0", "0000:03:00.0", "0000:04:00.0", "0000:05:00.0"]);
    assert_eq!(predictor.importers().count(), 5);
    assert_eq!(predictor.predict_all().count(), 20);
}
