//! Predictions and findings for hosts that were rebuilt from public reports (`fixtures/hosts`).

mod support;

use std::path::{Path, PathBuf};

use Status::{Fail, Pass, Unknown, Warn};
use peerpath_paths::doctor::{Finding, Selection, Status, run_checks};
use peerpath_paths::{
    Cause, HostFacts, Inventory, Limits, Platform, Request, Tree, public_command_line, write_snapshot,
};

use support::{EPYC, INTEL, Kind, Machine, bdf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hosts")
}

fn tree(host: &str, variant: &str) -> Tree {
    Tree::open(&folder().join(host).join(format!("{variant}.tar.gz"))).unwrap()
}

/// The snapshots of all hosts: the name of the host, the name of the variant.
fn variants() -> Vec<(String, String)> {
    let names = |path: &Path| -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    };
    let hosts = names(&folder()).into_iter().filter(|name| !name.contains('.') || folder().join(name).is_dir());
    hosts
        .flat_map(|host| {
            let files = names(&folder().join(&host));
            files
                .into_iter()
                .filter_map(|file| Some(file.strip_suffix(".tar.gz")?.to_owned()))
                .map(|variant| (host.clone(), variant))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn findings_of(tree: &Tree, from: Option<&str>, to: Option<&str>) -> Vec<Finding> {
    let selection = Selection { from: from.map(bdf), to: to.map(bdf), ..Selection::default() };
    run_checks(tree, &Inventory::read(tree), &selection, None)
}

fn doctor(host: &str, variant: &str) -> Vec<Finding> {
    findings_of(&tree(host, variant), None, None)
}

fn pair(host: &str, variant: &str, from: &str, to: &str) -> Vec<Finding> {
    findings_of(&tree(host, variant), Some(from), Some(to))
}

fn of<'a>(findings: &'a [Finding], check: &str) -> Vec<&'a Finding> {
    findings.iter().filter(|finding| finding.check == check).collect()
}

/// Asserts that a finding of the check has this status and contains all words in its detail and remedy.
#[track_caller]
fn expect(findings: &[Finding], check: &str, status: Status, words: &[&str]) {
    let text = |finding: &Finding| format!("{} {}", finding.detail, finding.remedy.as_deref().unwrap_or_default());
    let fits = |finding: &&Finding| finding.status == status && words.iter().all(|word| text(finding).contains(word));
    assert!(of(findings, check).iter().any(fits), "{words:?} in {:#?}", of(findings, check));
}

#[track_caller]
fn expect_nothing(findings: &[Finding], check: &str) {
    assert!(of(findings, check).is_empty(), "{:#?}", of(findings, check));
}

/// Asserts that no finding mentions a text.
#[track_caller]
fn expect_no_text(findings: &[Finding], text: &str) {
    let mentions = |finding: &&Finding| {
        finding.detail.contains(text) || finding.remedy.as_deref().is_some_and(|remedy| remedy.contains(text))
    };
    assert_eq!(findings.iter().find(mentions), None);
}

#[test]
fn a_p2pdma_refusal_does_not_fail_a_host_whose_gpu_driver_skips_the_check() {
    let findings = doctor("17-arrow-lake-gpu-nic", "host");
    expect(&findings, "path", Warn, &["NVIDIA's driver maps GPU memory without the P2PDMA check"]);
    assert!(of(&findings, "path").iter().all(|finding| finding.status != Fail));
}

#[test]
fn a_kernel_without_iommu_groups_does_not_show_that_no_iommu_exists() {
    let inventory = Inventory::read(&tree("18-x58-nf200-dump", "host"));
    let predictor = inventory.predictor(Request::default());
    for exporter in predictor.exporters() {
        assert!(!predictor.exporter_blockers(exporter).contains(&Cause::NoIommu), "{exporter}");
    }
}

#[test]
fn no_advice_binds_a_function_where_no_iommu_is_possible() {
    for (host, variant) in
        variants().into_iter().filter(|(host, _)| ["10-pi5-i350", "13-aws-f1"].contains(&host.as_str()))
    {
        let tree = tree(&host, &variant);
        let inventory = Inventory::read(&tree);
        let predictor = inventory.predictor(Request::default());
        let (Some(from), Some(to)) = (predictor.exporters().next(), predictor.importers().last()) else {
            panic!("{host}")
        };
        let report = predictor.explain(from, to).unwrap();
        assert!(report.would_change.iter().all(|change| !change.contains("enable the IOMMU")), "{report:#?}");
        for findings in [doctor(&host, &variant), findings_of(&tree, Some(&from.to_string()), Some(&to.to_string()))] {
            for text in ["with `peerpath bind", "modprobe vfio-pci", "bind it to vfio-pci"] {
                expect_no_text(&findings, text);
            }
        }
    }
}

