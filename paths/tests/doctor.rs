//! The findings of doctor for constructed hosts, check by check.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use Status::{Fail, Pass, Unknown, Warn};
use peerpath_paths::doctor::{CHECKS, Finding, GpuFacts, Gpus, LiveFacts, Selection, Status, Use, run_checks};
use peerpath_paths::{Cause, Explanation, Inventory, Tree};

use support::{EPYC, INTEL, Kind, Machine, bdf};

const A: &str = "0000:01:00.0";
const B: &str = "0000:02:00.0";

/// An exporter and an mlx5 below two root ports of a host without problems.
fn healthy() -> Machine {
    with(|exporter| exporter, |importer| importer)
}

fn with(
    exporter: impl FnOnce(support::Function) -> support::Function,
    importer: impl FnOnce(support::Function) -> support::Function,
) -> Machine {
    // Device Control 0x2010: payloads of 128 bytes, reads of 512, relaxed ordering.
    Machine::new(EPYC)
        .command_line("quiet")
        .add("0000:00:01.0", None, Kind::RootPort, |port| port.acs(0x1d))
        .add("0000:00:02.0", None, Kind::RootPort, |port| port.acs(0x1d))
        .add(A, Some("0000:00:01.0"), Kind::Endpoint, exporter)
        .add(B, Some("0000:00:02.0"), Kind::Endpoint, |nic| {
            importer(nic.driver("mlx5_core").class(0x02_0000).device("infiniband", "mlx5_0").device_control(0x2010))
        })
        .file("sys/module/vfio_pci/parameters/disable_idle_d3", "N\n")
        .file("peerpath/facts.json", &facts(""))
}

/// Facts of a kernel with all options except `off`.
fn facts(off: &str) -> String {
    let names = "DMA_SHARED_BUFFER PCI_P2PDMA VFIO VFIO_PCI VFIO_PCI_DMABUF VFIO_GROUP VFIO_IOMMU_TYPE1 IOMMUFD \
                 VFIO_DEVICE_CDEV INFINIBAND INFINIBAND_USER_ACCESS INFINIBAND_ON_DEMAND_PAGING KPROBE_EVENTS";
    let off: Vec<_> = off.split(' ').collect();
    let value = |name: &str| if off.contains(&name) { "n" } else { "y" };
    let options: Vec<_> = names.split(' ').map(|name| format!("\"{name}\": \"{}\"", value(name))).collect();
    format!(
        "{{\"memlock_unlimited\": true, \"on_demand_paging\": {{\"mlx5_0\": true}}, \"kernel_options\": {{{}}}}}",
        options.join(", ")
    )
}

fn of_tree(tree: &Tree, from: Option<&str>, to: Option<&str>, live: Option<&LiveFacts>) -> Vec<Finding> {
    let selection = Selection { from: from.map(bdf), to: to.map(bdf), ..Selection::default() };
    run_checks(tree, &Inventory::read(tree), &selection, live)
}

fn host(machine: &Machine) -> Vec<Finding> {
    of_tree(&machine.tree(), None, None, None)
}

fn pair(machine: &Machine) -> Vec<Finding> {
    of_tree(&machine.tree(), Some(A), Some(B), None)
}

#[track_caller]
fn one<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("no {check} in {findings:#?}"))
}

#[track_caller]
fn expect(findings: &[Finding], check: &str, status: Status, cause: Option<Cause>, word: &str) {
    let finding = one(findings, check);
    assert_eq!((finding.status, finding.cause), (status, cause), "{finding:#?}");
    assert!(
        finding.detail.contains(word) || finding.remedy.as_ref().is_some_and(|text| text.contains(word)),
        "{finding:#?}"
    );
}

// ---- all checks

#[test]
fn a_healthy_host_passes_except_for_live_checks() {
    let findings = pair(&healthy());
    for finding in &findings {
        let live_only = ["in-use", "rdma-library", "importer-ready", "observation"].contains(&finding.check);
        let expected = match finding.check {
            _ if live_only => Unknown,
            // Linux 7.2 has the multi-range defect.
            "multi-range" => Warn,
            _ => Pass,
        };
        assert_eq!(finding.status, expected, "{finding:#?}");
    }
    let names: Vec<_> = findings.iter().map(|finding| finding.check).collect();
    // The checks of GPUs apply only if a GPU exists or is selected.
    // The links of this host show no speed, `ats-required` applies to Arm, and no function is behind a VMD controller.
    let inapplicable = |name: &&str| name.starts_with("gpu-") || ["link", "ats-required", "vmd"].contains(name);
    let all = CHECKS.iter().map(|check| check.name).filter(|name| !inapplicable(name));
    let missing: Vec<_> = all.filter(|name| !names.contains(name)).collect();
    assert!(missing.is_empty(), "a pair is asked everything: {missing:?}");
}

