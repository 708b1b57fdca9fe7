//! The route of packets through a switch, secured links, and functions whose DMA another function performs.

mod support;

use std::path::Path;

use peerpath_paths::doctor::{Finding, Selection, Status, run_checks};
use peerpath_paths::{Cause, Inventory, PathName, PathReport, Request, Tree};
use proptest::prelude::*;

use support::{EPYC, Kind, Machine, bdf};

/// Exporter, its port, the switch, the importer's port, importer: the functions of the cases with a switch.
const EXPORTER: &str = "0000:03:00.0";
const EXPORTER_PORT: &str = "0000:02:00.0";
const SWITCH: &str = "0000:01:00.0";
const IMPORTER_PORT: &str = "0000:02:01.0";
const IMPORTER: &str = "0000:04:00.0";

fn case(name: &str) -> Tree {
    let file = format!("tests/fixtures/kernel-cases/{name}.tar.gz");
    Tree::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn report(tree: &Tree, from: &str, to: &str) -> PathReport {
    Inventory::read(tree).predictor(Request::default()).explain(bdf(from), bdf(to)).unwrap()
}

fn findings(tree: &Tree, from: &str, to: &str, check: &str) -> Vec<Finding> {
    let selection = Selection { from: Some(bdf(from)), to: Some(bdf(to)), ..Selection::default() };
    let mut findings = run_checks(tree, &Inventory::read(tree), &selection, None);
    findings.retain(|finding| finding.check == check);
    findings
}

/// The only note that contains `note`, and doctor's only finding of `check`. `NAME/WORD` selects the finding of the check `NAME`
/// that contains `WORD`.
fn note_and_finding(case_name: &str, note: &str, check: &str) -> (String, Finding) {
    let tree = case(case_name);
    let report = report(&tree, EXPORTER, IMPORTER);
    let notes: Vec<_> = report.notes.iter().filter(|text| text.contains(note)).collect();
    let (check, topic) = check.split_once('/').unwrap_or((check, ""));
    let mut findings = findings(&tree, EXPORTER, IMPORTER, check);
    findings.retain(|finding| finding.detail.contains(topic));
    let ([note], [finding]) = (&notes[..], &findings[..]) else { panic!("{:#?} {findings:#?}", report.notes) };
    (note.to_string(), finding.clone())
}

fn hops(report: &PathReport) -> Vec<String> {
    report.hops.iter().map(ToString::to_string).collect()
}

// ---- requests with a translated address

#[test]
fn direct_translated_counts_at_the_port_above_the_importer() {
    let (note, finding) = note_and_finding("ats-dt-importer-only", "uses ATS", "ats");
    assert!(
        note.contains("stay below the switch") && note.contains(IMPORTER_PORT) && note.contains("ACS DT"),
        "{note}"
    );
    assert_eq!((finding.status, finding.remedy.as_deref()), (Status::Pass, None));
    assert!(!finding.detail.contains(EXPORTER_PORT), "{}", finding.detail);
}

#[test]
fn direct_translated_at_the_exporters_port_has_no_effect() {
    let (note, finding) = note_and_finding("ats-dt-exporter-only", "uses ATS", "ats");
    assert!(note.contains("go through the root complex"), "{note}");
    let remedy = finding.remedy.unwrap();
    assert_eq!(finding.status, Status::Warn);
    assert!(remedy.contains("direct translated P2P") && remedy.contains(IMPORTER_PORT), "{remedy}");
    assert!(!remedy.contains(EXPORTER_PORT), "{remedy}");
}

#[test]
fn no_remedy_sets_a_bit_that_the_capability_lacks() {
    let (note, finding) = note_and_finding("ats-no-dt-capability", "uses ATS", "ats");
    assert!(note.contains("does not support direct translated P2P"), "{note}");
    assert_eq!((finding.status, finding.remedy), (Status::Pass, None));
}

#[test]
fn translation_blocking_above_the_importer_is_a_problem() {
    let (note, finding) = note_and_finding("ats-tb", "uses ATS", "ats");
    assert!(note.contains("ACS violation") && note.contains(IMPORTER_PORT), "{note}");
    assert_eq!(finding.status, Status::Warn);
    assert!(finding.remedy.unwrap().contains("Clear translation blocking"));
}

#[test]
fn translation_blocking_at_any_port_up_to_the_root_complex_is_a_problem() {
    let machine = |root_port: u16| {
        Machine::new(EPYC)
            .add("0000:00:01.0", None, Kind::RootPort, |port| port)
            .add("0000:00:02.0", None, Kind::RootPort, |port| port.acs(root_port))
            .endpoint("0000:01:00.0", "0000:00:01.0")
            .add("0000:02:00.0", Some("0000:00:02.0"), Kind::Endpoint, |nic| nic.ats(true))
    };
    let notes = |root_port| machine(root_port).report("0000:01:00.0", "0000:02:00.0").notes.join("\n");
    assert!(notes(0x02).contains("0000:00:02.0 blocks"), "{}", notes(0x02));
    assert!(!notes(0x1d).contains("blocks"), "{}", notes(0x1d));
}

#[test]
fn the_note_on_ats_does_not_depend_on_the_domain_type() {
    let (note, finding) = note_and_finding("ats-dt-identity", "uses ATS", "ats");
    assert!(note.contains("translated requests stay below the switch"), "{note}");
    assert_eq!(finding.status, Status::Pass);
    assert_eq!(report(&case("ats-dt-identity"), EXPORTER, IMPORTER).predicted, PathName::HostBridgeBypass);
}

#[test]
fn an_importer_without_ats_gets_no_note_on_ats() {
    let report = report(&case("rr-exporter-only-identity"), EXPORTER, IMPORTER);
    assert!(report.notes.iter().all(|note| !note.contains("ATS")), "{:?}", report.notes);
}

// ---- untranslated requests and completions

#[test]
fn requests_turn_in_the_switch_if_the_importers_port_does_not_redirect() {
    let (note, finding) =
        note_and_finding("rr-exporter-only-identity", "the requests stay below the switch", "acs-route/although");
    assert!(note.contains("the kernel maps for the route through the host bridge"), "{note}");
    assert!(note.contains(IMPORTER_PORT) && note.contains(SWITCH), "{note}");
    assert_eq!(finding.status, Status::Pass);
}

#[test]
fn hops_follow_the_requests_and_not_the_map_type() {
    let report = report(&case("rr-exporter-only-identity"), EXPORTER, IMPORTER);
    assert_eq!(report.predicted, PathName::HostBridgeBypass);
    assert_eq!(hops(&report), [EXPORTER, EXPORTER_PORT, SWITCH, IMPORTER_PORT, IMPORTER]);
    assert_eq!((report.turns_at, report.up_to), (Some(bdf(SWITCH)), None));
    assert_eq!(report.through_root_complex, Some(false));
    assert!(report.notes.iter().all(|note| !note.contains("only a measurement")), "{:?}", report.notes);
}

#[test]
fn reads_may_fail_if_completions_take_another_route_than_requests() {
    let (note, finding) =
        note_and_finding("rr-exporter-only-identity", "completions of reads", "acs-route/completions");
    assert!(note.contains(&format!("enter it at {EXPORTER_PORT}")) && note.contains("relaxed ordering"), "{note}");
    assert_eq!(finding.status, Status::Warn);
    assert!(finding.remedy.unwrap().contains("Clear completion redirect"));
    // A completion redirect at the importer's port affects other transfers only.
    let (note, finding) = note_and_finding("cr-only-importer", "completions of reads", "acs-route/completions");
    assert!(note.contains(EXPORTER_PORT) && note.contains("does not redirect them"), "{note}");
    let remedy = finding.remedy.unwrap();
    assert!(remedy.contains("Set completion redirect") && remedy.contains(EXPORTER_PORT), "{remedy}");
}

#[test]
fn completions_of_translated_requests_need_relaxed_ordering_below_a_completion_redirect() {
    let (note, finding) = note_and_finding("ats-dt-importer-only", "completions of reads", "acs-route/completions");
    assert!(note.starts_with("translated requests stay below the switch"), "{note}");
    // The importer is an mlx5.
    assert!(note.contains("registered with relaxed ordering"), "{note}");
    assert_eq!(finding.status, Status::Pass);
}

#[test]
fn untranslated_requests_with_an_iova_leave_a_switch_that_does_not_redirect_them() {
    let report = report(&case("cr-only-importer"), EXPORTER, IMPORTER);
    assert_eq!(report.predicted, PathName::HostBridgeTranslated);
    assert_eq!((report.hops.len(), report.through_root_complex), (7, Some(true)));
    let notes = report.notes.join("\n");
    assert!(notes.contains("I/O virtual addresses"), "{notes}");
    assert!(notes.contains("translated requests stay below the switch"), "{notes}");
}

/// A switch below a port of another switch. Exporter and importer are any two of `LEAVES`.
fn nested(acs: [Option<u16>; 4]) -> Machine {
    let port = |control: Option<u16>| {
        move |port: support::Function| match control {
            Some(control) => port.acs(control),
            None => port,
        }
    };
    let [outer, inner_0, inner_1, beside] = acs;
    Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port.acs(0x1d))
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, |port| port)
        .add("0000:02:00.0", Some("0000:01:00.0"), Kind::Downstream, port(outer))
        .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, port(beside))
        .add("0000:03:00.0", Some("0000:02:00.0"), Kind::Upstream, |port| port)
        .add("0000:04:00.0", Some("0000:03:00.0"), Kind::Downstream, port(inner_0))
        .add("0000:04:01.0", Some("0000:03:00.0"), Kind::Downstream, port(inner_1))
        .endpoint(LEAVES[0], "0000:04:00.0")
        .endpoint(LEAVES[1], "0000:04:01.0")
        .endpoint(LEAVES[2], "0000:02:01.0")
}

