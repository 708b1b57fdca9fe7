//! GPUs as exporters, through their own driver, and as importers, on the snapshots of hosts with GPUs in `fixtures/hosts`. The
//! name of a host's folder starts with the number of the host.

mod support;

use std::path::Path;

use peerpath_paths::doctor::{Finding, Selection, Status, run_checks};
use peerpath_paths::{Bdf, Cause, ExporterRule, Inventory, MemoryKind, PathName, PathReport, Request, Tree};

use support::{EPYC, INTEL, Kind, Machine, bdf};

fn tree(host: &str) -> Tree {
    let path = format!("{}/tests/fixtures/hosts/{host}.tar.gz", env!("CARGO_MANIFEST_DIR"));
    Tree::open(Path::new(&path)).unwrap()
}

fn report(tree: &Tree, from: &str, to: &str) -> PathReport {
    Inventory::read(tree).predictor(Request::default()).explain(bdf(from), bdf(to)).unwrap()
}

fn doctor(tree: &Tree, from: Option<&str>, to: Option<&str>) -> Vec<Finding> {
    let selection = Selection { from: from.map(bdf), to: to.map(bdf), ..Selection::default() };
    run_checks(tree, &Inventory::read(tree), &selection, None)
}

fn of<'a>(findings: &'a [Finding], check: &str) -> Vec<&'a Finding> {
    findings.iter().filter(|finding| finding.check == check).collect()
}

#[track_caller]
fn one<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    match of(findings, check)[..] {
        [finding] => finding,
        ref other => panic!("{check}: {other:#?}"),
    }
}

fn text(finding: &Finding) -> String {
    format!("{} {}", finding.detail, finding.remedy.as_deref().unwrap_or_default())
}

/// Checks of requirements that apply only to VFIO.
const OF_VFIO: [&str; 7] =
    ["kernel-version", "iommu", "noiommu", "vfio-driver", "iommu-group", "exporter-driver", "in-use"];
/// Causes that apply only to exports through VFIO.
const CAUSES_OF_VFIO: [Cause; 5] =
    [Cause::KernelTooOld, Cause::NoIommu, Cause::Noiommu, Cause::DriverNotVfio, Cause::GroupNotViable];

/// All pairs of a GPU whose own driver exports its memory and another endpoint.
fn pairs(inventory: &Inventory) -> Vec<(Bdf, Bdf)> {
    let functions = || inventory.topology.functions().iter().filter(|function| !function.is_bridge());
    let gpus = functions().filter(|function| ExporterRule::of(function, None).is_gpu());
    gpus.flat_map(|from| functions().map(move |to| (from.bdf, to.bdf))).filter(|(from, to)| from != to).collect()
}

const HOSTS: [&str; 8] = [
    "01-rkl-two-b70/acs-on",
    "01-rkl-two-b70/acs-off",
    "03-turin-b200/root",
    "05-trpro-ada-cx7/host",
    "07-turin-mi325x-bnxt/host",
    "09-dgx-spark/host",
    "14-power9-ac922/host",
    "17-arrow-lake-gpu-nic/host",
];

#[test]
fn requirements_of_vfio_do_not_apply_to_memory_that_a_gpu_driver_exports() {
    for host in HOSTS {
        let tree = tree(host);
        let inventory = Inventory::read(&tree);
        let predictor = inventory.predictor(Request::default());
        let pairs = pairs(&inventory);
        assert!(!pairs.is_empty(), "{host}");
        for (from, to) in pairs {
            let report = predictor.explain(from, to).unwrap();
            assert!(report.rule.is_gpu(), "{host} {from}");
            assert!(
                report.notes.iter().any(|note| note == report.rule.describe()),
                "{host} {from}: {:?}",
                report.notes
            );
            let wrong: Vec<_> = report.blockers.iter().filter(|cause| CAUSES_OF_VFIO.contains(cause)).collect();
            assert!(wrong.is_empty(), "{host} {from} -> {to}: {wrong:?}");
            assert!(!report.blockers.contains(&Cause::ImporterNotRevocable), "{host}: only VFIO rejects pinning");
            assert_eq!(predictor.facts(from, to).source, Some(MemoryKind::Gpu));
        }
        let (from, to) = self::pairs(&inventory)[0];
        let selection = Selection { from: Some(from), to: Some(to), ..Selection::default() };
        for finding in run_checks(&tree, &inventory, &selection, None) {
            assert!(!OF_VFIO.contains(&finding.check), "{host}: {finding:#?}");
            let text = text(&finding);
            for word in ["peerpath bind", "modprobe vfio", "VFIO rejects", "Boot Linux 6.19"] {
                assert!(!text.contains(word), "{host}: {finding:#?}");
            }
            assert_eq!(finding.remedy.is_some(), finding.status != Status::Pass, "{host}: {finding:#?}");
            assert!(finding.detail.ends_with('.') && finding.remedy.is_none_or(|remedy| remedy.ends_with('.')));
        }
    }
}