#[test]
fn every_finding_except_pass_has_a_remedy_and_sentences_end() {
    let machines = [
        healthy(),
        healthy().no_iommu().kernel("6.12.5"),
        healthy().without("peerpath").without("proc"),
        Machine::new(INTEL),
        with(|function| function.no_bar().no_driver(), |nic| nic.config_bytes(64)),
    ];
    for findings in machines.iter().flat_map(|machine| [host(machine), pair(machine)]) {
        for finding in findings {
            assert!(finding.detail.ends_with('.'), "{finding:#?}");
            assert_eq!(finding.remedy.is_some(), finding.status != Pass, "{finding:#?}");
            assert!(finding.cause.is_some() || finding.status != Fail, "{finding:#?}");
            assert!(finding.remedy.is_none_or(|remedy| remedy.ends_with('.')));
        }
    }
}

#[test]
fn findings_follow_the_order_of_the_table() {
    let place = |finding: &Finding| CHECKS.iter().position(|check| check.name == finding.check).unwrap();
    let places: Vec<_> = pair(&healthy()).iter().map(place).collect();
    assert!(places.is_sorted());
    let mut names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CHECKS.len());
}

#[test]
fn json_has_the_documented_keys() {
    let json = serde_json::to_value(host(&healthy().no_iommu())).unwrap();
    let iommu = json.as_array().unwrap().iter().find(|one| one["check"] == "iommu").unwrap();
    assert_eq!(
        (&iommu["status"], &iommu["cause"], &iommu["subject"]),
        (&"fail".into(), &"no-iommu".into(), &"host".into())
    );
    assert!(iommu["remedy"].is_string());
}

#[test]
fn accepts_an_empty_tree() {
    let machine = Machine::new(EPYC).without("proc").without("sys").file("else/x", "");
    assert!(host(&machine).iter().any(|finding| finding.status == Unknown));
}

#[test]
fn agrees_with_real_kernels() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/truth");
    let path = |name: &str, from, to| {
        let tree = Tree::open(&folder.join(name)).unwrap();
        one(&of_tree(&tree, Some(from), Some(to), None), "path").clone()
    };
    let found = path("01_switch_epyc.tar.gz", "0000:03:00.0", "0000:04:00.0");
    assert!(found.status == Pass && found.detail.starts_with("bus-address"), "{found:#?}");
    let tree = Tree::open(&folder.join("03_2rp_sky.tar.gz")).unwrap();
    let exporter = Inventory::read(&tree).predictor(Default::default()).exporters().next().unwrap().to_string();
    let other = Inventory::read(&tree).predictor(Default::default()).exporters().last().unwrap().to_string();
    let findings = of_tree(&tree, Some(&exporter), Some(&other), None);
    expect(&findings, "path", Fail, Some(Cause::Topology), "refuses the mapping");
}

/// The links of a function that show its driver, or that it has none.
const LINKS: [&str; 2] = ["driver", "subsystem"];

/// The path of the exporter A and of the importer B in the generated sysfs.
const PATHS: [&str; 2] =
    ["sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0", "sys/devices/pci0000:00/0000:00:02.0/0000:02:00.0"];

/// A machine whose sysfs copy lacks the driver link of the function at a path.
fn without_driver_link(machine: Machine, path: &str) -> Machine {
    LINKS.iter().fold(machine, |machine, name| machine.without(&format!("{path}/{name}")))
}

#[test]
fn an_importer_whose_rdma_devices_were_not_copied_is_unknown() {
    let copy = healthy().without("peerpath").without("sys/class");
    expect(&pair(&copy), "importer", Unknown, None, "does not show RDMA devices");
    let snapshot = with(|function| function, |nic| nic.driver("ixgbe")).without("sys/class");
    expect(&pair(&snapshot), "importer", Warn, Some(Cause::NoDevice), "no RDMA device");
    let no_driver =
        with(|function| function, |nic| nic.no_driver()).without("peerpath").without("sys/class/infiniband");
    expect(&pair(&no_driver), "importer", Warn, Some(Cause::NoDevice), "no RDMA device");
}

#[test]
fn an_unread_driver_of_the_importer_is_not_reported_as_none() {
    let copy = without_driver_link(healthy(), PATHS[1]);
    expect(&pair(&copy), "importer-driver", Unknown, None, "driver of the device is unknown");
    assert!(!one(&pair(&copy), "importer-driver").detail.contains("no driver"));
}

#[test]
fn a_dma_mask_that_was_not_copied_is_not_reported_as_unset() {
    let unread = pair(&healthy().without(&format!("{}/dma_mask_bits", PATHS[1])));
    expect(&unread, "dma-mask", Unknown, None, "does not contain the file dma_mask_bits");
    assert!(unread.iter().all(|finding| !finding.detail.contains("has set")), "{unread:#?}");
}

