use super::*;
use crate::tree::Tree;
use crate::{AcsControl, Capability, Function, GroupMembership, PortType, Topology};

fn topology(texts: &[&str]) -> Topology {
    let texts: Vec<_> = texts.iter().map(|text| (None, (*text).to_owned())).collect();
    Topology::read(&Tree::from_texts(&texts).unwrap())
}

fn function(text: &str, bdf: &str) -> Function {
    topology(&[text]).function(bdf.parse().unwrap()).unwrap().clone()
}

/// The root port of an lspci output that contains these lines.
fn port(lines: &str) -> Function {
    function(&format!("00:00.0 0600: 8086:29c0\n\n00:1c.0 0604: 8086:2940\n{lines}"), "00:1c.0")
}

const PORT: &str = "\
	Control: I/O- Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- SERR- FastB2B- DisINTx-
	Status: Cap+ 66MHz- UDF- FastB2B- ParErr- DEVSEL=fast >TAbort- <TAbort- <MAbort- >SERR- <PERR- INTx-
	IOMMU group: 7
	Bus: primary=00, secondary=05, subordinate=06, sec-latency=0
	Capabilities: [40] Express (v2) Root Port (Slot+), MSI 00
		DevCap:	MaxPayload 256 bytes, PhantFunc 0
			ExtTag- RBE+
		DevCtl:	CorrErr- NonFatalErr- FatalErr- UnsupReq-
			RlxdOrd+ ExtTag- PhantFunc- AuxPwr- NoSnoop+
			MaxPayload 128 bytes, MaxReadReq 512 bytes
		LnkCap:	Port #1, Speed 16GT/s, Width x16, ASPM L1, Exit Latency L1 <64us
		LnkSta:	Speed 8GT/s (downgraded), Width x8 (downgraded)
	Capabilities: [100 v1] Advanced Error Reporting
	Capabilities: [140 v1] Access Control Services
		ACSCap:	SrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-
		ACSCtl:	SrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-
";

#[test]
fn reads_the_registers_of_a_port() {
    let port = port(&format!("{PORT}	Kernel driver in use: pcieport\n\n"));
    assert_eq!(port.acs, Capability::Present(AcsControl(0x1d)));
    let register = port.config.acs_register().present().unwrap();
    assert_eq!((register.offset, register.supported), (0x146, 0x1f));
    let pcie = port.pcie.present().unwrap();
    assert_eq!(pcie.port_type, PortType::RootPort);
    assert_eq!(
        (pcie.max_payload_supported_bytes, pcie.max_payload_bytes, pcie.max_read_request_bytes),
        (256, 128, 512)
    );
    assert!(pcie.relaxed_ordering);
    let (link, limit) = (pcie.link.unwrap(), pcie.link_limit.unwrap());
    assert_eq!((link.generation, link.lanes, limit.generation, limit.lanes), (3, 8, 4, 16));
    assert_eq!(port.config.buses_below(), Some((5, 6)));
    assert_eq!((port.memory_decode(), port.is_root_port()), (Some(true), Some(true)));
    assert_eq!((port.membership, port.driver.as_deref()), (GroupMembership::Group(7), Some("pcieport")));
    assert_eq!(port.ats, Capability::Absent, "the list is complete and does not contain it");
    assert_eq!(port.bars, []);
}

#[test]
fn lines_that_a_mail_program_wrapped_are_joined() {
    let wrapped =
        PORT.replace(" UpstreamFwd+ EgressCtrl-", " UpstreamFwd+\nEgressCtrl-").replace(" MaxReadReq", "\nMaxReadReq");
    let port = port(&format!("{wrapped}\n"));
    assert_eq!(port.acs, Capability::Present(AcsControl(0x1d)));
    assert_eq!(port.pcie.present().map(|pcie| pcie.max_read_request_bytes), Some(512));
}

#[test]
fn link_encryption_and_vendor_specific_structures_are_unknown_without_their_registers() {
    let listed =
        "\tCapabilities: [200 v1] Integrity & Data Encryption\n\tCapabilities: [240 v1] Designated Vendor-Specific: ";
    let cxl = port(&format!("{PORT}{listed}Vendor=1e98 ID=0000 Rev=1 Len=56: CXL\n\n"));
    assert_eq!((cxl.ide, cxl.config.cxl_cache()), (Capability::Unknown, Capability::Unknown));
    let other = port(&format!("{PORT}{listed}Vendor=8086 ID=0000 Rev=1 Len=56 <?>\n\n"));
    assert_eq!(other.config.cxl_cache(), Capability::Absent);
}

