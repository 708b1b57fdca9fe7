//! Facts that affect paths and are not in the copied files of sysfs and procfs. A snapshot contains them in a file of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ConfidentialGuest;
use super::feature::export_symbol;
use crate::KernelVersion;
use crate::Tree;

/// Path of the facts in a snapshot.
pub const FACTS_PATH: &str = "peerpath/facts.json";

/// Kernel options that the facts contain, without the prefix `CONFIG_`.
const OPTIONS: &[&str] = &[
    "DMABUF_HEAPS",
    "DMABUF_HEAPS_SYSTEM",
    "DMA_SHARED_BUFFER",
    "FTRACE_SYSCALLS",
    "DEBUG_INFO_BTF",
    "INFINIBAND",
    "INFINIBAND_ON_DEMAND_PAGING",
    "INFINIBAND_USER_ACCESS",
    "IOMMUFD",
    "IOMMUFD_NOIOMMU",
    "IOMMU_DMA",
    "KPROBE_EVENTS",
    "PCI_P2PDMA",
    "SWIOTLB",
    "UDMABUF",
    "VFIO",
    "VFIO_DEVICE_CDEV",
    "VFIO_GROUP",
    "VFIO_IOMMU_TYPE1",
    "VFIO_NOIOMMU",
    "VFIO_PCI",
    "VFIO_PCI_DMABUF",
    "ZONE_DEVICE",
];

/// Options that newer kernels have removed. If the configuration does not mention such an option, the option is unknown, not off.
const REMOVED_OPTIONS: &[&str] = &["DMABUF_MOVE_NOTIFY"];

/// Facts about a host. `None` means unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostFacts {
    /// Kernel release, as `uname -r` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_release: Option<String>,
    /// Machine, as `uname -m` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Page size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_bytes: Option<u64>,
    /// Locked-memory limit of a process in bytes; `None` if unlimited or unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memlock_bytes: Option<u64>,
    /// Whether the locked-memory limit is unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memlock_unlimited: Option<bool>,
    /// Whether swiotlb bounces all untranslated mappings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swiotlb_forced: Option<bool>,
    /// Kind of confidential guest; `None` if the host is not a confidential guest, or if this is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidential_guest: Option<ConfidentialGuest>,
    /// Kernel options by name, without `CONFIG_`: `y`, `m`, or `n`. Empty if the configuration is not readable.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kernel_options: BTreeMap<String, String>,
    /// Whether the kernel has the symbol of vfio-pci's dma-buf export; `None` if that is unknown. Read only for kernels that are
    /// too old by version and whose configuration is not readable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dma_buf_export_symbol: Option<bool>,
    /// RDMA devices, and whether they support on-demand paging.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub on_demand_paging: BTreeMap<String, bool>,
    /// Whether the snapshot was taken with permission to read the complete config space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
}

impl HostFacts {
    /// Reads the facts of a snapshot, or of the running host.
    pub fn read(tree: &Tree) -> Self {
        if tree.is_live() {
            return Self::of_this_host(tree);
        }
        tree.read(FACTS_PATH).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn of_this_host(tree: &Tree) -> Self {
        let release = tree.text("proc/sys/kernel/osrelease");
        let limit = tree.text("proc/self/limits").and_then(|text| memlock(&text));
        let kernel_options = release.as_deref().map(|release| kernel_options(tree, release)).unwrap_or_default();
        let version = release.as_deref().and_then(KernelVersion::find);
        let looks_too_old = version.is_some_and(|version| version < KernelVersion::VFIO_DMA_BUF);
        Self {
            dma_buf_export_symbol: if looks_too_old && kernel_options.is_empty() { export_symbol() } else { None },
            kernel_options,
            kernel_release: release,
            machine: tree.text("proc/sys/kernel/arch"),
            page_bytes: tree.text("proc/self/smaps").and_then(|text| page_bytes(&text)),
            memlock_bytes: limit.flatten(),
            memlock_unlimited: limit.map(|limit| limit.is_none()),
            ..Self::default()
        }
    }

    /// Whether the kernel has an option, built in or as a module.
    pub fn option(&self, name: &str) -> Option<bool> {
        self.kernel_options.get(name).map(|value| value == "y" || value == "m")
    }
}

/// Reads the configuration from the distribution's file, or from `/proc/config.gz`.
fn kernel_options(tree: &Tree, release: &str) -> BTreeMap<String, String> {
    let text = ["boot/config-", "usr/lib/modules/", "lib/modules/"]
        .iter()
        .zip(["", "/config", "/config"])
        .find_map(|(before, after)| tree.text(&format!("{before}{release}{after}")))
        .or_else(|| unpack(&tree.read("proc/config.gz")?));
    text.map(|text| options(&text)).unwrap_or_default()
}

fn unpack(bytes: &[u8]) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).take(crate::tree::FILE_LIMIT_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

fn options(text: &str) -> BTreeMap<String, String> {
    let set: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('=')).collect();
    let disabled = |name: &str| text.lines().any(|line| line == format!("# CONFIG_{name} is not set"));
    let value = |name: &&str| set.get(name).copied().unwrap_or("n").to_owned();
    let mentioned = REMOVED_OPTIONS.iter().filter(|name| set.contains_key(**name) || disabled(name));
    OPTIONS.iter().chain(mentioned).map(|name| ((*name).to_owned(), value(name))).collect()
}

/// The soft limit of locked memory in bytes; `Some(None)` means unlimited.
fn memlock(limits: &str) -> Option<Option<u64>> {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?.split_whitespace().next()?;
    match soft {
        "unlimited" => Some(None),
        bytes => bytes.parse().ok().map(Some),
    }
}

fn page_bytes(smaps: &str) -> Option<u64> {
    let kib: u64 =
        smaps.lines().find_map(|line| line.strip_prefix("KernelPageSize:"))?.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_disabled_and_unknown_options() {
        let options = options("CONFIG_VFIO_PCI=m\n# CONFIG_IOMMUFD is not set\nCONFIG_PCI_P2PDMA=y\n");
        let facts = HostFacts { kernel_options: options, ..HostFacts::default() };
        assert_eq!(facts.option("VFIO_PCI"), Some(true));
        assert_eq!(facts.option("IOMMUFD"), Some(false));
        assert_eq!(facts.option("NEVER_ASKED"), None);
        assert_eq!(facts.option("DMABUF_MOVE_NOTIFY"), None, "newer kernels do not have it");
        let facts = HostFacts { kernel_options: super::options("# CONFIG_DMABUF_MOVE_NOTIFY is not set\n"), ..facts };
        assert_eq!(facts.option("DMABUF_MOVE_NOTIFY"), Some(false));
    }

    #[test]
    fn parses_limits() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max locked memory         8388608              8388608              bytes\n";
        assert_eq!(memlock(text), Some(Some(8 << 20)));
        assert_eq!(memlock("Max locked memory         unlimited            unlimited            bytes\n"), Some(None));
        assert_eq!(page_bytes("KernelPageSize:        4 kB\n"), Some(4096));
    }

    #[test]
    fn ignores_facts_of_newer_versions() {
        let facts: HostFacts = serde_json::from_str(r#"{"page_bytes": 65536, "invented_later": [1]}"#).unwrap();
        assert_eq!(facts, HostFacts { page_bytes: Some(65536), ..HostFacts::default() });
        assert_eq!(serde_json::to_string(&HostFacts::default()).unwrap(), "{}");
    }
}