const LEAVES: [&str; 3] = ["0000:05:00.0", "0000:06:00.0", "0000:07:00.0"];

/// Index in the parameter `acs` of [`nested`]: the port at which the requests of the importer enter the nearest common switch.
fn entry(from: usize, to: usize) -> usize {
    match (from, to) {
        (_, 2) => 3,
        (2, _) => 0,
        (_, to) => to + 1,
    }
}

fn control() -> impl Strategy<Value = Option<u16>> {
    prop_oneof![1 => Just(None), 3 => (0_u16..0x80).prop_map(Some)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn hops_leave_the_common_switch_only_if_a_bit_at_the_entry_port_redirects(
        acs in [control(), control(), control(), control()],
        identity: bool,
    ) {
        let machine = nested(acs).domain_type(if identity { "identity" } else { "DMA" });
        let inventory = machine.inventory();
        let predictor = inventory.predictor(Request::default());
        for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
            let report = predictor.explain(bdf(LEAVES[from]), bdf(LEAVES[to])).unwrap();
            let common = predictor.common_node(report.from, report.to).unwrap();
            // The Egress Control Vector of these ports is empty, so with egress control no request is redirected.
            let redirected = acs[entry(from, to)].is_some_and(|control| control & 0x24 == 0x04);
            let leaves = match report.predicted {
                PathName::BusAddress => false,
                PathName::HostBridgeBypass => redirected,
                PathName::HostBridgeTranslated => true,
                path => panic!("{path}"),
            };
            prop_assert_eq!(report.hops.contains(&bdf("0000:00:01.0")), leaves);
            prop_assert_eq!(report.through_root_complex, Some(leaves));
            prop_assert_eq!(report.turns_at == Some(common), !leaves);
        }
    }
}