#[test]
fn boot_options_are_judged_with_their_quotes_and_lists() {
    let machine = |line: &str| {
        Machine::new(EPYC).command_line(line).add("0000:00:01.0", None, Kind::RootPort, |port| port.acs(0x1d)).add(
            "0000:00:02.0",
            None,
            Kind::RootPort,
            |port| port.acs(0x1d),
        )
    };
    let options = |line: &str| findings_of(&machine(line).tree(), None, None);
    for line in ["pci='disable_acs_redir=00:01.0;00:02.0'", "'pci=disable_acs_redir=00:01.0;00:02.0'"] {
        expect(
            &options(line),
            "boot-options",
            Warn,
            &["single quotes", "Boot with pci=disable_acs_redir=00:01.0;00:02.0"],
        );
    }
    let listed = options("pci=disable_acs_redir=* pci=disable_acs_redir=00:01.0; pci=disable_acs_redir=00:02.0");
    expect(&listed, "boot-options", Warn, &["given 3 times", "Boot with pci=disable_acs_redir=00:01.0;00:02.0"]);
    let empty = options("pci=disable_acs_redir=00:01.0;;00:02.0");
    expect(&empty, "boot-options", Warn, &["contains an empty entry"]);
    expect(&options("pci=disable_acs_redir=pci:10b5:8749"), "boot-options", Warn, &["lspci -nn"]);
    expect(&options("pcie_bus_safe"), "boot-options", Warn, &["pci=pcie_bus_safe"]);
    let kept = options("pci=disable_acs_redir=00:01.0;00:02.0");
    assert_eq!(of(&kept, "boot-options").len(), 1, "{kept:#?}");
    expect(&kept, "boot-options", Warn, &["0000:00:01.0", "0000:00:02.0", "still set"]);
}

#[test]
fn a_list_that_is_on_the_command_line_is_not_advised_again() {
    let machine = Machine::new(INTEL)
        .command_line("pci=disable_acs_redir=02:00.0;02:01.0")
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, |port| port)
        .add("0000:02:00.0", Some("0000:01:00.0"), Kind::Downstream, |port| port.acs(0x1d))
        .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, |port| port.acs(0x1d))
        .endpoint("0000:03:00.0", "0000:02:00.0")
        .endpoint("0000:04:00.0", "0000:02:01.0");
    for findings in [
        findings_of(&machine.tree(), None, None),
        findings_of(&machine.tree(), Some("0000:03:00.0"), Some("0000:04:00.0")),
    ] {
        expect(&findings, "acs-redirect", Warn, &["see the check boot-options"]);
        expect_no_text(&findings, "Boot with pci=disable_acs_redir");
        expect_no_text(&findings, "at boot: pci=disable_acs_redir");
    }
}

// ---- predictions

#[test]
fn every_pair_has_the_path_of_the_kernels_rules() {
    let mut compared = 0;
    for host in std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let table = std::fs::read_to_string(host.join("pairs.tsv")).unwrap();
        for line in table.lines().skip(1) {
            let cells: Vec<_> = line.split('\t').collect();
            let [variant, from, to, right] = cells[..4] else { panic!("{line}") };
            let inventory = Inventory::read(&Tree::open(&host.join(format!("{variant}.tar.gz"))).unwrap());
            let report = inventory.predictor(Request::default()).explain(bdf(from), bdf(to));
            let report = report.unwrap_or_else(|| panic!("{}: {line}", host.display()));
            assert_eq!(report.predicted.to_string(), right, "{}: {line}: {report:#?}", host.display());
            compared += 1;
        }
    }
    assert!(compared >= 33, "{compared}");
}

#[test]
fn a_snapshot_of_a_host_gives_the_same_findings() {
    for (host, variant) in variants() {
        // Skip manual copies: a snapshot contains a file of facts that they lack, so some checks would report more.
        let tree = tree(&host, &variant);
        if !tree.has("peerpath/facts.json") {
            continue;
        }
        let bytes = write_snapshot(&tree, &HostFacts::read(&tree), Vec::new()).unwrap();
        let again = Tree::from_archive(&bytes[..], &Limits::default()).unwrap();
        assert_eq!(findings_of(&tree, None, None), findings_of(&again, None, None), "{host} {variant}");
    }
}

#[test]
fn every_finding_is_a_sentence_with_a_remedy() {
    for (host, variant) in variants() {
        let tree = tree(&host, &variant);
        let inventory = Inventory::read(&tree);
        let functions: Vec<String> =
            inventory.topology.functions().iter().map(|function| function.bdf.to_string()).collect();
        let ends = [functions.first(), functions.last()].map(|bdf| bdf.map(String::as_str));
        for findings in
            [findings_of(&tree, None, None), findings_of(&tree, ends[0], ends[1]), findings_of(&tree, ends[1], None)]
        {
            for finding in findings {
                assert!(finding.detail.ends_with('.'), "{host} {variant}: {finding:#?}");
                assert_eq!(finding.remedy.is_some(), finding.status != Pass, "{host} {variant}: {finding:#?}");
                assert!(finding.cause.is_some() || finding.status != Fail, "{host} {variant}: {finding:#?}");
                assert!(
                    finding.remedy.as_ref().is_none_or(|remedy| remedy.ends_with('.')),
                    "{host} {variant}: {finding:#?}"
                );
            }
        }
    }
}