#[test]
fn capabilities_after_the_end_of_a_shortened_text_are_unknown() {
    for end in ["", "\t[...]\n\n", "<snip>\n\n"] {
        let port = port(&format!("{PORT}{end}"));
        assert_eq!(port.acs, Capability::Present(AcsControl(0x1d)), "{end:?}");
        assert_eq!(port.ats, Capability::Unknown, "{end:?}");
    }
    let (before, _) = PORT.split_once("\tCapabilities: [140").unwrap();
    assert_eq!(port(before).acs, Capability::Unknown);
    let half = PORT.replace(" CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-\n", "\n");
    assert_eq!(port(&format!("{half}\n")).acs, Capability::Unknown);
}

#[test]
fn unreadable_capabilities_are_unknown() {
    let (before, _) = PORT.split_once("\tCapabilities: ").unwrap();
    let port = port(&format!("{before}\tCapabilities: <access denied>\n\n"));
    assert_eq!((port.acs, port.pcie, port.ats), (Capability::Unknown, Capability::Unknown, Capability::Unknown));
    assert_eq!((port.config.buses_below(), port.is_bridge()), (Some((5, 6)), true));
}

#[test]
fn names_of_capabilities_show_which_are_absent() {
    let text = "\
	Flags: bus master, fast devsel, latency 0, IRQ 24, NUMA node 1, IOMMU group 3
	Bus: primary=00, secondary=05, subordinate=06, sec-latency=0
	Capabilities: [40] Express Root Port (Slot+), MSI 00
	Capabilities: [100] Access Control Services
	Kernel driver in use: pcieport

";
    let port = port(text);
    assert_eq!((port.acs, port.ats, port.pcie), (Capability::Unknown, Capability::Absent, Capability::Unknown));
    assert_eq!((port.numa_node, port.membership), (Some(1), GroupMembership::Group(3)));
}

#[test]
fn a_function_without_capabilities_has_no_acs() {
    let text = "00:02.0 0300: 1234:1111\n	Control: I/O+ Mem+ BusMaster+\n	Status: Cap- 66MHz-\n\n";
    let found = function(text, "00:02.0");
    assert_eq!((found.acs, found.pcie, found.is_bridge()), (Capability::Absent, Capability::Absent, false));
}

#[test]
fn a_removed_function_is_unknown() {
    let found = function(
        "00:00.0 0600: 8086:29c0\n	Control: Mem+\n\n00:02.0 0300: 10de:20b0 (rev ff) (prog-if ff)\n	!!! Unknown header type 7f\n	Kernel modules: nouveau\n\n",
        "00:02.0",
    );
    assert_eq!(
        (found.acs, found.pcie, found.membership),
        (Capability::Unknown, Capability::Unknown, GroupMembership::Unknown)
    );
}

#[test]
fn reads_regions() {
    let text = "\
00:02.0 0300: 10de:20b0
	Control: I/O+ Mem+ BusMaster+
	Status: Cap- 66MHz-
	Region 0: Memory at f6000000 (32-bit, non-prefetchable) [disabled] [size=16M]
	Region 1: Memory at 2000000000 (64-bit, prefetchable) [size=64G]
	Region 3: Memory at <unassigned> (64-bit, prefetchable) [size=32M]
	Region 5: I/O ports at e000 [size=128]
	Expansion ROM at f7000000 [disabled] [size=512K]

";
    let bars = function(text, "00:02.0").bars;
    let summary: Vec<_> =
        bars.iter().map(|bar| (bar.index, bar.start, bar.size_bytes, bar.kind.to_string(), bar.assigned)).collect();
    assert_eq!(
        summary,
        [
            (0, 0xf600_0000, 16 << 20, "mem32".to_owned(), true),
            (1, 0x20_0000_0000, 64 << 30, "mem64-prefetch".to_owned(), true),
            (3, 0, 32 << 20, "mem64-prefetch".to_owned(), false),
            (5, 0xe000, 128, "io".to_owned(), true),
        ]
    );
}