#[test]
fn an_unloaded_vfio_module_is_not_reported_as_built_without_noiommu_mode() {
    expect(&host(&healthy()), "noiommu", Pass, None, "vfio is not loaded");
    let loaded = healthy().file("sys/module/vfio/refcnt", "0\n");
    expect(&host(&loaded), "noiommu", Pass, None, "built without");
}

// ---- kernel

#[test]
fn checks_the_kernel_version() {
    expect(&host(&healthy()), "kernel-version", Pass, None, "7.2");
    let old = host(&healthy().without("peerpath/facts.json").kernel("6.18.1"));
    expect(&old, "kernel-version", Fail, Some(Cause::KernelTooOld), "Only the version shows this");
    let without_option = healthy().file("peerpath/facts.json", &facts("VFIO_PCI_DMABUF")).kernel("6.18.1");
    expect(&host(&without_option), "kernel-version", Fail, Some(Cause::KernelTooOld), "lacks VFIO_PCI_DMABUF");
    let backward = host(&healthy().kernel("6.18.1"));
    expect(&backward, "kernel-version", Pass, None, "VFIO_PCI_DMABUF=y");
    expect(&backward, "multi-range", Unknown, None, "");
    let newer = host(&healthy().kernel("7.9.0"));
    expect(&newer, "kernel-version", Pass, None, "newer than the known kernel rules");
    assert!(old.iter().all(|finding| finding.check != "multi-range"), "a kernel that exports nothing has no defect");
    expect(&host(&healthy().without("proc/sys/kernel")), "kernel-version", Unknown, None, "osrelease");
}

#[test]
fn checks_kernel_options() {
    let without = |off| host(&healthy().file("peerpath/facts.json", &facts(off)));
    expect(&without(""), "kernel-options", Pass, None, "all required options");
    expect(
        &without("VFIO_PCI_DMABUF PCI_P2PDMA"),
        "kernel-options",
        Fail,
        Some(Cause::KernelTooOld),
        "PCI_P2PDMA, VFIO_PCI_DMABUF",
    );
    expect(&without("INFINIBAND_ON_DEMAND_PAGING"), "kernel-options", Warn, Some(Cause::KernelTooOld), "mlx5");
    expect(&without("IOMMUFD"), "kernel-options", Pass, None, "");
    let all = without("VFIO VFIO_PCI INFINIBAND INFINIBAND_USER_ACCESS INFINIBAND_ON_DEMAND_PAGING");
    assert_eq!(
        all.iter().filter(|finding| finding.check == "kernel-options").count(),
        1,
        "one other kernel fixes all of them"
    );
    expect(&all, "kernel-options", Fail, Some(Cause::KernelTooOld), "built with VFIO, INFINIBAND.");
    expect(
        &without("IOMMUFD VFIO_GROUP"),
        "kernel-options",
        Fail,
        Some(Cause::KernelTooOld),
        "lacks both VFIO interfaces",
    );
    let old = host(&healthy().kernel("6.18.1").file("peerpath/facts.json", &facts("VFIO_PCI_DMABUF")));
    expect(&old, "kernel-options", Pass, None, "");
    expect(&host(&healthy().without("peerpath")), "kernel-options", Unknown, None, "CONFIG_");
}

#[test]
fn checks_that_vfio_pci_is_loaded() {
    let unbound = || with(support::Function::no_driver, |nic| nic).without("sys/module");
    expect(&host(&healthy().without("sys/module")), "vfio-driver", Pass, None, "");
    expect(&host(&unbound()), "vfio-driver", Fail, Some(Cause::DriverNotVfio), "modprobe");
    let built_without = unbound().file("peerpath/facts.json", &facts("VFIO_PCI"));
    expect(&host(&built_without), "vfio-driver", Fail, Some(Cause::DriverNotVfio), "built");
    expect(&host(&unbound().without("peerpath")), "vfio-driver", Unknown, None, "snapshot");
}

// ---- IOMMU

#[test]
fn reports_whether_an_iommu_is_enabled() {
    expect(&host(&healthy()), "iommu", Pass, None, "DMA");
    expect(&pair(&healthy()), "iommu", Pass, None, "group 2");
    expect(&host(&healthy().no_iommu()), "iommu", Fail, Some(Cause::NoIommu), "AMD-Vi");
    expect(&pair(&healthy().no_iommu()), "iommu", Fail, Some(Cause::NoIommu), "");
    let intel = |line: &str| healthy().no_iommu().file("proc/cpuinfo", INTEL).command_line(line);
    expect(&host(&intel("quiet")), "iommu", Fail, Some(Cause::NoIommu), "intel_iommu=on");
    expect(&host(&intel("intel_iommu=off")), "iommu", Fail, Some(Cause::NoIommu), "without intel_iommu=off");
    let guest = healthy().no_iommu().file("proc/cpuinfo", &INTEL.replace("fpu", "fpu hypervisor"));
    expect(&host(&guest), "iommu", Fail, Some(Cause::NoIommu), "virtual IOMMU");
    expect(&host(&healthy().no_iommu().without("*/subsystem")), "iommu", Unknown, None, "");
    expect(&host(&Machine::new(EPYC)), "iommu", Unknown, None, "No PCI function");
}