// ---- manually copied trees

#[test]
fn unknown_bars_are_not_absent_bars() {
    let findings = doctor("14-power9-ac922", "gathered");
    expect(&findings, "exporter", Unknown, &["resource"]);
    expect_no_text(&findings, "ivshmem-plain");
    let tree = tree("14-power9-ac922", "gathered");
    let inventory = Inventory::read(&tree);
    let reports: Vec<_> = inventory.reports(None, None, Request::default()).collect();
    assert!(!reports.is_empty(), "functions with unknown BARs may export");
    assert!(reports.iter().all(|report| !report.blockers.contains(&Cause::BarNotExportable)));
    expect(&findings_of(&tree, Some("0004:05:00.0"), None), "bar", Unknown, &["resource"]);
}

#[test]
fn functions_without_their_link_are_found() {
    let inventory = Inventory::read(&tree("15-skx-nec-gathered", "host"));
    let bridge = bdf("0000:5f:03.0");
    assert!(inventory.topology.function(bridge).is_some());
    assert_eq!(inventory.topology.bridges_above(bdf("0000:60:00.0"))[0], bridge);
    let without_links = Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .endpoint("0000:01:00.0", "0000:00:01.0")
        .endpoint("0000:01:00.1", "0000:00:01.0")
        .without("sys/bus/pci/devices/0000:01:00.1")
        .without("sys/bus/pci/devices/0000:00:01.0");
    let topology = without_links.inventory().topology;
    assert_eq!(topology.functions().len(), 3);
    assert_eq!(topology.bridges_above(bdf("0000:01:00.1")), [bdf("0000:00:01.0")]);
}

#[test]
fn a_flat_copy_without_bridges_leaves_the_path_unknown() {
    let inventory = Inventory::read(&tree("14-power9-ac922", "gathered"));
    let different = inventory.reports(None, None, Request::default()).find(|report| report.from != report.to).unwrap();
    assert_eq!(different.predicted.to_string(), "unknown", "{different:#?}");
    assert!(!different.unknown.is_empty());
}

#[test]
fn a_missing_enumeration_order_is_assumed_and_reported() {
    let machine = Machine::new(INTEL)
        .add("0000:00:00.0", None, Kind::Conventional, |bridge| bridge.ids((0x8086, 0x2020)))
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add("0000:00:02.0", None, Kind::RootPort, |port| port)
        .endpoint("0000:01:00.0", "0000:00:01.0")
        .endpoint("0000:02:00.0", "0000:00:02.0")
        .without("proc/bus/pci/devices");
    let report = machine.report("0000:01:00.0", "0000:02:00.0");
    assert_eq!(report.predicted.to_string(), "host-bridge-translated");
    assert!(report.deciding.fact.contains("assumed order of a boot"), "{}", report.deciding.fact);
}

#[test]
fn groups_without_a_pci_function_show_no_iommu_for_pci() {
    for variant in ["host", "linux-7.2"] {
        let findings = doctor("10-pi5-i350", variant);
        expect(&findings, "iommu", Fail, &["No PCI function is in an IOMMU group", "2 groups hold devices of the SoC"]);
        expect(&findings, "iommu", Fail, &["no setting enables one"]);
        expect_nothing(&findings, "multi-range");
        expect_no_text(&findings, "in the firmware");
        let findings = pair("10-pi5-i350", variant, "0001:01:00.0", "0001:01:00.1");
        expect(&findings, "iommu", Fail, &["no setting enables one", "host memory"]);
        expect_no_text(&findings, "SMMU");
    }
}

// ---- platforms

#[test]
fn recognizes_the_platforms_of_the_hosts() {
    for (host, platform) in [
        ("01-rkl-two-b70/acs-on", None),
        ("03-turin-b200/root", None),
        ("08-kunpeng-920/host", Some(Platform::Kunpeng)),
        ("09-dgx-spark/host", Some(Platform::DgxSpark)),
        ("10-pi5-i350/host", Some(Platform::RaspberryPi)),
        ("13-aws-f1/host", Some(Platform::Aws)),
        ("14-power9-ac922/host", Some(Platform::PowerNv)),
        ("14-power9-ac922/gathered", Some(Platform::PowerNv)),
        ("16-kgpe-d16/host", None),
    ] {
        let (name, variant) = host.split_once('/').unwrap();
        let inventory = Inventory::read(&tree(name, variant));
        assert_eq!(Platform::of(&inventory.host, &inventory.topology), platform, "{host}");
    }
}