#[test]
fn a_selected_bar_is_exported_through_vfio() {
    let tree = tree("03-turin-b200/root");
    let inventory = Inventory::read(&tree);
    let bar = Request { bar: Some(2), ..Request::default() };
    let report = inventory.predictor(bar).explain(bdf("0000:a3:00.0"), bdf("0000:a4:00.0")).unwrap();
    assert_eq!(report.rule, ExporterRule::Vfio);
    assert!(report.blockers.contains(&Cause::DriverNotVfio), "{:?}", report.blockers);
    let selection = Selection { from: Some(bdf("0000:a3:00.0")), bar: Some(2), to: None, ..Selection::default() };
    let findings = run_checks(&tree, &inventory, &selection, None);
    for check in ["kernel-version", "iommu", "exporter-driver"] {
        assert_eq!(one(&findings, check).status, Status::Fail);
    }
}

/// Host 03: a B200 and a ConnectX-7 below one switch, Linux 6.8 with the IOMMU off.
#[test]
fn nvidia_exports_without_vfio_iommu_and_linux_6_19() {
    let tree = tree("03-turin-b200/root");
    let report = report(&tree, "0000:a3:00.0", "0000:a4:00.0");
    assert_eq!((report.predicted, report.rule), (PathName::BusAddress, ExporterRule::Nvidia));
    assert_eq!(report.blockers, []);
    assert_eq!(serde_json::to_value(&report).unwrap()["rule"], "nvidia");

    let findings = doctor(&tree, Some("0000:a3:00.0"), Some("0000:a4:00.0"));
    assert!(one(&findings, "exporter-rule").detail.contains("without the P2PDMA check"));
    let ordering = one(&findings, "relaxed-ordering");
    assert_eq!(ordering.status, Status::Warn, "the first candidate of the thread");
    let failed: Vec<_> = findings.iter().filter(|finding| finding.status == Status::Fail).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(one(&findings, "path").status, Status::Pass);
    assert!(!of(&findings, "gpu-module").is_empty(), "the exporter's own driver is checked");
}