#[test]
fn reports_the_noiommu_mode() {
    const FLAG: &str = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
    expect(&host(&healthy().file(FLAG, "N\n")), "noiommu", Pass, None, "");
    expect(&host(&healthy()), "noiommu", Pass, None, "");
    expect(&host(&healthy().file(FLAG, "Y\n")), "noiommu", Warn, Some(Cause::Noiommu), "");
    expect(&pair(&healthy().group_type(2, "unknown", "vfio-noiommu")), "noiommu", Fail, Some(Cause::Noiommu), "");
    expect(&host(&healthy().without("peerpath")), "noiommu", Unknown, None, "");
}

// ---- platform

#[test]
fn reports_platforms_without_mmio_support() {
    let power = "processor\t: 0\ncpu\t\t: POWER10\n\nplatform\t: pSeries\n";
    expect(&host(&healthy()), "legacy-dma", Pass, None, "");
    expect(&host(&healthy().file("proc/cpuinfo", power)), "legacy-dma", Pass, None, "P2PDMA check refuses");
    let trusted = Machine::new(power)
        .add("0000:00:00.0", None, Kind::RootPort, |port| port.ids((0x8086, 0x2031)))
        .endpoint(A, "0000:00:00.0");
    expect(&host(&trusted), "legacy-dma", Pass, None, "accept MMIO");
    let sparc = "cpu\t\t: UltraSparc T2\ntype\t\t: sun4v\n";
    let trusted = Machine::new(sparc)
        .add("0000:00:00.0", None, Kind::RootPort, |port| port.ids((0x8086, 0x2031)))
        .endpoint(A, "0000:00:00.0");
    expect(&host(&trusted), "legacy-dma", Fail, Some(Cause::LegacyDmaOps), "SPARC");
    expect(&host(&healthy().without("proc/cpuinfo")), "legacy-dma", Unknown, None, "cpuinfo");

    let tdx = INTEL.replace("fpu", "fpu hypervisor tdx_guest");
    expect(&host(&healthy()), "confidential-guest", Pass, None, "");
    expect(
        &host(&healthy().file("proc/cpuinfo", &tdx)),
        "confidential-guest",
        Fail,
        Some(Cause::ConfidentialGuest),
        "TDX",
    );
    let snp = healthy().file("sys/class/misc/sev-guest", "");
    expect(&host(&snp), "confidential-guest", Fail, Some(Cause::ConfidentialGuest), "SEV-SNP");
    expect(&host(&healthy().without("proc/cpuinfo")), "confidential-guest", Unknown, None, "");

    let locked = healthy().file(&format!("sys/devices/pci0000:00/0000:00:01.0/{A}/tsm/lock"), "1\n");
    expect(&pair(&healthy()), "tdisp", Pass, None, "");
    expect(&pair(&locked), "tdisp", Fail, Some(Cause::ConfidentialGuest), "locked");
}

#[test]
fn reports_forced_swiotlb() {
    let forced = || healthy().command_line("swiotlb=force");
    expect(&host(&healthy()), "swiotlb", Pass, None, "not set");
    expect(&host(&forced()), "swiotlb", Warn, Some(Cause::SwiotlbForced), "");
    expect(&pair(&forced()), "swiotlb", Pass, None, "does not affect");
    expect(&pair(&forced().domain_type("identity")), "swiotlb", Fail, Some(Cause::SwiotlbForced), "");
    expect(&host(&healthy().without("proc/cmdline")), "swiotlb", Unknown, None, "cmdline");
}

#[test]
fn reports_unreadable_config_space() {
    expect(&host(&healthy()), "config-space", Pass, None, "");
    let cut = with(|function| function, |nic| nic.config_bytes(64));
    expect(&host(&cut), "config-space", Warn, Some(Cause::NoPermission), "root");
    expect(&host(&healthy().command_line("pci=realloc,nommconf")), "config-space", Warn, None, "nommconf");
    for check in ["max-payload", "max-read-request", "relaxed-ordering", "ats"] {
        expect(&pair(&cut), check, Unknown, None, "root");
    }
}

#[test]
fn reports_a_host_bridge_that_shifts_addresses() {
    expect(&pair(&healthy()), "address-offset", Pass, None, "");
    let shifted = with(|function| function.offset(0x1000_0000), |nic| nic.offset(0x1000_0000));
    expect(&pair(&shifted), "address-offset", Warn, None, "shifts");
    let blind = with(|function| function.config_bytes(0), |nic| nic.config_bytes(0));
    expect(&pair(&blind), "address-offset", Unknown, None, "");
}