#[test]
fn advises_only_what_the_platform_permits() {
    for (host, variant) in
        [("09-dgx-spark", "host"), ("10-pi5-i350", "host"), ("10-pi5-i350", "linux-7.2"), ("13-aws-f1", "host")]
    {
        let tree = tree(host, variant);
        let inventory = Inventory::read(&tree);
        for report in inventory.reports(None, None, Request::default()) {
            assert!(!report.would_change.iter().any(|change| change.contains("move ")), "{host}: {report:#?}");
        }
        let ends = inventory.predictor(Request::default()).exporters().collect::<Vec<_>>();
        let [from, to] = [ends[0].to_string(), ends[ends.len() - 1].to_string()];
        let findings = findings_of(&tree, Some(&from), Some(&to));
        // NVIDIA's driver maps without the P2PDMA check, so a refusal is a warning there.
        let status = if host == "09-dgx-spark" { Warn } else { Fail };
        expect(&findings, "path", status, &["host memory"]);
        expect_no_text(&findings, "move ");
        expect_no_text(&findings, "Move ");
        expect_no_text(&findings, "QEMU");
    }
    expect(&doctor("13-aws-f1", "host"), "iommu", Fail, &["AWS", ".metal"]);
}

/// A machine without an IOMMU, with two functions below two root ports.
fn machine(cpuinfo: &str) -> Machine {
    Machine::new(cpuinfo)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port.ids((0x8086, 0x1234)))
        .add("0000:00:02.0", None, Kind::RootPort, |port| port.ids((0x8086, 0x1234)))
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Endpoint, |device| device.ids((0x144d, 0xa80a)))
        .add("0000:02:00.0", Some("0000:00:02.0"), Kind::Endpoint, |device| device.ids((0x144d, 0xa80a)))
        .no_iommu()
}

fn platform(machine: &Machine) -> Option<Platform> {
    let inventory = machine.inventory();
    Platform::of(&inventory.host, &inventory.topology)
}

#[test]
fn recognizes_hypervisors() {
    let guest = || machine(&INTEL.replace("fpu", "fpu hypervisor"));
    let dmi = |vendor: &str, product: &str| {
        guest().file("sys/class/dmi/id/sys_vendor", vendor).file("sys/class/dmi/id/product_name", product)
    };
    assert_eq!(platform(&machine(INTEL)), None);
    assert_eq!(platform(&guest()), Some(Platform::VirtualMachine));
    assert_eq!(platform(&dmi("QEMU", "Standard PC (Q35 + ICH9, 2009)")), Some(Platform::Qemu));
    assert_eq!(platform(&dmi("Microsoft Corporation", "Virtual Machine")), Some(Platform::HyperV));
    assert_eq!(platform(&dmi("VMware, Inc.", "VMware20,1")), Some(Platform::Vmware));
    assert_eq!(platform(&dmi("Amazon EC2", "p5.48xlarge")), Some(Platform::Aws));
    assert_eq!(platform(&dmi("Google", "Google Compute Engine")), Some(Platform::GoogleCloud));
    let metal = machine(INTEL)
        .file("sys/class/dmi/id/sys_vendor", "Amazon EC2")
        .file("sys/class/dmi/id/product_name", "c5.metal");
    assert_eq!(platform(&metal), None);

    let dom0 = guest().file("sys/hypervisor/type", "xen\n").file("proc/xen/capabilities", "control_d\n");
    assert_eq!(platform(&dom0), Some(Platform::XenDom0));
    let findings = findings_of(&dom0.tree(), None, None);
    expect(&findings, "iommu", Fail, &["Xen", "without Xen"]);
    // A snapshot contains the files that identify the platform.
    let bytes = write_snapshot(&dom0.tree(), &HostFacts::default(), Vec::new()).unwrap();
    let again = Inventory::read(&Tree::from_archive(&bytes[..], &Limits::default()).unwrap());
    assert_eq!(again.host.platform, Some(Platform::XenDom0));
    assert_eq!(platform(&dmi("Xen", "HVM domU").file("sys/hypervisor/type", "xen\n")), Some(Platform::XenGuest));

    let azure = Machine::new(&INTEL.replace("fpu", "fpu hypervisor"))
        .add("8c5f:00:02.0", None, Kind::Endpoint, |device| {
            device.ids((0x15b3, 0x101a)).host("LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00/47505500-0001".to_owned())
        })
        .no_iommu();
    assert_eq!(platform(&azure), Some(Platform::HyperV));
    let findings = findings_of(&azure.tree(), None, None);
    expect(&findings, "iommu", Fail, &["Hyper-V", "host memory"]);
    expect_no_text(&findings, "virtual IOMMU");
    expect_no_text(&findings, "VT-d");
}