#[test]
fn egress_control_applies_to_the_ports_in_its_vector() {
    // Link Capabilities of the exporter's port: port number 5.
    let machine = |control: u16, vector: u32| {
        Machine::new(EPYC)
            .add("0000:00:01.0", None, Kind::RootPort, |port| port)
            .add(SWITCH, Some("0000:00:01.0"), Kind::Upstream, |port| port)
            .add(EXPORTER_PORT, Some(SWITCH), Kind::Downstream, |port| port.patch(0x4c, 5 << 24))
            .add(IMPORTER_PORT, Some(SWITCH), Kind::Downstream, |port| {
                port.acs(0).patch(0x104, u32::from(control) << 16 | 0x0800 | 0x7f).patch(0x108, vector)
            })
            .endpoint(EXPORTER, EXPORTER_PORT)
            .endpoint(IMPORTER, IMPORTER_PORT)
            .domain_type("identity")
    };
    let through_root = |control, vector| machine(control, vector).report(EXPORTER, IMPORTER).through_root_complex;
    assert_eq!(through_root(0x24, 1 << 5), Some(true));
    assert_eq!(through_root(0x24, 1 << 4), Some(false));
    let blocked = findings(&machine(0x20, 1 << 5).tree(), EXPORTER, IMPORTER, "acs-route");
    assert_eq!(blocked.len(), 1, "{blocked:#?}");
    assert_eq!(blocked[0].status, Status::Warn);
    assert!(blocked[0].detail.contains("egress control"), "{}", blocked[0].detail);
}

