//! Snapshots that each test one rule of the kernel, with the result that the source of Linux 7.2.13 and 7.3.4 gives.

use std::path::Path;

use peerpath_paths::doctor::{Finding, Selection, Status, run_checks};
use peerpath_paths::{Bdf, Cause, Inventory, PathName, PathReport, Request, Tree};

struct Case {
    tree: Tree,
    inventory: Inventory,
}

impl Case {
    fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernel-cases");
        let tree = Tree::open(&folder.join(format!("{name}.tar.gz"))).unwrap();
        let inventory = Inventory::read(&tree);
        Self { tree, inventory }
    }

    fn report(&self, from: &str, to: &str) -> PathReport {
        self.inventory.predictor(Request::default()).explain(bdf(from), bdf(to)).unwrap()
    }

    /// The finding of one check for the two functions below root ports.
    fn finding(&self, name: &str) -> Finding {
        let selection = Selection { from: Some(bdf(A)), to: Some(bdf(B)), ..Selection::default() };
        run_checks(&self.tree, &self.inventory, &selection, None)
            .into_iter()
            .find(|finding| finding.check == name)
            .unwrap()
    }
}

const A: &str = "0000:01:00.0";
const B: &str = "0000:02:00.0";

fn bdf(text: &str) -> Bdf {
    text.parse().unwrap()
}

/// Report of the pair below two root ports.
fn report(name: &str) -> PathReport {
    Case::open(name).report(A, B)
}

fn answer(report: &PathReport) -> (PathName, Option<Cause>) {
    (report.predicted, report.cause)
}

const BYPASS: (PathName, Option<Cause>) = (PathName::HostBridgeBypass, None);

fn refused(cause: Cause) -> (PathName, Option<Cause>) {
    (PathName::Refused, Some(cause))
}

#[test]
fn linux_7_3_compares_swiotlb_words_as_prefixes() {
    for word in ["force", "force,track_hiwater", "65536,force,track_hiwater", "forced"] {
        assert_eq!(answer(&report(&format!("swiotlb-7.3.4-swiotlb={word}"))), refused(Cause::SwiotlbForced), "{word}");
    }
    let disabled = report("swiotlb-7.3.4-swiotlb=noforce,track_hiwater_swiotlb=force");
    assert_eq!(answer(&disabled), BYPASS, "noforce takes precedence");
}

#[test]
fn linux_7_2_compares_whole_swiotlb_words() {
    for word in ["force,track_hiwater", "65536,force,track_hiwater", "forced"] {
        assert_eq!(answer(&report(&format!("swiotlb-7.2.13-swiotlb={word}"))), BYPASS, "{word}");
    }
    for word in ["force", "noforce,track_hiwater_swiotlb=force"] {
        assert_eq!(answer(&report(&format!("swiotlb-7.2.13-swiotlb={word}"))), refused(Cause::SwiotlbForced), "{word}");
    }
}

#[test]
fn states_only_causes_that_are_known() {
    assert_eq!(answer(&report("cause-no-cmdline-mask32")), refused(Cause::DmaMask));
    let open = report("cause-no-cmdline-mask64");
    assert_eq!(answer(&open), (PathName::Unknown, None));
    assert!(open.unknown[0].contains("swiotlb"), "{:?}", open.unknown);
    let open = report("cause-trust-unknown-mask32");
    assert_eq!(answer(&open), (PathName::Refused, None), "both the allowlist and the mask would refuse");
    assert!(open.deciding.fact.contains("several causes are possible"), "{}", open.deciding.fact);
}

#[test]
fn the_lines_of_a_segment_are_consecutive_in_the_kernels_list() {
    // The allowlist contains the first device of segment 2 only for pairs below one host bridge.
    let case = Case::open("fuzz-3-59");
    for from in ["0001:03:00.0", "0001:04:00.0"] {
        assert_eq!(answer(&case.report(from, "0002:07:00.0")), refused(Cause::Topology), "{from}");
    }
    for report in case.inventory.reports(None, None, Request::default()) {
        assert!(report.predicted != PathName::Refused || report.cause.is_some(), "{report:#?}");
    }
}