#[test]
fn advises_to_switch_vmd_off_in_the_firmware() {
    let vmd = Machine::new(INTEL)
        .add("0000:00:0e.0", None, Kind::Endpoint, |device| {
            device.ids((0x8086, 0x28c0)).class(0x01_0400).driver("vmd").group(3)
        })
        .add("10000:e0:01.0", None, Kind::RootPort, |port| port.host("pci0000:00/0000:00:0e.0".to_owned()).group(3))
        .add("10000:e0:03.0", None, Kind::RootPort, |port| port.host("pci0000:00/0000:00:0e.0".to_owned()).group(3))
        .add("10000:e1:00.0", Some("10000:e0:01.0"), Kind::Endpoint, |drive| drive.group(3))
        .add("10000:e2:00.0", Some("10000:e0:03.0"), Kind::Endpoint, |nic| nic.group(3).driver("mlx5_core"));
    let findings = findings_of(&vmd.tree(), Some("10000:e1:00.0"), Some("10000:e2:00.0"));
    expect(&findings, "path", Fail, &["Switch VMD (0000:00:0e.0) off in the firmware"]);
    expect(&findings, "iommu-group", Fail, &["Switch VMD (0000:00:0e.0) off in the firmware"]);
    expect(&findings, "vmd", Warn, &["10000:e1:00.0, 10000:e2:00.0 are behind this VMD controller"]);
    expect_no_text(&findings, "move ");
}

#[test]
fn a_controller_without_the_vmd_driver_is_not_a_vmd_controller() {
    let below = "pci0000:00/0000:00:0e.0".to_owned();
    let machine = Machine::new(INTEL)
        .add("0000:00:0e.0", None, Kind::Endpoint, |device| device.driver("xilinx-bridge").group(3))
        .add("0001:e0:01.0", None, Kind::RootPort, |port| port.host(below.clone()).group(3))
        .add("0001:e0:03.0", None, Kind::RootPort, |port| port.host(below).group(3))
        .add("0001:e1:00.0", Some("0001:e0:01.0"), Kind::Endpoint, |drive| drive.group(3))
        .add("0001:e2:00.0", Some("0001:e0:03.0"), Kind::Endpoint, |nic| nic.group(3).driver("mlx5_core"));
    let findings = findings_of(&machine.tree(), Some("0001:e1:00.0"), Some("0001:e2:00.0"));
    expect(&findings, "path", Fail, &["below one switch"]);
    expect_nothing(&findings, "vmd");
    expect_no_text(&findings, "VMD");
}

#[test]
fn a_function_of_the_chip_set_cannot_move() {
    let machine = Machine::new(INTEL)
        .add("0000:00:00.0", None, Kind::Conventional, |bridge| bridge)
        .add("0000:00:02.0", None, Kind::Endpoint, |gpu| gpu.class(0x03_0000))
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .endpoint("0000:01:00.0", "0000:00:01.0");
    let findings = findings_of(&machine.tree(), Some("0000:01:00.0"), Some("0000:00:02.0"));
    expect(&findings, "path", Fail, &["0000:00:02.0 is part of the processor or the chipset", "host memory"]);
    expect_no_text(&findings, "ove both functions");
}

#[test]
fn power_refuses_before_it_maps() {
    let findings = pair("14-power9-ac922", "host", "0004:04:00.0", "0003:01:00.0");
    expect(
        &findings,
        "path",
        Warn,
        &[
            "The P2PDMA check would refuse this pair",
            "NVIDIA's driver maps the memory without \
                       the check",
        ],
    );
    expect_no_text(&findings, "ove both functions");
    let findings = doctor("14-power9-ac922", "host");
    expect(&findings, "legacy-dma", Pass, &[]);
    expect(&findings, "gpu-module", Warn, &["do not exist for this architecture", "nvidia-peermem"]);
    expect_no_text(&findings, "Install the open kernel modules");
    expect(&findings, "iommu", Pass, &["without a type"]);
}

// ---- the command line of the kernel

#[test]
fn names_every_option_that_switches_the_iommu_off() {
    for variant in ["user", "root"] {
        let findings = doctor("03-turin-b200", variant);
        expect(&findings, "iommu", Fail, &["Boot without amd_iommu=off and iommu=off"]);
        expect(&findings, "boot-options", Warn, &["no option pci=noacs", "no effect", "disable_acs_redir"]);
    }
    expect(&doctor("05-trpro-ada-cx7", "host"), "iommu", Fail, &["Boot without amd_iommu=off."]);
    expect(&doctor("17-arrow-lake-gpu-nic", "host"), "iommu", Fail, &["Boot without intel_iommu=off."]);
    let with = |cpuinfo: &str, line: &str| findings_of(&machine(cpuinfo).command_line(line).tree(), None, None);
    expect(
        &with(INTEL, "intel_iommu=off intel_iommu=on"),
        "iommu",
        Fail,
        &["VT-d in the firmware: intel_iommu=on is set"],
    );
    expect(&with(INTEL, "amd_iommu=off"), "iommu", Fail, &["VT-d"]);
    expect(&with(INTEL, "intel_iommu=off iommu=off"), "iommu", Fail, &["without intel_iommu=off and iommu=off"]);
}