#[test]
fn regions_without_sizes_are_unknown() {
    let sizes = |line: &str| {
        let text = format!("00:02.0 0300: 10de:20b0\n	Control: Mem+\n	Status: Cap-\n	Region 0: {line}\n\n");
        Listing::read(&text).unwrap().functions.into_values().next().unwrap().resource
    };
    assert_eq!(sizes("Memory at f6000000 (32-bit, non-prefetchable)"), None);
    assert!(sizes("Memory at f6000000 (32-bit,\nnon-prefetchable)\n[size=16M]").is_some());
    // Without -vv, lspci does not print the index.
    let text = "00:02.0 0300: 10de:20b0\n	Flags: fast devsel\n	Memory at f6000000 (32-bit) [size=16M]\n\n";
    assert_eq!(Listing::read(text).unwrap().functions.into_values().next().unwrap().resource, None);
}

#[test]
fn a_missing_group_or_driver_is_absent_only_if_the_text_shows_others() {
    let block = |bdf: &str, lines: &str| {
        format!(
            "{bdf} 0300: 10de:20b0\n	Control: Mem+\n	Status: Cap-\n{lines}	Region 0: Memory at f6000000 (32-bit) [size=16M]\n\n"
        )
    };
    let alone = block("00:02.0", "");
    let found = |text: &str| {
        let shown = Listing::read(text).unwrap().functions.remove(&"00:02.0".parse().unwrap()).unwrap();
        (shown.group, shown.driver)
    };
    assert_eq!(found(&alone), (None, None));
    assert_eq!(found(&(alone.clone() + &block("00:03.0", "	IOMMU group: 4\n"))), (Some(None), None));
    let with_driver = block("00:03.0", "").replace("\n\n", "\n	Kernel driver in use: nvidia\n\n");
    assert_eq!(found(&(alone.clone() + &with_driver)), (None, Some(None)));
    // lspci 3.8 prints the width of windows, and thus would print groups.
    let bridge = with_driver
        + "00:1c.0 0604: 8086:2940\n	Control: Mem+\n	Memory behind bridge: fe600000-fe9fffff [size=4M] [32-bit]\n\n";
    assert_eq!(found(&(alone + &bridge)), (Some(None), Some(None)));
}

/// A hex dump of an endpoint with a PCIe capability; ACS at 100 if `bytes` is 4096.
fn dump(bytes: usize) -> String {
    let mut config = vec![0_u8; bytes];
    config[0..4].copy_from_slice(&[0xde, 0x10, 0xb0, 0x20]);
    (config[4], config[6], config[0x34]) = (2, 0x10, 0x40);
    if bytes > 64 {
        config[0x40..0x44].copy_from_slice(&[0x10, 0, 2, 0]);
    }
    if bytes > 256 {
        config[0x100..0x104].copy_from_slice(&[0x0d, 0, 1, 0]);
        config[0x106] = 0x1d;
    }
    let line = |(at, bytes): (usize, &[u8])| {
        let bytes: String = bytes.iter().map(|byte| format!(" {byte:02x}")).collect();
        format!("{:02x}:{bytes}\n", at * 16)
    };
    config.chunks(16).enumerate().map(line).collect::<String>() + "\n"
}

#[test]
fn reads_hex_dumps() {
    let endpoint = |length| function(&format!("00:02.0 0302: 10de:20b0\n{}", dump(length)), "00:02.0");
    assert_eq!(endpoint(4096).acs, Capability::Present(AcsControl(0x1d)));
    assert_eq!(endpoint(64).acs, Capability::Unknown);
    // -xxx shows 256 bytes of every function.
    let short = endpoint(256);
    assert_eq!((short.acs, short.ats), (Capability::Unknown, Capability::Unknown));
    assert_eq!(short.pcie.present().map(|pcie| pcie.port_type), Some(PortType::Endpoint));
    assert_eq!(short.config.readable_bytes(), 4096);
    // Another function shows that the output has every byte.
    let text = format!("00:02.0 0302: 10de:20b0\n{}00:03.0 0302: 10de:20b0\n{}", dump(256), dump(4096));
    assert_eq!(function(&text, "00:02.0").acs, Capability::Absent);
}

#[test]
fn a_dump_replaces_described_registers() {
    let header = "00:00.0 0600: 8086:29c0\n\n00:02.0 0604: 10de:20b0\n";
    let (described, dumped) = (format!("{header}{PORT}\n"), format!("{header}{}", dump(4096)));
    for texts in [[&described[..], &dumped], [&dumped, &described]] {
        let found = topology(&texts).function("00:02.0".parse().unwrap()).unwrap().clone();
        assert_eq!(found.config.acs_register().present().map(|register| register.offset), Some(0x106));
        assert_eq!(found.membership, GroupMembership::Group(7));
    }
}