// ---- exporter

#[test]
fn checks_the_exporter_and_its_bar() {
    let exporter = |machine: &Machine, bar| {
        let tree = machine.tree();
        run_checks(&tree, &Inventory::read(&tree), &Selection { from: Some(bdf(A)), bar, ..Selection::default() }, None)
    };
    expect(&host(&healthy()), "exporter", Pass, None, "1 of them");
    let unbound = with(|function| function.no_driver(), |nic| nic);
    expect(&host(&unbound), "exporter", Warn, Some(Cause::DriverNotVfio), "peerpath bind");
    let none = with(|function| function.no_bar(), |nic| nic.no_bar());
    expect(&host(&none), "exporter", Fail, Some(Cause::NoDevice), "");
    let bridge = of_tree(&healthy().tree(), Some("0000:00:01.0"), None, None);
    expect(&bridge, "exporter", Fail, Some(Cause::BarNotExportable), "bridge");

    expect(&exporter(&healthy(), None), "bar", Pass, None, "64-bit");
    expect(&exporter(&healthy(), Some(2)), "bar", Pass, None, "1024 KiB");
    expect(&exporter(&healthy(), Some(0)), "bar", Fail, Some(Cause::BarNotExportable), "exportable BAR: 2");
    let small = with(|function| function.bar(0xfe00_0000, 0x100), |nic| nic);
    expect(&exporter(&small, None), "bar", Fail, Some(Cause::BarNotExportable), "smaller than a page");
    expect(&exporter(&none, None), "bar", Fail, Some(Cause::BarNotExportable), "has no BAR");
}

#[test]
fn checks_the_group_of_the_exporter() {
    let shared = |driver: &str| {
        healthy().add("0000:01:00.1", Some("0000:00:01.0"), Kind::Endpoint, |other| other.group(2).driver(driver))
    };
    expect(&pair(&healthy()), "iommu-group", Pass, None, "");
    expect(&pair(&shared("e1000e")), "iommu-group", Fail, Some(Cause::GroupNotViable), "0000:01:00.1 (e1000e)");
    expect(&host(&shared("e1000e")), "iommu-group", Fail, Some(Cause::GroupNotViable), "0000:01:00.1 (e1000e)");
    expect(&pair(&shared("pci-stub")), "iommu-group", Pass, None, "");
    assert!(pair(&healthy().no_iommu()).iter().all(|finding| finding.check != "iommu-group"));
}

#[test]
fn checks_the_driver_of_the_exporter() {
    let driver = |name: &'static str| pair(&with(move |function| function.driver(name), |nic| nic));
    expect(&driver("vfio-pci"), "exporter-driver", Pass, None, "");
    expect(&driver("mlx5_vfio_pci"), "exporter-driver", Fail, Some(Cause::DriverNotVfio), "cannot export dma-bufs");
    expect(&driver("nvme"), "exporter-driver", Fail, Some(Cause::DriverNotVfio), "peerpath bind");
    let none = pair(&with(support::Function::no_driver, |nic| nic));
    expect(&none, "exporter-driver", Warn, Some(Cause::DriverNotVfio), "revert the binding");
}

#[test]
fn checks_memory_decoding() {
    expect(&pair(&healthy()), "memory-decode", Pass, None, "");
    expect(
        &pair(&with(|function| function.command(0), |nic| nic)),
        "memory-decode",
        Warn,
        Some(Cause::MemoryDecodeOff),
        "",
    );
    let hidden = with(|function| function.config_bytes(0), |nic| nic);
    expect(&pair(&hidden), "memory-decode", Unknown, None, "");
}

// ---- importer

#[test]
fn checks_the_importer_and_its_driver() {
    let nic = |driver: &'static str| pair(&with(|function| function, move |nic| nic.driver(driver)));
    expect(&nic("mlx5_core"), "importer-driver", Pass, None, "demand");
    expect(&nic("ice"), "importer-driver", Pass, None, "supports revocation");
    expect(&nic("bnxt_en"), "importer-driver", Fail, Some(Cause::ImporterNotRevocable), "pins");
    expect(&nic("mlx4_core"), "importer-driver", Fail, Some(Cause::ImporterNoDmabuf), "cannot import dma-bufs");
    expect(&nic("new_nic"), "importer-driver", Unknown, None, "new_nic");

    expect(&host(&healthy()), "importer", Pass, None, "mlx5_0");
    let plain =
        Machine::new(EPYC).add(A, None, Kind::Endpoint, |function| function).file("peerpath/facts.json", &facts(""));
    expect(&host(&plain), "importer", Fail, Some(Cause::NoDevice), "rdma link add");
    expect(&host(&plain.clone().without("peerpath")), "importer", Unknown, None, "");
    let itself = of_tree(&healthy().tree(), Some(A), Some(A), None);
    expect(&itself, "importer", Pass, None, "iommufd");
    expect(&itself, "importer-driver", Pass, None, "iommufd");
    let lacking = healthy().file("peerpath/facts.json", &facts("IOMMUFD"));
    expect(
        &of_tree(&lacking.tree(), Some(A), Some(A), None),
        "importer-driver",
        Fail,
        Some(Cause::KernelTooOld),
        "IOMMUFD",
    );
}

