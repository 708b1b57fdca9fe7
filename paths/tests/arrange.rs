//! Tests the planned host changes for a requested path, and the reason if no plan exists.

mod support;

use peerpath_paths::{AcsControl, Cause, DomainType, Explanation, HostChange, IommuGroupId, PathName, Request};

use support::{EPYC, INTEL, Kind, Machine, bdf};

const EXPORTER: &str = "0000:03:00.0";
const IMPORTER: &str = "0000:04:00.0";

/// Exporter and importer below two downstream ports of a switch.
fn switch(cpuinfo: &str, downstream: [Option<u16>; 2]) -> Machine {
    let acs = |control: Option<u16>| {
        move |port: support::Function| match control {
            Some(control) => port.acs(control),
            None => port,
        }
    };
    Machine::new(cpuinfo)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port.acs(0x1d))
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, |port| port)
        .add("0000:02:00.0", Some("0000:01:00.0"), Kind::Downstream, acs(downstream[0]))
        .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, acs(downstream[1]))
        .endpoint(EXPORTER, "0000:02:00.0")
        .add(IMPORTER, Some("0000:02:01.0"), Kind::Endpoint, |nic| nic.driver("mlx5_core").group(9))
        .group_type(9, "DMA-FQ", "")
}

/// Exporter and importer, each below its own root port.
fn root_ports(cpuinfo: &str) -> Machine {
    Machine::new(cpuinfo)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port.acs(0x1d))
        .add("0000:00:02.0", None, Kind::RootPort, |port| port.acs(0x1d))
        .endpoint(EXPORTER, "0000:00:01.0")
        .add(IMPORTER, Some("0000:00:02.0"), Kind::Endpoint, |nic| nic.driver("mlx5_core").group(9))
        .group_type(9, "DMA-FQ", "")
}

fn arrange(machine: &Machine, wanted: PathName) -> Result<Vec<HostChange>, Explanation> {
    machine.inventory().arrange(bdf(EXPORTER), bdf(IMPORTER), wanted, Request::default()).unwrap()
}

fn changes(machine: &Machine, wanted: PathName) -> Vec<String> {
    let changes = arrange(machine, wanted).unwrap();
    changes.iter().map(ToString::to_string).collect()
}

fn refused(machine: &Machine, wanted: PathName) -> (Option<Cause>, String) {
    let Explanation { cause, why, remedy, .. } = arrange(machine, wanted).unwrap_err();
    for text in [&why, &remedy] {
        assert!(text.ends_with('.') && text.starts_with(|letter: char| !letter.is_lowercase()), "{text:?}");
    }
    (cause, why)
}

#[test]
fn plans_no_change_for_the_current_path() {
    assert_eq!(arrange(&root_ports(EPYC), PathName::HostBridgeTranslated), Ok(vec![]));
    assert_eq!(arrange(&switch(EPYC, [None; 2]), PathName::BusAddress), Ok(vec![]));
    assert_eq!(arrange(&root_ports(EPYC).no_iommu(), PathName::HostBridgeBypass), Ok(vec![]));
}

#[test]
fn the_domain_of_the_importer_decides_between_bypass_and_translated() {
    assert_eq!(changes(&root_ports(EPYC), PathName::HostBridgeBypass), ["IOMMU group 9 switched to identity"]);
    let bypass = root_ports(EPYC).group_type(9, "identity", "");
    assert_eq!(
        arrange(&bypass, PathName::HostBridgeTranslated),
        Ok(vec![HostChange::Domain { group: IommuGroupId(9), to: DomainType::Translated }])
    );
}

#[test]
fn sets_and_clears_redirect_of_switch_ports() {
    let plain = switch(EPYC, [Some(0x11), Some(0x11)]);
    assert_eq!(
        changes(&plain, PathName::HostBridgeTranslated),
        ["ACS redirect set on 0000:02:00.0 (RR CR)", "ACS redirect set on 0000:02:01.0 (RR CR)"]
    );
    assert_eq!(
        changes(&plain, PathName::HostBridgeBypass),
        [
            "IOMMU group 9 switched to identity",
            "ACS redirect set on 0000:02:00.0 (RR CR)",
            "ACS redirect set on 0000:02:01.0 (RR CR)"
        ]
    );
    // Only redirecting ports change, and only their redirect bits.
    let half = switch(EPYC, [Some(0x11), Some(0x35)]);
    assert_eq!(
        arrange(&half, PathName::BusAddress),
        Ok(vec![HostChange::Acs { bdf: bdf("0000:02:01.0"), offset: 0x106, bits: AcsControl(0x24), set: false }])
    );
    assert_eq!(arrange(&half, PathName::HostBridgeTranslated), Ok(vec![]));
}