#[test]
fn reports_boot_options_without_effect() {
    let with = |cpuinfo: &str, line: &str| findings_of(&machine(cpuinfo).command_line(line).tree(), None, None);
    for (line, words) in [
        ("iommu_pt", &["no option iommu_pt", "iommu=pt"][..]),
        ("pci=realloc,noacs", &["no option pci=noacs"]),
        (
            "pcie_acs_override=downstream,multifunction",
            &["no option pcie_acs_override=downstream,multifunction", "patch"],
        ),
        ("amd_iommu=off", &["amd_iommu=off applies to AMD processors"]),
        ("intel_iommu=pt", &["no option intel_iommu=pt", "iommu=pt"]),
        ("disable_acs_redir=0000:00:01.0", &["as part of pci="]),
        ("pci=disable_acs_redir=0000:07:00.0", &["no such function exists"]),
        ("pci=disable_acs_redir=0000:01:00.0", &["not a bridge and has no ACS"]),
        ("vfio-pci.ids=10de:2901", &["10de:2901"]),
    ] {
        expect(&with(INTEL, line), "boot-options", Warn, words);
    }
    expect(&with(EPYC, "amd_iommu=on"), "boot-options", Warn, &["no option amd_iommu=on", "without an option"]);
    let arm = "processor\t: 0\nCPU implementer\t: 0x41\nFeatures\t: fp\n";
    expect(&with(arm, "iommu=pt"), "boot-options", Warn, &["iommu.passthrough=1"]);
    for line in [
        "intel_iommu=on,sm_on iommu=pt pci=realloc=off,nommconf,pcie_bus_perf",
        "iommu.strict=0 quiet pcie_aspm=off",
        "",
    ] {
        expect(&with(INTEL, line), "boot-options", Pass, &[]);
    }
    expect(
        &findings_of(&machine(INTEL).without("proc/cmdline").tree(), None, None),
        "boot-options",
        Unknown,
        &["cmdline"],
    );
}

/// A switch whose two ports have the given ACS control, with two display controllers.
fn switch(line: &str, acs: u16) -> Machine {
    let gpu = |function: support::Function| function.class(0x03_0000).ids((0x8086, 0xe223)).driver("xe");
    Machine::new(INTEL)
        .command_line(line)
        .add("0000:00:00.0", None, Kind::Conventional, |bridge| bridge)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port.acs(0x1d))
        .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, |port| port)
        .add("0000:02:00.0", Some("0000:01:00.0"), Kind::Downstream, |port| port.acs(acs))
        .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, |port| port.acs(acs))
        .add("0000:03:00.0", Some("0000:02:00.0"), Kind::Endpoint, gpu)
        .add("0000:04:00.0", Some("0000:02:01.0"), Kind::Endpoint, gpu)
}

#[test]
fn reports_a_list_of_functions_that_ends_at_a_comma() {
    let options = |line: &str| findings_of(&switch(line, 0).tree(), None, None);
    expect(
        &options("pci=disable_acs_redir=0000:02:00.0,0000:02:01.0"),
        "boot-options",
        Warn,
        &["ends at the first comma", "contains 0000:02:00.0 only", "'pci=disable_acs_redir=0000:02:00.0;0000:02:01.0'"],
    );
    expect(&options("pci=disable_acs_redir=02:00.0;02:01.0,noats"), "boot-options", Pass, &[]);
    expect(&options("pci=disable_acs_redir=0:1.0/0.0/0.0"), "boot-options", Pass, &[]);
    expect(
        &options("pci=config_acs=xx00@0000:02:00.0;0000:02:01.0"),
        "boot-options",
        Warn,
        &["no flags for 0000:02:01.0"],
    );
    expect(
        &options("pci=disable_acs_redir=0000:02:00.0 pci=disable_acs_redir=0000:02:01.0"),
        "boot-options",
        Warn,
        &["given 2 times", "the kernel uses only the last list"],
    );
    let kept = findings_of(&switch("pci=disable_acs_redir=02:00.0", 0x1d).tree(), None, None);
    expect(&kept, "boot-options", Warn, &["redirect is still set"]);
}

// ---- links and DMA

