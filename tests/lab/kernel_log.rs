//! The kernel log of a guest: `peerpath explain` must know every line about P2PDMA, an IOMMU, swiotlb, AER, VFIO and RDMA.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::command::{peerpath, run_command};

/// Fails if `peerpath explain` does not recognize a line of the log that belongs to one of the families.
pub(crate) fn explains(log: &Path) -> Result<(), Failed> {
    let explained =
        run_command(Command::new(peerpath()).arg("explain").arg(log).args(["--json", "--all"]))?.expect(0)?;
    let record = |text: &str| serde_json::from_str::<Value>(text).ok()?["line"].as_str().map(str::to_owned);
    let known: BTreeSet<String> = explained.stdout.lines().filter_map(record).collect();
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let unknown: Vec<_> = text.lines().filter(|line| belongs(line) && !known.contains(*line)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(format!("`peerpath explain` does not recognize these lines of {}:\n{}", log.display(), unknown.join("\n"))
        .into())
}

/// Text that the messages of the families contain.
const SUBJECTS: &[&str] = &[
    "peer-to-peer DMA",
    "P2PDMA",
    "ACS redirect",
    "DMAR",
    "dmar_fault",
    "AMD-Vi",
    "arm-smmu",
    "virtio_iommu",
    "iommu:",
    "iommu group",
    "swiotlb buffer",
    "software IO TLB",
    "overflow (mask",
    "AER:",
    "DPC:",
    "Bus Error: severity",
    "vfio",
    "VFIO",
    "rxe",
    "infiniband",
];

/// Text of lines about other subjects: firmware tables, the kernel command line, the start of the guest, and stack traces.
const OTHER: &[&str] = &["ACPI:", "ommand line", "virtme", "Modules linked in", "drivers/"];

fn belongs(line: &str) -> bool {
    let contains = |parts: &[&str]| parts.iter().any(|part| line.contains(part));
    let is_stack_trace = line.contains("+0x") && line.contains("/0x") && !line.contains(" via: ");
    contains(SUBJECTS) && !contains(OTHER) && !is_stack_trace
}