#[test]
fn reports_soft_rdma() {
    let machine = healthy()
        .add("0000:02:00.1", Some("0000:00:02.0"), Kind::Endpoint, |nic| nic.driver("e1000e").device("net", "eth1"))
        .file("sys/class/infiniband/rxe0/parent", "eth1\n");
    let findings = of_tree(&machine.tree(), None, Some("0000:02:00.1"), None);
    expect(&findings, "importer-driver", Unknown, None, "patched");
}

#[test]
fn checks_on_demand_paging() {
    let odp = |text: &str| pair(&healthy().file("peerpath/facts.json", text));
    expect(&pair(&healthy()), "on-demand-paging", Pass, None, "");
    expect(
        &odp(r#"{"on_demand_paging": {"mlx5_0": false}}"#),
        "on-demand-paging",
        Fail,
        Some(Cause::ImporterNotRevocable),
        "firmware",
    );
    expect(&odp("{}"), "on-demand-paging", Unknown, None, "odp_caps");
    let kernel = odp(&facts("INFINIBAND_ON_DEMAND_PAGING"));
    expect(&kernel, "on-demand-paging", Fail, Some(Cause::ImporterNotRevocable), "kernel");
}

// ---- the pair

#[test]
fn reports_the_predicted_path() {
    expect(&pair(&healthy()), "path", Pass, None, "host-bridge-translated");
    expect(&pair(&healthy().file("proc/cpuinfo", INTEL)), "path", Fail, Some(Cause::Topology), "");
    expect(&pair(&healthy().without("proc/cpuinfo")), "path", Unknown, None, "cpuinfo");
    expect(&host(&healthy()), "path", Pass, None, "1 host-bridge-translated");
    expect(&host(&healthy().file("proc/cpuinfo", INTEL)), "path", Fail, Some(Cause::Topology), "1 refused");
}

#[test]
fn checks_the_dma_mask() {
    let mask = |bits, domain| pair(&with(|function| function, move |nic| nic.mask(bits)).domain_type(domain));
    expect(&mask(64, "identity"), "dma-mask", Pass, None, "covers the BAR");
    expect(&mask(32, "identity"), "dma-mask", Fail, Some(Cause::DmaMask), "32 bits");
    expect(&mask(32, "DMA"), "dma-mask", Pass, None, "below the mask");
    expect(&mask(32, "?"), "dma-mask", Warn, Some(Cause::DmaMask), "");
    let unbound = with(|function| function, |nic| nic.no_driver()).domain_type("identity");
    expect(&pair(&unbound), "dma-mask", Unknown, None, "driver");
    let bound = with(|function| function, |nic| nic.driver("vfio-pci")).domain_type("identity");
    expect(&pair(&bound), "dma-mask", Unknown, None, "a VFIO driver is bound");
    expect(&through_iommufd(&bound), "dma-mask", Pass, None, "iommufd chooses");
}

/// The findings for a pair whose importer maps through iommufd.
fn through_iommufd(machine: &Machine) -> Vec<Finding> {
    let tree = machine.tree();
    let selection = Selection { from: Some(bdf(A)), to: Some(bdf(B)), own_address_space: true, ..Selection::default() };
    run_checks(&tree, &Inventory::read(&tree), &selection, None)
}

#[test]
fn bus_mastering_through_vfio_is_off_until_a_program_opens_the_function() {
    let off = |driver: &str| with(|function| function, |nic| nic.driver(driver).command(2));
    expect(&pair(&off("mlx5_core")), "bus-master", Warn, None, "sends no DMA at all");
    expect(&pair(&off("vfio-pci")), "bus-master", Pass, None, "opens the function through VFIO");
    expect(&through_iommufd(&off("nvme")), "bus-master", Pass, None, "opens the function through VFIO");
}

#[test]
fn names_the_snapshot_and_the_command_line_as_sources_of_missing_information() {
    let copy = healthy().without("*/type");
    expect(&pair(&copy.clone().without("proc/cmdline")), "path", Unknown, None, "give the kernel command line");
    expect(&pair(&copy), "path", Unknown, None, "peerpath snapshot");
}

#[test]
fn reports_the_multi_range_defect() {
    const FLAG: &str = "sys/module/dma_buf_mapping/parameters/iova_multirange";
    expect(&host(&healthy()), "multi-range", Warn, Some(Cause::MultiRangeDefect), "more than one range");
    expect(&host(&healthy().file(FLAG, "Y\n")), "multi-range", Pass, None, "");
    expect(&pair(&healthy().domain_type("identity")), "multi-range", Pass, None, "On this path");
    expect(&host(&healthy().kernel("8.1.0")), "multi-range", Unknown, None, "");
}

#[test]
fn checks_payload_and_read_request_sizes() {
    expect(&pair(&healthy()), "max-payload", Pass, None, "128 bytes");
    let larger = with(|function| function.device_control(0x2020), |nic| nic);
    expect(&pair(&larger), "max-payload", Warn, None, "0000:01:00.0 sends payloads of up to 256 bytes");
    expect(&pair(&healthy()), "max-read-request", Pass, None, "512");
    let reads = with(|function| function, |nic| nic.device_control(0x0050));
    expect(&pair(&reads), "max-read-request", Warn, None, "request size of 128 bytes");
    expect(&pair(&healthy()), "relaxed-ordering", Pass, None, "");
    expect(&pair(&with(|function| function, |nic| nic.device_control(0))), "relaxed-ordering", Warn, None, "off");
}

#[test]
fn reports_the_path_of_translated_requests() {
    let switch = |downstream: u16, ats: bool| {
        let machine = Machine::new(EPYC)
            .add("0000:00:01.0", None, Kind::RootPort, |port| port)
            .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, |port| port)
            .add("0000:02:00.0", Some("0000:01:00.0"), Kind::Downstream, |port| port.acs(downstream))
            .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, |port| port.acs(downstream))
            .endpoint("0000:03:00.0", "0000:02:00.0")
            .add("0000:04:00.0", Some("0000:02:01.0"), Kind::Endpoint, |nic| nic.ats(ats));
        of_tree(&machine.tree(), Some("0000:03:00.0"), Some("0000:04:00.0"), None)
    };
    expect(&pair(&healthy()), "ats", Pass, None, "no ATS");
    expect(&switch(0x1d, false), "ats", Pass, None, "off");
    expect(&switch(0x00, true), "ats", Pass, None, "does not redirect requests");
    expect(&switch(0x5d, true), "ats", Pass, None, "ACS DT");
    expect(&switch(0x1d, true), "ats", Warn, None, "enter the switch at 0000:02:01.0");
    expect(&pair(&with(|function| function, |nic| nic.ats(true))), "ats", Pass, None, "same path");
}