#[test]
fn the_display_controller_of_a_bmc_has_no_memory_to_transfer() {
    let machine = |display: (u16, u16)| {
        Machine::new(INTEL)
            .add("0000:00:01.0", None, Kind::RootPort, |port| port)
            .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, |port| port)
            .add("0000:02:00.0", Some("0000:01:00.0"), Kind::Downstream, |port| port.acs(0x1d))
            .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, |port| port.acs(0x1d))
            .add("0000:03:00.0", Some("0000:02:00.0"), Kind::Endpoint, |gpu| {
                gpu.ids(display).class(0x03_0000).no_driver()
            })
            .add("0000:04:00.0", Some("0000:02:01.0"), Kind::Endpoint, |nic| nic.class(0x02_0000).driver("mlx5_core"))
    };
    expect(&findings_of(&machine((0x10de, 0x2b85)).tree(), None, None), "acs-redirect", Warn, &["0000:03:00.0"]);
    for bmc in [(0x1a03, 0x2000), (0x102b, 0x0536)] {
        expect_nothing(&findings_of(&machine(bmc).tree(), None, None), "acs-redirect");
    }
}

#[test]
fn reports_acs_redirect_between_two_display_controllers() {
    let findings = doctor("01-rkl-two-b70", "acs-on");
    expect(
        &findings,
        "acs-redirect",
        Warn,
        &[
            "0000:0e:00.0 (display controller)",
            "0000:12:00.0 (display controller)",
            "'pci=disable_acs_redir=",
            "refuses",
        ],
    );
    expect_nothing(&doctor("01-rkl-two-b70", "acs-off"), "acs-redirect");
    let findings = pair("01-rkl-two-b70", "acs-on", "0000:0e:00.0", "0000:12:00.0");
    expect(&findings, "acs-redirect", Warn, &["'pci=disable_acs_redir="]);
    expect(&pair("01-rkl-two-b70", "acs-off", "0000:0e:00.0", "0000:12:00.0"), "acs-redirect", Pass, &[]);
    expect(
        &findings_of(&switch("quiet", 0x1d).tree(), None, None),
        "acs-redirect",
        Warn,
        &["0000:02:00.0;0000:02:01.0"],
    );
    expect_nothing(&findings_of(&switch("quiet", 0x01).tree(), None, None), "acs-redirect");
}

#[test]
fn reports_an_importer_without_bus_mastering() {
    let findings = pair("13-aws-f1", "no-bus-master", "0000:00:1d.0", "0000:00:0f.0");
    expect(&findings, "bus-master", Warn, &["sends no DMA at all"]);
    expect(&pair("13-aws-f1", "host", "0000:00:1d.0", "0000:00:0f.0"), "bus-master", Pass, &[]);
}

#[test]
fn reports_links_below_their_capability() {
    let linked = |class: u32, now: (u8, u8), card: (u8, u8), slot: (u8, u8)| {
        let machine = Machine::new(EPYC).add("0000:00:01.0", None, Kind::RootPort, |port| port.link([now, slot])).add(
            "0000:01:00.0",
            Some("0000:00:01.0"),
            Kind::Endpoint,
            |device| device.class(class).link([now, card]),
        );
        findings_of(&machine.tree(), Some("0000:01:00.0"), None)
    };
    const NIC: u32 = 0x02_0000;
    const GPU: u32 = 0x03_0200;
    expect(
        &linked(NIC, (5, 8), (5, 16), (5, 16)),
        "link",
        Warn,
        &["32 GT/s x8; both ends support 32 GT/s x16", "loses 31.5 GB/s of 63.0 GB/s per direction", "Reseat"],
    );
    expect(
        &linked(NIC, (3, 16), (4, 16), (5, 16)),
        "link",
        Warn,
        &[
            "8 GT/s x16; both ends support 16 GT/s x16",
            "loses 15.8 GB/s of 31.5 GB/s per direction, and 15.8 GB/s remain",
        ],
    );
    expect(&linked(GPU, (1, 16), (4, 16), (4, 16)), "link", Unknown, &["when idle", "under load"]);
    // The slot limits the card, so the link has the best speed and width that both ends support.
    expect(&linked(NIC, (4, 8), (5, 16), (4, 8)), "link", Pass, &[]);
    expect_nothing(&linked(NIC, (0, 0), (5, 16), (5, 16)), "link");
}