#[test]
fn linux_7_3_applies_inbound_ranges_to_mmio() {
    let report = Case::open("dma-ranges-7.3").report(A, "0001:01:00.0");
    assert_eq!(answer(&report), refused(Cause::DmaMask));
    assert!(report.deciding.fact.contains("dma-ranges"), "{}", report.deciding.fact);
}

#[test]
fn the_configuration_counts_more_than_the_version() {
    for name in [
        "backport-5.14.0-687.el9.x86_64",
        "backport-6.12.0-211.7.1.el10_2.x86_64",
        "backport-7.0.0-14-generic",
        "backport-7.1.9",
    ] {
        let case = Case::open(name);
        assert_eq!(case.report(A, B).blockers, [], "{name}");
        for check in ["kernel-version", "kernel-options"] {
            let finding = case.finding(check);
            assert_eq!(finding.status, Status::Pass, "{name}: {finding:?}");
        }
    }
    let old = Case::open("backport-5.14.0-687.el9.x86_64").finding("kernel-version").detail;
    assert!(old.contains("VFIO_PCI_DMABUF=y"), "{old}");
}

#[test]
fn ice_lake_is_trusted_since_5_18() {
    for name in ["icx-6.12-backport", "icx-7.0"] {
        let report = report(name);
        assert_eq!(answer(&report), BYPASS, "{name}: {report:#?}");
        assert!(report.unknown.is_empty(), "{report:#?}");
    }
}

#[test]
fn a_kernel_newer_than_the_tables_is_predicted_with_the_newest_table() {
    let case = Case::open("unlisted-7.4");
    let report = case.report(A, B);
    assert_eq!(report.predicted, PathName::Refused);
    assert!(
        report.deciding.fact.contains("that of Linux 7.3; the one of Linux 7.4 is unknown"),
        "{}",
        report.deciding.fact
    );
    assert!(report.unknown[0].contains("Linux 7.4"), "{:?}", report.unknown);
    assert!(report.notes.iter().any(|note| note.contains("newer than the known rules")), "{:?}", report.notes);
    assert!(case.finding("kernel-version").detail.contains("those of Linux 7.3"));
}

#[test]
fn a_translated_domain_needs_an_aligned_range_below_the_mask() {
    let case = Case::open("iova-2g-mask32");
    let report = case.report(A, B);
    assert_eq!(answer(&report), refused(Cause::DmaMask));
    assert!(report.deciding.fact.contains("aligns"), "{}", report.deciding.fact);
    let finding = case.finding("dma-mask");
    assert_eq!((finding.status, finding.cause), (Status::Fail, Some(Cause::DmaMask)));
    let remedy = finding.remedy.unwrap();
    assert!(!remedy.contains("domain type"), "the domain translates already");
    let changes = report.would_change.join("; ");
    assert!(!changes.contains("to DMA") && changes.contains("export a smaller BAR"), "{changes}");
    let of_path = case.finding("path").remedy.unwrap();
    assert!(!of_path.contains("to DMA"), "{of_path}");
}

#[test]
fn confidential_guests_of_7_3_do_not_bounce() {
    for name in ["cvm-realm", "cvm-translated-7.3"] {
        let case = Case::open(name);
        assert!(case.report(A, B).blockers.contains(&Cause::ConfidentialGuest));
        let finding = case.finding("confidential-guest");
        assert_eq!(finding.cause, Some(Cause::ConfidentialGuest));
        assert!(!finding.detail.contains("bounce"), "{}", finding.detail);
    }
    assert!(Case::open("cvm-realm").finding("confidential-guest").detail.contains("dma_capable"));
}

#[test]
fn power_is_refused_by_topology() {
    for name in ["power", "power-doc"] {
        let case = Case::open(name);
        let report = case.report(A, B);
        assert_eq!(answer(&report), refused(Cause::Topology));
        let finding = case.finding("legacy-dma");
        let text = format!("{report:?} {finding:?}");
        assert!(!text.contains("pages") && finding.cause != Some(Cause::LegacyDmaOps), "{text}");
    }
}