#[test]
fn bypass_redirects_at_the_port_where_requests_enter_the_switch() {
    // For the kernel, a redirect above the exporter suffices. The switch applies the ACS bits of the port above the importer.
    let exporter_side = switch(EPYC, [Some(0x1d), Some(0x11)]);
    assert_eq!(
        changes(&exporter_side, PathName::HostBridgeBypass),
        ["IOMMU group 9 switched to identity", "ACS redirect set on 0000:02:01.0 (RR CR)"]
    );
    let already = exporter_side.group_type(9, "identity", "");
    assert_eq!(changes(&already, PathName::HostBridgeBypass), ["ACS redirect set on 0000:02:01.0 (RR CR)"]);
    assert_eq!(changes(&switch(EPYC, [Some(0x1d), Some(0x11)]), PathName::HostBridgeTranslated), [""; 0]);
    let importer_side = switch(EPYC, [None, Some(0x1d)]);
    assert_eq!(changes(&importer_side, PathName::HostBridgeBypass), ["IOMMU group 9 switched to identity"]);
    let (cause, why) = refused(&switch(EPYC, [Some(0x1d), None]), PathName::HostBridgeBypass);
    assert_eq!(cause, Some(Cause::Topology));
    assert!(why.contains("enter the switch at 0000:02:01.0"), "{why}");
}

#[test]
fn never_changes_acs_of_exporter_and_importer() {
    let ends = |control: [Option<u16>; 2], acs: u16| {
        let machine = Machine::new(EPYC)
            .add("0000:00:01.0", None, Kind::RootPort, |port| port.acs(0x1d))
            .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, |port| port)
            .add("0000:02:00.0", Some("0000:01:00.0"), Kind::Downstream, |port| match control[0] {
                Some(control) => port.acs(control),
                None => port,
            })
            .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, |port| match control[1] {
                Some(control) => port.acs(control),
                None => port,
            });
        machine
            .add(EXPORTER, Some("0000:02:00.0"), Kind::Endpoint, |end| end.acs(acs))
            .add(IMPORTER, Some("0000:02:01.0"), Kind::Endpoint, |nic| nic.driver("mlx5_core").group(9).acs(acs))
            .group_type(9, "DMA-FQ", "")
    };
    assert_eq!(
        changes(&ends([Some(0x11); 2], 0x10), PathName::HostBridgeTranslated),
        ["ACS redirect set on 0000:02:00.0 (RR CR)", "ACS redirect set on 0000:02:01.0 (RR CR)"]
    );
    assert_eq!(refused(&ends([None; 2], 0x10), PathName::HostBridgeTranslated).0, Some(Cause::Topology));
    let (cause, why) = refused(&ends([Some(0x1d); 2], 0x1c), PathName::BusAddress);
    assert_eq!(cause, Some(Cause::Topology));
    assert!(why.contains("ACS redirect is set on 0000:03:00.0 itself (RR CR)"), "{why}");
}

#[test]
fn gives_the_reason_if_no_change_leads_to_the_path() {
    let (cause, why) = refused(&root_ports(EPYC), PathName::BusAddress);
    assert_eq!(cause, Some(Cause::Topology));
    assert!(why.contains("have no common bridge"), "{why}");
    let (cause, why) = refused(&switch(EPYC, [None; 2]), PathName::HostBridgeTranslated);
    assert_eq!(cause, Some(Cause::Topology));
    assert!(why.contains("none has ACS"), "{why}");
    let (cause, why) = refused(&root_ports(EPYC).no_iommu(), PathName::HostBridgeTranslated);
    assert_eq!(cause, Some(Cause::NoIommu), "{why}");
    // The kernel does not trust this host bridge.
    let (cause, why) = refused(&switch(INTEL, [Some(0x11); 2]), PathName::HostBridgeTranslated);
    assert_eq!(cause, Some(Cause::Topology));
    assert!(why.contains("would refuse"), "{why}");
    let (cause, why) = refused(&root_ports(EPYC).command_line("swiotlb=force"), PathName::HostBridgeBypass);
    assert_eq!(cause, Some(Cause::SwiotlbForced), "{why}");
    let (cause, why) = refused(&root_ports(EPYC).group_type(9, "unmanaged", ""), PathName::HostBridgeTranslated);
    assert_eq!(cause, Some(Cause::InUse), "{why}");
    let (_, why) = refused(&root_ports(EPYC), PathName::Staged);
    assert!(why.contains("staged"), "{why}");
}

#[test]
fn a_small_dma_mask_prevents_bypass() {
    let short = Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add("0000:00:02.0", None, Kind::RootPort, |port| port)
        .endpoint(EXPORTER, "0000:00:01.0")
        .add(IMPORTER, Some("0000:00:02.0"), Kind::Endpoint, |nic| nic.driver("8139cp").mask(32));
    assert_eq!(refused(&short, PathName::HostBridgeBypass).0, Some(Cause::DmaMask));
    // The opposite change, to translated, is possible.
    let bypass = short.domain_type("identity");
    assert_eq!(arrange(&bypass, PathName::HostBridgeTranslated).unwrap().len(), 1);
}

#[test]
fn reports_unreadable_acs() {
    let cut = Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, |port| port.config_bytes(64))
        .add("0000:02:00.0", Some("0000:01:00.0"), Kind::Downstream, |port| port.config_bytes(64))
        .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, |port| port.config_bytes(64))
        .endpoint(EXPORTER, "0000:02:00.0")
        .endpoint(IMPORTER, "0000:02:01.0");
    for wanted in [PathName::BusAddress, PathName::HostBridgeTranslated] {
        assert_eq!(refused(&cut, wanted).0, Some(Cause::NoPermission));
    }
}

#[test]
fn returns_none_for_a_missing_function() {
    let machine = root_ports(EPYC);
    let absent = bdf("0000:7f:00.0");
    assert!(machine.inventory().arrange(absent, bdf(IMPORTER), PathName::BusAddress, Request::default()).is_none());
}