#[test]
fn payload_sizes_matter_only_between_a_sender_and_its_receivers() {
    let sizes = |upper: u16, from: u16, to: u16| {
        let control = |size: u16| (size / 128).ilog2() as u16 * 0x20;
        let machine = Machine::new(EPYC)
            .add("0000:00:01.0", None, Kind::RootPort, |port| port.device_control(control(upper)))
            .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, |port| port.device_control(control(upper)))
            .add("0000:02:00.0", Some("0000:01:00.0"), Kind::Downstream, |port| port.device_control(control(upper)))
            .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, |port| port.device_control(control(upper)))
            .add("0000:03:00.0", Some("0000:02:00.0"), Kind::Endpoint, |device| device.device_control(control(from)))
            .add("0000:04:00.0", Some("0000:02:01.0"), Kind::Endpoint, |device| device.device_control(control(to)));
        findings_of(&machine.tree(), Some("0000:03:00.0"), Some("0000:04:00.0"))
    };
    expect(&sizes(512, 256, 256), "max-payload", Pass, &["no sender exceeds"]);
    expect(
        &sizes(512, 256, 512),
        "max-payload",
        Warn,
        &["0000:04:00.0 sends payloads of up to 512 bytes, but 0000:03:00.0 accepts only 256"],
    );
    expect(&sizes(256, 256, 256), "max-payload", Pass, &["256 bytes along the whole path"]);
    // Two root ports: the root complex may split TLPs, and the sizes below each root port agree.
    let findings = pair("03-turin-b200", "root", "0000:a3:00.0", "0000:e3:00.0");
    expect(&findings, "max-payload", Pass, &["no sender exceeds"]);
}

#[test]
fn reports_functions_whose_ats_is_always_on() {
    let arm = "processor\t: 0\nCPU implementer\t: 0x41\nFeatures\t: fp\n";
    let machine = |kernel: &str, ids: (u16, u16)| {
        let machine = Machine::new(arm)
            .kernel(kernel)
            .add("000f:00:00.0", None, Kind::RootPort, |port| port.ids((0x10de, 0x22d1)))
            .add("000f:01:00.0", Some("000f:00:00.0"), Kind::Endpoint, |gpu| gpu.ids(ids).ats(true).class(0x03_0000));
        findings_of(&machine.tree(), None, None)
    };
    expect(&machine("7.3.4", (0x10de, 0x2e12)), "ats-required", Warn, &["keeps ATS", "identity domain"]);
    expect_nothing(&machine("7.2.12", (0x10de, 0x2e12)), "ats-required");
    expect_nothing(&machine("7.3.4", (0x10de, 0x2901)), "ats-required");
}

#[test]
fn files_that_were_not_copied_are_named() {
    let machine = |missing: &str| findings_of(&machine(INTEL).without(missing).tree(), None, None);
    expect(
        &machine("*/config"),
        "config-space",
        Unknown,
        &["does not contain the config space", "Copy the file config"],
    );
    expect(&machine("*/resource"), "exporter", Unknown, &["file resource"]);
    // A copy of sysfs without symlinks (`iommu_group`, `subsystem`) and without the folder `devices` of each group does not show
    // which functions are in a group. The absence of `subsystem` shows that the copy has no symlinks.
    let types_only = self::machine(INTEL)
        .without("*/subsystem")
        .file("sys/kernel/iommu_groups/0/type", "DMA-FQ\n")
        .file("sys/kernel/iommu_groups/1/type", "DMA-FQ\n");
    expect(&findings_of(&types_only.tree(), None, None), "iommu", Unknown, &["does not show the IOMMU groups"]);
    // This kernel is older than IOMMU groups, so missing groups do not show that no IOMMU is enabled.
    expect(&doctor("18-x58-nf200-dump", "host"), "iommu", Unknown, &["shows no IOMMU groups"]);
    expect(&doctor("18-x58-nf200-dump", "host"), "boot-options", Unknown, &["proc/cmdline"]);
}

#[test]
fn devices_are_found_below_their_function() {
    let function = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0";
    let tree = machine(EPYC).file(&format!("{function}/infiniband/mlx5_0/node_type"), "1: CA\n").tree();
    assert_eq!(Inventory::read(&tree).function_under("verbs:mlx5_0"), Some(bdf("0000:01:00.0")));
}

/// Tests the hosts of the fixtures with their own command line and one full of mistakes, each with non-public parameters.
#[test]
fn findings_do_not_depend_on_parameters_that_are_not_public() {
    let mistakes = "pcie_acs_override=downstream,multifunction iommu=on intel_iommu=pt 'pci=disable_acs_redir=01:00.0;02:00.0' \
                    pci=noacs smmu.bypassdev=0x0 pci-stub.ids=1234:5678 noats acpi=off swiotlb=\"force\" xen-pciback.hide=(01:00.0)";
    let mut lines = 0;
    for (host, variant) in variants() {
        let tree = || tree(&host, &variant);
        let own = tree().text("proc/cmdline");
        lines += usize::from(own.is_some());
        for line in own.as_deref().into_iter().chain([mistakes]) {
            let whole = format!("root=UUID=1 iscsi_password=secret note=\"a iommu=off b\" {line} -- iommu=off");
            let with = |line: &str| findings_of(&tree().with_command_line(line), None, None);
            assert_eq!(with(&whole), with(&public_command_line(&whole)), "{host} {variant}: {line}");
        }
    }
    assert!(lines > 10, "{lines} hosts have a command line");
}