// ---- the process, and the running host

#[test]
fn checks_the_locked_memory_limit() {
    let limit = |text: &str| host(&healthy().file("peerpath/facts.json", text));
    expect(&host(&healthy()), "memlock", Pass, None, "unlimited");
    expect(&limit(r#"{"memlock_bytes": 67108864}"#), "memlock", Pass, None, "64 MiB");
    expect(&limit(r#"{"memlock_bytes": 65536}"#), "memlock", Warn, Some(Cause::LimitReached), "64 KiB");
    expect(&limit("{}"), "memlock", Unknown, None, "");
}

fn live(uses: Vec<Use>, target: Result<(), Explanation>) -> LiveFacts {
    LiveFacts {
        exporter_uses: Some(Ok(uses)),
        rdma_library: Ok(()),
        targets: BTreeMap::from([("verbs:mlx5_0".to_owned(), target)]),
        gpus: Ok(Gpus { cuda: "13.0".into(), gpus: Vec::new() }),
        observation: Ok(()),
    }
}

#[test]
fn reports_facts_of_the_running_host() {
    let ask = |live: &LiveFacts| of_tree(&healthy().tree(), Some(A), Some(B), Some(live));
    let findings = ask(&live(Vec::new(), Ok(())));
    for check in ["in-use", "rdma-library", "importer-ready", "observation"] {
        expect(&findings, check, Pass, None, "");
        expect(&pair(&healthy()), check, Unknown, None, "running host");
    }
    let used = |forceable| vec![Use { detail: "eth0 is up".into(), forceable }];
    expect(&ask(&live(used(true), Ok(()))), "in-use", Fail, Some(Cause::InUse), "--force-in-use");
    expect(&ask(&live(used(false), Ok(()))), "in-use", Fail, Some(Cause::InUse), "another function");
    let down = Explanation::new(Cause::PortDown, "No data can flow.", "Bring it up.");
    expect(&ask(&live(Vec::new(), Err(down))), "importer-ready", Fail, Some(Cause::PortDown), "Bring it up");
    let lacking = LiveFacts {
        rdma_library: Err(Explanation::new(Cause::LibraryMissing, "It is not installed.", "Install it.")),
        observation: Err(Explanation::uncaused("Not mounted.", "Mount it.")),
        exporter_uses: Some(Err(Explanation::uncaused("No access.", "Run as root."))),
        targets: BTreeMap::new(),
        gpus: Err(Explanation::new(Cause::LibraryMissing, "There is no libcuda.", "Install the driver.")),
    };
    let findings = ask(&lacking);
    expect(&findings, "rdma-library", Fail, Some(Cause::LibraryMissing), "Install");
    expect(&findings, "observation", Warn, None, "Mount it");
    expect(&findings, "in-use", Unknown, None, "root");
    expect(&findings, "importer-ready", Unknown, None, "Select it");
}

#[test]
fn checks_gpus_if_one_is_selected() {
    let tree = healthy().tree();
    let inventory = Inventory::read(&tree);
    let ask = |gpus, device: Option<&str>| {
        let selection = Selection { device: device.map(str::to_owned), ..Selection::default() };
        let live = LiveFacts { gpus, ..live(Vec::new(), Ok(())) };
        run_checks(&tree, &inventory, &selection, Some(&live))
    };
    let gpu = |dma_buf, writes_ordered| GpuFacts {
        target: "cuda:0".into(),
        name: "NVIDIA H200".into(),
        bdf: Some(bdf(B)),
        memory_bytes: 16 << 30,
        dma_buf,
        gpu_direct_rdma: Some(true),
        writes_ordered,
    };
    let with = |gpu| Ok(Gpus { cuda: "13.0".into(), gpus: vec![gpu] });
    let findings = ask(with(gpu(Some(true), Some(true))), Some("cuda:0"));
    expect(&findings, "gpu-driver", Pass, None, "NVIDIA H200");
    expect(&findings, "gpu-dma-buf", Pass, None, "dma-bufs");
    expect(&findings, "gpu-direct-rdma", Pass, None, "in order");
    expect(&findings, "gpu-module", Unknown, None, "modinfo");
    expect(&findings, "gpu-bar1", Unknown, None, "no second memory BAR");
    let version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n";
    expect(&host(&healthy().file("proc/driver/nvidia/version", version)), "gpu-module", Pass, None, "580.95.05");
    assert!(findings.iter().all(|finding| finding.check != "rdma-library"), "a GPU needs no libibverbs");
    let findings = ask(with(gpu(Some(false), Some(false))), Some("cuda:0"));
    expect(&findings, "gpu-dma-buf", Warn, Some(Cause::MechanismRefused), "open kernel modules");
    expect(&findings, "gpu-direct-rdma", Warn, None, "out of order");
    expect(&ask(with(gpu(None, None)), None), "gpu-dma-buf", Warn, Some(Cause::DriverTooOld), "11.7");
    expect(&ask(with(gpu(None, None)), Some("cuda:3")), "gpu-driver", Fail, Some(Cause::NoDevice), "peerpath list");
    // A missing library is a failure if a GPU is selected, and a warning otherwise.
    let missing = || Err(Explanation::new(Cause::LibraryMissing, "There is no libcuda.", "Install the driver."));
    expect(&ask(missing(), Some("cuda:0")), "gpu-driver", Fail, Some(Cause::LibraryMissing), "Install");
    expect(&ask(missing(), None), "gpu-driver", Warn, Some(Cause::LibraryMissing), "Install");
}

#[test]
fn advises_no_open_kernel_modules_where_none_exist() {
    let remedies = |cpu: &str, device: u16| {
        let tree = Machine::new(cpu)
            .add("0000:00:01.0", None, Kind::RootPort, |port| port)
            .add("0000:00:02.0", None, Kind::RootPort, |port| port)
            .add(A, Some("0000:00:01.0"), Kind::Endpoint, |gpu| {
                gpu.ids((0x10de, device)).class(0x03_0200).driver("nvidia")
            })
            .add(B, Some("0000:00:02.0"), Kind::Endpoint, |gpu| {
                gpu.ids((0x10de, 0x2330)).class(0x03_0200).driver("nvidia")
            })
            .file("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun\n")
            .tree();
        let gpu = GpuFacts {
            target: "cuda:0".into(),
            name: "a GPU".into(),
            bdf: Some(bdf(A)),
            memory_bytes: 16 << 30,
            dma_buf: Some(false),
            gpu_direct_rdma: Some(true),
            writes_ordered: Some(true),
        };
        let live = LiveFacts { gpus: Ok(Gpus { cuda: "12.2".into(), gpus: vec![gpu] }), ..live(Vec::new(), Ok(())) };
        let findings = of_tree(&tree, Some(A), None, Some(&live));
        let remedy = |check| one(&findings, check).remedy.clone().unwrap();
        assert_eq!(remedy("gpu-module"), remedy("gpu-dma-buf"));
        remedy("gpu-module")
    };
    assert!(remedies(EPYC, 0x2330).contains("Install the open kernel modules"));
    for (cpu, device) in [(EPYC, 0x1db6), ("processor\t: 0\nhart\t\t: 1\nisa\t\t: rv64imafdc\n", 0x2330)] {
        let remedy = remedies(cpu, device);
        assert!(!remedy.contains("Install") && remedy.contains("nvidia-peermem"), "{remedy}");
    }
}