/// Host 17: the P2PDMA check would refuse the pair, but NVIDIA's driver maps the memory.
#[test]
fn nvidia_maps_a_pair_that_p2pdma_refuses() {
    let tree = tree("17-arrow-lake-gpu-nic/host");
    let report = report(&tree, "0000:01:00.0", "0000:02:00.0");
    assert_eq!((report.predicted, report.cause), (PathName::Refused, Some(Cause::Topology)));
    assert!(report.notes.iter().any(|note| note.contains("refusal does not apply")), "{:?}", report.notes);
    let findings = doctor(&tree, Some("0000:01:00.0"), Some("0000:02:00.0"));
    let path = one(&findings, "path");
    assert_eq!((path.status, path.cause), (Status::Warn, None));
    assert!(text(path).contains("without the check") && text(path).contains("Verify the data"), "{path:#?}");
    let failed: Vec<_> = findings.iter().filter(|finding| finding.status == Status::Fail).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Host 17 with a BAR: VFIO exports it, so advice about memory of the GPU does not apply.
#[test]
fn a_refused_bar_of_a_gpu_gets_no_advice_about_its_memory() {
    let tree = tree("17-arrow-lake-gpu-nic/host");
    let (from, to) = (Some(bdf("0000:01:00.0")), Some(bdf("0000:02:00.0")));
    let selection = Selection { from, bar: Some(1), to, ..Selection::default() };
    let findings = run_checks(&tree, &Inventory::read(&tree), &selection, None);
    let path = one(&findings, "path");
    assert_eq!((path.status, path.cause), (Status::Fail, Some(Cause::Topology)));
    assert!(!text(path).contains("nvidia-peermem"), "{path:#?}");
}

/// Host 01: two GPUs with the driver xe below one switch.
#[test]
fn a_gpu_imports_through_its_own_driver() {
    for (host, path, status) in [
        ("01-rkl-two-b70/acs-on", PathName::Refused, Status::Fail),
        ("01-rkl-two-b70/acs-off", PathName::BusAddress, Status::Warn),
    ] {
        let tree = tree(host);
        let report = report(&tree, "0000:0e:00.0", "0000:12:00.0");
        assert_eq!((report.predicted, report.rule), (path, ExporterRule::Xe));
        let findings = doctor(&tree, Some("0000:0e:00.0"), Some("0000:12:00.0"));
        let importer = one(&findings, "importer");
        assert_eq!(importer.status, Status::Pass, "{importer:#?}");
        assert!(importer.detail.contains("own driver, xe"), "{importer:#?}");
        for finding in &findings {
            let text = text(finding);
            assert!(!text.contains("RDMA") && !text.contains("rdma") && !text.contains("libibverbs"), "{finding:#?}");
            assert!(!finding.check.starts_with("gpu-"), "NVIDIA's driver has no part in it: {finding:#?}");
        }
        assert_eq!(one(&findings, "path").status, status, "{findings:#?}");
    }
    let refused = report(&tree("01-rkl-two-b70/acs-on"), "0000:0e:00.0", "0000:12:00.0");
    assert!(refused.notes.iter().any(|note| note.contains("xe exports host memory")), "{:?}", refused.notes);
    let findings = doctor(&tree("01-rkl-two-b70/acs-on"), Some("0000:0e:00.0"), Some("0000:12:00.0"));
    let path = one(&findings, "path");
    assert!(
        path.detail.contains("silently exports host memory") && text(path).contains("disable_acs_redir"),
        "{path:#?}"
    );
}

/// Host 07: eight MI325X; the drivers of most NICs pin, and only VFIO rejects that.
#[test]
fn an_importer_that_pins_can_import_memory_of_a_gpu() {
    let tree = tree("07-turin-mi325x-bnxt/host");
    let report = report(&tree, "0000:75:00.0", "0000:76:00.0");
    assert_eq!((report.predicted, report.rule), (PathName::BusAddress, ExporterRule::Amdgpu));
    assert_eq!(report.blockers, []);
    let findings = doctor(&tree, Some("0000:75:00.0"), Some("0000:76:00.0"));
    let driver = one(&findings, "importer-driver");
    assert_eq!(driver.status, Status::Unknown, "{driver:#?}");
    assert!(driver.detail.contains("Linux 6.15"), "amdgpu pinned host memory before: {driver:#?}");
}

/// Host 09: the GPU of a GB10 uses the memory of the host and has no BAR for it.
#[test]
fn a_gpu_without_a_memory_bar_has_nothing_to_export() {
    let findings = doctor(&tree("09-dgx-spark/host"), Some("000f:01:00.0"), Some("0000:01:00.0"));
    let bar = one(&findings, "bar");
    assert_eq!((bar.status, bar.cause), (Status::Fail, Some(Cause::BarNotExportable)));
    assert!(text(bar).contains("host memory"), "{bar:#?}");
}

/// Host 14: the proprietary module on POWER9 with Volta.
#[test]
fn never_advises_a_module_that_does_not_exist() {
    let tree = tree("14-power9-ac922/host");
    for findings in [doctor(&tree, Some("0004:04:00.0"), Some("0003:01:00.0")), doctor(&tree, None, None)] {
        let module = one(&findings, "gpu-module");
        assert_eq!((module.status, module.cause), (Status::Warn, Some(Cause::MechanismRefused)));
        let remedy = module.remedy.as_deref().unwrap();
        assert!(!remedy.contains("Install") && remedy.contains("nvidia-peermem"), "{remedy}");
    }
}

#[test]
fn a_kernel_before_5_12_may_lack_the_registration_of_dma_bufs() {
    let findings = doctor(&tree("14-power9-ac922/host"), Some("0004:04:00.0"), Some("0003:01:00.0"));
    let driver = one(&findings, "importer-driver");
    assert_eq!(driver.status, Status::Unknown, "{driver:#?}");
    assert!(text(driver).contains("Linux 5.12") && text(driver).contains("nvidia-peermem"), "{driver:#?}");
}

/// Host 07 without a pair: nine NICs pin, and every exporter of the host is a GPU with amdgpu.
#[test]
fn a_host_whose_exporters_are_gpus_may_have_importers_that_pin() {
    let findings = doctor(&tree("07-turin-mi325x-bnxt/host"), None, None);
    assert_eq!(of(&findings, "importer-driver").len(), 11);
    for driver in of(&findings, "importer-driver") {
        assert_ne!(driver.status, Status::Fail, "{driver:#?}");
    }
    let exporter = one(&findings, "exporter");
    assert_eq!(exporter.status, Status::Pass);
    assert!(exporter.detail.contains("8 GPUs"), "{exporter:#?}");
}

/// Host 17, from the NIC to the GPU: CUDA registers the CPU mapping of the BAR.
#[test]
fn cuda_reads_a_bar_that_p2pdma_refuses() {
    let tree = tree("17-arrow-lake-gpu-nic/host");
    let findings = doctor(&tree, Some("0000:02:00.0"), Some("0000:01:00.0"));
    let path = one(&findings, "path");
    assert_eq!((path.status, path.cause), (Status::Warn, None), "{path:#?}");
    let report = report(&tree, "0000:02:00.0", "0000:01:00.0");
    assert_eq!((report.predicted, report.rule), (PathName::Refused, ExporterRule::Vfio));
    assert!(report.notes.iter().any(|note| note.contains("CPU mapping")), "{:?}", report.notes);
}

#[test]
fn gpus_are_numbered_by_address() {
    let gpus = |host: &str| Inventory::read(&tree(host)).nvidia_gpus();
    assert_eq!(gpus("03-turin-b200/root"), [bdf("0000:a3:00.0")]);
    assert_eq!(gpus("05-trpro-ada-cx7/host"), [bdf("0000:c1:00.0"), bdf("0000:c2:00.0")]);
    assert_eq!(gpus("14-power9-ac922/host").len(), 6);
    assert_eq!(gpus("14-power9-ac922/host")[0], bdf("0004:04:00.0"));
    assert_eq!(gpus("07-turin-mi325x-bnxt/host"), [], "amdgpu is another driver");
}

const A: &str = "0000:01:00.0";
const B: &str = "0000:02:00.0";

/// An exporter and an importer below two root ports, with these drivers and the importer's class.
fn two(exporter: &str, importer: Option<&str>, class: u32) -> Machine {
    Machine::new(EPYC)
        .add("0000:00:01.0", None, Kind::RootPort, |port| port)
        .add("0000:00:02.0", None, Kind::RootPort, |port| port)
        .add(A, Some("0000:00:01.0"), Kind::Endpoint, |function| function.driver(exporter).class(0x03_0000))
        .add(B, Some("0000:00:02.0"), Kind::Endpoint, |function| {
            let function = function.class(class);
            match importer {
                Some(driver) => function.driver(driver),
                None => function.no_driver(),
            }
        })
}

#[test]
fn requirements_of_vfio_do_not_fail_for_a_gpu_with_an_unknown_driver() {
    let path = "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0";
    let copy = two("nvidia", None, 0x02_0000).no_iommu().kernel("6.8.0");
    let copy = copy.without(&format!("{path}/driver")).without(&format!("{path}/subsystem"));
    let findings = doctor(&copy.tree(), Some(A), Some(B));
    assert_eq!(one(&findings, "exporter-rule").status, Status::Unknown);
    for check in OF_VFIO {
        assert!(of(&findings, check).iter().all(|finding| finding.status != Status::Fail), "{findings:#?}");
    }
    assert!(of(&findings, "kernel-version").iter().any(|finding| finding.status == Status::Warn));
}

#[test]
fn advice_fits_the_kind_of_the_importer() {
    let importer = |exporter: &str, driver: Option<&str>, class: u32| {
        let findings = doctor(&two(exporter, driver, class).tree(), Some(A), Some(B));
        one(&findings, "importer").clone()
    };
    for (exporter, driver, class, status, word) in [
        ("vfio-pci", Some("amdgpu"), 0x03_0000, Status::Pass, "own driver, amdgpu"),
        ("vfio-pci", Some("nvidia"), 0x03_0200, Status::Pass, "I/O memory"),
        ("nvidia", Some("nvidia"), 0x03_0200, Status::Pass, "peer access"),
        ("amdgpu", Some("nvidia"), 0x03_0200, Status::Warn, "only on Tegra"),
        ("vfio-pci", Some("nouveau"), 0x03_0000, Status::Warn, "VFIO rejects"),
        ("vfio-pci", None, 0x03_0000, Status::Warn, "no driver"),
        ("vfio-pci", Some("ast"), 0x03_0000, Status::Unknown, "ast"),
        ("vfio-pci", Some("nvme"), 0x01_0802, Status::Warn, "iommufd:0000:02:00.0"),
        ("nvidia", Some("nvme"), 0x01_0802, Status::Warn, "GPUDirect Storage"),
        ("vfio-pci", Some("vfio-pci"), 0x01_0802, Status::Pass, "iommufd"),
        ("nvidia", Some("vfio-pci"), 0x01_0802, Status::Fail, "only dma-bufs of vfio-pci"),
        ("vfio-pci", Some("e1000e"), 0x02_0000, Status::Warn, "rdma link add"),
        ("vfio-pci", Some("xhci_hcd"), 0x0c_0330, Status::Warn, "iommufd"),
    ] {
        let finding = importer(exporter, driver, class);
        assert_eq!(finding.status, status, "{finding:#?}");
        assert!(text(&finding).contains(word), "{word}: {finding:#?}");
        let is_nic = class >> 16 == 0x02;
        assert_eq!(text(&finding).contains("rdma link add"), is_nic, "{finding:#?}");
    }
}

#[test]
fn a_gpu_driver_maps_through_a_translating_domain_below_a_switch() {
    let machine = |domain: &str| {
        Machine::new(INTEL)
            .add("0000:00:01.0", None, Kind::RootPort, |port| port)
            .add("0000:01:00.0", Some("0000:00:01.0"), Kind::Upstream, |port| port)
            .add("0000:02:00.0", Some("0000:01:00.0"), Kind::Downstream, |port| port)
            .add("0000:02:01.0", Some("0000:01:00.0"), Kind::Downstream, |port| port)
            .add("0000:03:00.0", Some("0000:02:00.0"), Kind::Endpoint, |gpu| gpu.driver("nvidia").class(0x03_0200))
            .add("0000:04:00.0", Some("0000:02:01.0"), Kind::Endpoint, |nic| {
                nic.driver("mlx5_core").class(0x02_0000).device("infiniband", "mlx5_0")
            })
            .domain_type(domain)
    };
    let path = |domain: &str| {
        let findings = doctor(&machine(domain).tree(), Some("0000:03:00.0"), Some("0000:04:00.0"));
        one(&findings, "path").clone()
    };
    let translated = path("DMA");
    assert_eq!(translated.status, Status::Warn, "{translated:#?}");
    assert!(translated.detail.contains("(host-bridge-translated)") && text(&translated).contains("iommu=pt"));
    assert_eq!(path("identity").status, Status::Pass);
    let report = report(&machine("DMA").tree(), "0000:03:00.0", "0000:04:00.0");
    assert_eq!(report.predicted, PathName::BusAddress, "the P2PDMA decision");
    assert!(report.notes.iter().any(|note| note.contains("host-bridge-translated")), "{:?}", report.notes);
}

#[test]
fn iommufd_maps_no_memory_of_a_gpu() {
    let inventory = Inventory::read(&two("nvidia", Some("vfio-pci"), 0x01_0802).tree());
    let request = Request { own_address_space: true, ..Request::default() };
    let report = inventory.predictor(request).explain(bdf(A), bdf(B)).unwrap();
    assert_eq!((report.predicted, report.cause), (PathName::Refused, Some(Cause::ForeignDmaBuf)));
    let of_bar = inventory.predictor(Request { bar: Some(2), ..request }).explain(bdf(A), bdf(B)).unwrap();
    assert_eq!(of_bar.predicted, PathName::HostBridgeTranslated, "a BAR is exported through VFIO");
}

#[test]
fn drivers_that_export_host_memory_only_are_named() {
    for driver in ["i915", "nouveau"] {
        let findings = doctor(&two(driver, Some("mlx5_core"), 0x02_0000).tree(), Some(A), Some(B));
        let rule = one(&findings, "exporter-rule");
        assert_eq!(rule.status, Status::Warn);
        assert!(rule.detail.contains("host memory only"), "{rule:#?}");
        assert!(one(&findings, "path").detail.starts_with("host-memory"));
        let every_pair = doctor(&two(driver, Some("mlx5_core"), 0x02_0000).tree(), None, Some(B));
        let path = one(&every_pair, "path");
        assert_eq!(path.status, Status::Pass, "{path:#?}");
        assert!(path.detail.contains(" host-memory"), "{path:#?}");
    }
}

#[test]
fn a_missing_kernel_option_leads_to_host_memory() {
    let options = |driver: &str, missing: &str| {
        let facts = format!(r#"{{"kernel_options": {{"{missing}": "n", "DMA_SHARED_BUFFER": "y"}}}}"#);
        let machine = two(driver, Some("mlx5_core"), 0x02_0000).file("peerpath/facts.json", &facts);
        doctor(&machine.tree(), Some(A), Some(B)).into_iter().find(|finding| finding.check == "kernel-options").unwrap()
    };
    assert!(options("amdgpu", "PCI_P2PDMA").detail.contains("exports host memory"));
    assert_eq!(options("nvidia", "PCI_P2PDMA").status, Status::Pass, "NVIDIA's driver needs no P2PDMA check");
    assert!(options("amdgpu", "DMABUF_MOVE_NOTIFY").detail.contains("in host memory"));
    for vfio_only in ["VFIO", "VFIO_PCI_DMABUF", "IOMMUFD"] {
        assert_eq!(options("nvidia", vfio_only).status, Status::Pass, "{vfio_only}");
    }
}
