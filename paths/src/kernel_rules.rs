//! Tables of the rules that differ between kernel versions: the P2PDMA allowlist of host bridges ([`listed_devices`]), and the
//! rules of the DMA API, VFIO and tracing ([`KERNEL_RULES`]). [`RDMA_DRIVERS`](crate::RDMA_DRIVERS) lists the drivers that
//! import.
//!
//! The tables describe kernels of kernel.org. A vendor's kernel contains backported features under an old version number, so the
//! version decides only if no better fact is known: see [`Host::dma_buf_export`](crate::Host::dma_buf_export).
//! `scripts/lab check-rules` compares the tables with the source of the newest kernels.

pub(crate) mod host_bridges;

pub use host_bridges::{ListedDevice, listed_devices};
use serde::Serialize;

use crate::KernelVersion;

const fn version(major: u16, minor: u16) -> KernelVersion {
    KernelVersion { major, minor }
}

/// How the kernel compares the mode in `swiotlb=` with `force` and `noforce` (`setup_io_tlb_npages`, kernel/dma/swiotlb.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwiotlbWords {
    /// The rest of the value, after the numbers, must equal the word.
    Whole,
    /// The rest of the value, after the numbers, must begin with the word; `,track_hiwater` may follow.
    Prefix,
}

/// How the kernel refuses an untranslated mapping of MMIO in a confidential guest (`dma_direct_map_phys`, kernel/dma/direct.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncryptedMmio {
    /// Memory encryption forces bouncing (`SWIOTLB_FORCE`), and MMIO cannot be bounced.
    Bounced,
    /// `dma_capable` rejects an address that is not shared with the hypervisor, and the kernel logs a warning.
    NotCapable,
}

/// The rules of one kernel version. A version without a row has the rules of the newest older row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KernelRules {
    /// First version with these rules.
    #[serde(serialize_with = "as_text")]
    pub since: KernelVersion,
    /// How the mode in `swiotlb=` is compared.
    pub swiotlb_words: SwiotlbWords,
    /// How a confidential guest refuses an untranslated mapping.
    pub encrypted_mmio: EncryptedMmio,
    /// Whether an untranslated mapping of MMIO converts the address with the inbound ranges (`dma-ranges`) of the importer's host
    /// bridge. Without this conversion, the highest inbound address still limits the mapping (`bus_dma_limit`).
    pub mmio_translates_inbound: bool,
    /// Whether every range of a dma-buf is linked at offset 0 of the IOVA span (`dma_buf_phys_vec_to_sgt`,
    /// drivers/dma-buf/dma-buf-mapping.c), so that a translated domain cannot map a second range.
    pub multi_range_defect: bool,
    /// Whether VFIO serves functions without an IOMMU through the cdev too (`CONFIG_IOMMUFD_NOIOMMU`).
    pub noiommu_cdev: bool,
    /// Whether the trace event `dma_buf:dma_buf_dynamic_attach` exists (include/trace/events/dma_buf.h).
    pub attach_event: bool,
}

/// Serializes a version as text: `7.3`.
fn as_text<S: serde::Serializer>(version: &KernelVersion, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

/// The rules by version, oldest first. The first row is the first kernel in which vfio-pci exports dma-bufs; a vendor's older
/// kernel with this feature carries the code of that version or of a later one.
pub static KERNEL_RULES: &[KernelRules] = &[
    KernelRules {
        since: KernelVersion::VFIO_DMA_BUF,
        swiotlb_words: SwiotlbWords::Whole,
        encrypted_mmio: EncryptedMmio::Bounced,
        mmio_translates_inbound: false,
        multi_range_defect: true,
        noiommu_cdev: false,
        attach_event: false,
    },
    KernelRules {
        since: version(7, 0),
        swiotlb_words: SwiotlbWords::Whole,
        encrypted_mmio: EncryptedMmio::Bounced,
        mmio_translates_inbound: false,
        multi_range_defect: true,
        noiommu_cdev: false,
        attach_event: true,
    },
    KernelRules {
        since: version(7, 3),
        swiotlb_words: SwiotlbWords::Prefix,
        encrypted_mmio: EncryptedMmio::NotCapable,
        mmio_translates_inbound: true,
        multi_range_defect: true,
        noiommu_cdev: true,
        attach_event: true,
    },
];

impl KernelRules {
    /// Newest kernel whose rules are in the tables. The rules of newer kernels are unknown; predictions apply these.
    pub const NEWEST: KernelVersion = version(7, 3);

    /// The rules of a version: those of the newest row that is not newer, or of the first row for older kernels.
    pub fn of(kernel: KernelVersion) -> &'static Self {
        KERNEL_RULES.iter().rfind(|rules| rules.since <= kernel).unwrap_or(&KERNEL_RULES[0])
    }

    /// A fact that follows from the kernel version; `None` if the version is unknown and the fact differs between versions.
    pub(crate) fn fact<T: PartialEq>(kernel: Option<KernelVersion>, fact: impl Fn(&Self) -> T) -> Option<T> {
        match kernel {
            Some(kernel) => Some(fact(Self::of(kernel))),
            None => {
                let first = fact(&KERNEL_RULES[0]);
                KERNEL_RULES.iter().all(|rules| fact(rules) == first).then_some(first)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_ascend_up_to_the_newest() {
        assert!(KERNEL_RULES.is_sorted_by(|a, b| a.since < b.since));
        assert!(KERNEL_RULES.iter().all(|rules| rules.since <= KernelRules::NEWEST));
    }

    #[test]
    fn a_version_without_a_row_has_the_rules_of_the_newest_older_row() {
        assert_eq!(KernelRules::of(version(7, 2)).since, version(7, 0));
        assert_eq!(KernelRules::of(version(7, 3)).swiotlb_words, SwiotlbWords::Prefix);
        assert_eq!(KernelRules::of(version(8, 0)).since, version(7, 3));
        assert_eq!(KernelRules::of(version(5, 14)).since, KernelVersion::VFIO_DMA_BUF);
    }

    #[test]
    fn a_fact_is_known_without_the_version_if_all_versions_agree() {
        assert_eq!(KernelRules::fact(None, |rules| rules.multi_range_defect), Some(true));
        assert_eq!(KernelRules::fact(None, |rules| rules.noiommu_cdev), None);
        assert_eq!(KernelRules::fact(Some(version(7, 2)), |rules| rules.noiommu_cdev), Some(false));
    }
}