#[test]
fn a_register_that_differs_between_texts_is_unknown() {
    let on = format!("00:00.0 0600: 8086:29c0\n\n00:1c.0 0604: 8086:2940\n{PORT}\n");
    let off = on.replace("ACSCtl:	SrcValid+ TransBlk- ReqRedir+", "ACSCtl:	SrcValid+ TransBlk- ReqRedir-");
    let found = topology(&[&on, &off]).function("00:1c.0".parse().unwrap()).unwrap().clone();
    assert_eq!(found.acs, Capability::Unknown);
    assert!(found.pcie.present().is_some());
}

#[test]
fn the_tree_view_shows_the_bridges() {
    let text = "\
-[0000:00]-+-00.0  Intel Corporation Device [8086:29c0]
           \\-01.0-[01-03]----00.0-[02-03]--+-00.0-[02]----00.0  NVIDIA Corporation Device [10de:20b0]
                                           \\-01.0-[03]----00.0  Mellanox Technologies Device [15b3:101d]
";
    let topology = topology(&[text]);
    let above: Vec<_> = topology.bridges_above("02:00.0".parse().unwrap()).iter().map(ToString::to_string).collect();
    assert_eq!(above, ["0000:02:00.0", "0000:01:00.0", "0000:00:01.0"][1..].to_vec());
    let nic = topology.function("03:00.0".parse().unwrap()).unwrap();
    assert_eq!((nic.ids().as_str(), nic.acs), ("15b3:101d", Capability::Unknown));
}

#[test]
fn a_bridge_that_the_text_does_not_list_is_unknown() {
    let endpoint =
        "3b:00.0 0302: 10de:20b0\n	Control: Mem+\n	Status: Cap+\n	Capabilities: [40] Express (v2) Endpoint, MSI 00\n\n";
    let host = "00:00.0 0600: 8086:29c0\n	Control: Mem+\n	Status: Cap-\n\n";
    let unknown = |text: &str| {
        let topology = topology(&[text]);
        let at = topology.position("3b:00.0".parse().unwrap()).unwrap();
        topology.parent_unknown(at)
    };
    assert!(unknown(endpoint));
    assert!(unknown(&format!("{host}{endpoint}")));
    let bridge = "3a:00.0 0604: 8086:2030\n	Control: Mem+\n	Status: Cap+\n	Bus: primary=3a, secondary=3b, subordinate=3b, sec-latency=0\n	Capabilities: [40] Express (v2) Root Port (Slot-), MSI 00\n\n";
    assert!(!unknown(&format!("{host}{bridge}{endpoint}")));
    // The range of a listed bridge contains the bus, but the bridge that leads to it is not listed.
    let switch = bridge.replace("secondary=3b, subordinate=3b", "secondary=39, subordinate=3f");
    assert!(unknown(&format!("{host}{switch}{endpoint}")));
}

#[test]
fn the_first_device_of_a_filtered_text_is_unknown() {
    let port = "00:1c.0 0604: 8086:2940\n	Control: Mem+\n	Status: Cap+\n	Bus: primary=00, secondary=05, subordinate=05, sec-latency=0\n	Capabilities: [40] Express (v2) Root Port (Slot-), MSI 00\n\n";
    let topology = topology(&[port]);
    assert!(topology.parent_unknown(topology.position("00:1c.0".parse().unwrap()).unwrap()));
}

#[test]
fn rejects_more_functions_than_a_host_has() {
    let text: String =
        (0..=FUNCTION_LIMIT).map(|at| format!("{:04x}:{:02x}:00.0 0300: 10de:20b0\n", at / 256, at % 256)).collect();
    assert_eq!(Listing::read(&text), Err(NotOneHost::TooManyFunctions));
}

#[test]
fn cycles_of_bridges_end() {
    let bridge = |bus: u8, below: u8| {
        format!(
            "{bus:02x}:00.0 0604: 8086:2940\n	Control: Mem+\n	Status: Cap+\n	Bus: primary={bus:02x}, secondary={below:02x}, subordinate={below:02x}, sec-latency=0\n\n"
        )
    };
    let text = bridge(1, 2) + &bridge(2, 3) + &bridge(3, 1);
    assert_eq!(topology(&[&text]).functions().len(), 3);
}
