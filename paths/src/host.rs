//! Facts of the whole host: kernel, command line, processor, memory encryption.

mod command_line;
pub(crate) mod cpu;
mod facts;
mod feature;
mod guest;
mod platform;

use serde::{Deserialize, Serialize};

pub use command_line::CommandLine;
pub use cpu::{Architecture, Cpu, LegacyDma};
pub use facts::{FACTS_PATH, HostFacts};
pub use feature::Evidence;
pub use guest::ConfidentialGuest;
pub(crate) use guest::marks as guest_marks;
pub use platform::Platform;
pub(crate) use platform::files as platform_files;

use crate::{KernelVersion, Tree};

/// Facts of a host. `None` means that the fact is not readable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// The kernel version.
    pub kernel: Option<KernelVersion>,
    /// The kernel command line. `None` also if the file is longer than the longest command line that any kernel accepts.
    pub command_line: Option<CommandLine>,
    /// The first processor listed in `/proc/cpuinfo`, whose vendor and family P2PDMA checks.
    pub cpu: Option<Cpu>,
    /// The kind of confidential guest; `None` if the host is not a confidential guest.
    pub confidential_guest: Option<ConfidentialGuest>,
    /// Whether the no-IOMMU mode of VFIO is on.
    pub noiommu_mode: Option<bool>,
    /// Whether the kernel maps each range of a dma-buf at its own offset, that is, lacks the multi-range defect; `None` if the
    /// module `dma_buf_mapping` has no parameter `iova_multirange`.
    pub multi_range_corrected: Option<bool>,
    /// Facts that are not in sysfs or procfs.
    pub facts: HostFacts,
    /// The kind of machine, as far as files other than those of the PCI functions identify it. [`Platform::of`] also considers
    /// the functions.
    pub platform: Option<Platform>,
}

/// Whether swiotlb bounces all untranslated mappings, and the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bounce {
    /// Untranslated mappings do not bounce.
    No,
    /// The kernel command line contains `swiotlb=force`.
    Forced,
    /// The host is a confidential guest with encrypted memory: the kernel bounces or refuses untranslated mappings, see
    /// [`KernelRules::encrypted_mmio`](crate::KernelRules::encrypted_mmio).
    Encryption,
}

impl Host {
    /// Reads the facts of a host.
    pub fn read(tree: &Tree) -> Self {
        let facts = HostFacts::read(tree);
        let cpu_text = tree.text("proc/cpuinfo").filter(|text| !text.is_empty());
        let release = tree.text("proc/sys/kernel/osrelease").or_else(|| facts.kernel_release.clone());
        let cpu = cpu_text.as_deref().map(Cpu::parse);
        Self {
            platform: platform::of_files(tree, cpu.as_ref(), release.as_deref()),
            kernel: release.or_else(|| tree.text("proc/version")).as_deref().and_then(KernelVersion::find),
            command_line: tree
                .text("proc/cmdline")
                .filter(|text| CommandLine::is_possible(text))
                .map(|text| CommandLine::parse(&text)),
            confidential_guest: facts.confidential_guest.or_else(|| guest::detect(tree, cpu_text.as_deref())),
            cpu,
            noiommu_mode: flag(tree, "sys/module/vfio/parameters/enable_unsafe_noiommu_mode"),
            multi_range_corrected: flag(tree, "sys/module/dma_buf_mapping/parameters/iova_multirange"),
            facts,
        }
    }

    /// Determines whether untranslated mappings bounce; `None` if the command line is unknown.
    pub fn bounce(&self) -> Option<Bounce> {
        if self.confidential_guest.is_some() {
            return Some(Bounce::Encryption);
        }
        match self.facts.swiotlb_forced {
            Some(forced) => Some(if forced { Bounce::Forced } else { Bounce::No }),
            None => {
                let forced = self.command_line.as_ref()?.swiotlb_forced(self.kernel)?;
                Some(if forced { Bounce::Forced } else { Bounce::No })
            }
        }
    }

    /// The page size in bytes; 4096 if unknown.
    pub fn page_bytes(&self) -> u64 {
        self.facts.page_bytes.filter(|bytes| bytes.is_power_of_two()).unwrap_or(4096)
    }
}

fn flag(tree: &Tree, path: &str) -> Option<bool> {
    match tree.text(path)?.as_str() {
        "Y" | "1" => Some(true),
        "N" | "0" => Some(false),
        _ => None,
    }
}