#[test]
fn unreadable_acs_of_the_entry_port_makes_the_route_unknown() {
    let machine = Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add(SWITCH, Some("0000:00:01.0"), Kind::Upstream, |port| port)
        .add(EXPORTER_PORT, Some(SWITCH), Kind::Downstream, |port| port.acs(0x1d))
        .add(IMPORTER_PORT, Some(SWITCH), Kind::Downstream, |port| port.config_bytes(64))
        .endpoint(EXPORTER, EXPORTER_PORT)
        .endpoint(IMPORTER, IMPORTER_PORT)
        .domain_type("identity");
    let report = machine.report(EXPORTER, IMPORTER);
    assert_eq!((report.predicted, report.through_root_complex), (PathName::HostBridgeBypass, None));
    let found = findings(&machine.tree(), EXPORTER, IMPORTER, "acs-route");
    assert!(found.iter().any(|finding| finding.status == Status::Unknown), "{found:#?}");
}

// ---- secured links

#[test]
fn tdisp_of_the_importer_blocks_the_pair() {
    let tree = case("tdisp-bound");
    let report = report(&tree, "0000:01:00.0", "0000:02:00.0");
    assert_eq!(report.blockers, [Cause::ConfidentialGuest]);
    assert!(report.notes.iter().any(|note| note.contains("(TDISP) of 0000:02:00.0 is bound")), "{:?}", report.notes);
    let found = findings(&tree, "0000:01:00.0", "0000:02:00.0", "tdisp");
    let of_importer = found.iter().find(|finding| finding.subject == "0000:02:00.0").unwrap();
    assert_eq!((of_importer.status, of_importer.cause), (Status::Fail, Some(Cause::ConfidentialGuest)));
}

#[test]
fn reports_the_tsm_connection_of_the_exporter() {
    let tree = case("ide-connected");
    let report = report(&tree, "0000:01:00.0", "0000:02:00.0");
    assert!(report.notes.iter().any(|note| note.contains("tsm0 is connected to 0000:01:00.0")), "{:?}", report.notes);
    assert_eq!(report.blockers, []);
    let found = findings(&tree, "0000:01:00.0", "0000:02:00.0", "link-security");
    assert_eq!((found[0].status, found[0].subject.as_str()), (Status::Warn, "0000:01:00.0"));
    assert_eq!((found[1].status, found[1].subject.as_str()), (Status::Pass, "0000:02:00.0"));
    assert!(found[0].remedy.as_ref().unwrap().contains("tsm/disconnect"), "{found:#?}");
}

#[test]
fn a_virtual_function_has_the_connection_of_its_security_manager() {
    let machine = Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add("0000:00:02.0", None, Kind::RootPort, |port| port)
        .endpoint("0000:01:00.0", "0000:00:01.0")
        .add("0000:01:00.1", Some("0000:00:01.0"), Kind::Endpoint, |function| {
            function.virtual_function_of("0000:01:00.0")
        })
        .endpoint("0000:02:00.0", "0000:00:02.0")
        .file("sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/tsm/connect", "tsm1\n")
        .file("sys/devices/pci0000:00/0000:00:01.0/0000:01:00.1/tsm/dsm", "0000:01:00.0\n")
        .file("sys/devices/pci0000:00/0000:00:02.0/0000:02:00.0/tsm/connect", "\n");
    let notes = machine.report("0000:01:00.1", "0000:02:00.0").notes.join("\n");
    assert!(notes.contains("tsm1 is connected to 0000:01:00.0, which manages 0000:01:00.1"), "{notes}");
    // The attribute is empty without a connection.
    assert!(!notes.contains("0000:02:00.0"), "{notes}");
}

#[test]
fn reports_a_secure_ide_stream() {
    // IDE capability with one selective stream without address association; its status register is at 0x114.
    let machine = |status: u32| {
        Machine::new(EPYC)
            .add("0000:00:01.0", None, Kind::RootPort, |port| port)
            .add("0000:00:02.0", None, Kind::RootPort, |port| port)
            .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Endpoint, |device| {
                device.patch(0x100, 0x0001_0030).patch(0x104, 2).patch(0x114, status)
            })
            .endpoint("0000:02:00.0", "0000:00:02.0")
    };
    let notes = |status| machine(status).report("0000:01:00.0", "0000:02:00.0").notes.join("\n");
    assert!(notes(2).contains("a secure IDE stream of 0000:01:00.0"), "{}", notes(2));
    assert!(!notes(0).contains("IDE"), "{}", notes(0));
}

// ---- functions whose DMA another function performs

#[test]
fn names_the_vmd_controller_whose_requester_id_the_requests_carry() {
    let report = report(&case("vmd"), "10000:e1:00.0", "10000:e2:00.0");
    for function in ["10000:e1:00.0", "10000:e2:00.0"] {
        let expected = format!("{function} is behind the VMD controller 0000:00:0e.0");
        assert!(report.notes.iter().any(|note| note.starts_with(&expected)), "{:?}", report.notes);
    }
    let inventory = Inventory::read(&case("vmd"));
    assert_eq!(report.cause, Some(Cause::Topology));
    assert!(
        report.would_change[0].starts_with("switch VMD (0000:00:0e.0) off in the firmware"),
        "{:?}",
        report.would_change
    );
    let vmd_above = |address| inventory.topology.vmd_above(inventory.topology.function(bdf(address)).unwrap());
    assert_eq!(vmd_above("10000:e1:00.0"), Some(bdf("0000:00:0e.0")));
    assert_eq!(vmd_above("0000:00:0e.0"), None);
}

#[test]
fn an_rdma_device_of_a_subfunction_belongs_to_the_parent_function() {
    let inventory = Inventory::read(&case("mlx5-sf"));
    assert_eq!(inventory.function_under("verbs:mlx5_2"), Some(bdf("0000:02:00.0")));
    let report = report(&case("mlx5-sf"), "0000:01:00.0", "0000:02:00.0");
    let expected = "verbs:mlx5_2 is a device of the subfunction mlx5_core.sf.4, whose DMA 0000:02:00.0 performs";
    assert!(report.notes.iter().any(|note| note == expected), "{:?}", report.notes);
    assert!(report.notes.iter().all(|note| !note.contains("mlx5_0")), "{:?}", report.notes);
}
