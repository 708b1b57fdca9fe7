//! What concerns the whole host: kernel, command line, processor, memory encryption.

mod command_line;
mod cpu;
mod facts;
mod guest;
mod kernel;

use serde::{Deserialize, Serialize};

pub use command_line::CommandLine;
pub use cpu::{Cpu, LegacyDma};
pub use facts::{FACTS_PATH, HostFacts};
pub use guest::ConfidentialGuest;
pub(crate) use guest::marks as guest_marks;
pub use kernel::KernelVersion;

use crate::Tree;

/// Everything that is read once for a host. `None` is "could not be read".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Version of the kernel.
    pub kernel: Option<KernelVersion>,
    /// Its command line.
    pub command_line: Option<CommandLine>,
    /// The first processor, the one that p2pdma asks.
    pub cpu: Option<Cpu>,
    /// The kind of confidential guest that this is.
    pub confidential_guest: Option<ConfidentialGuest>,
    /// VFIO's no-IOMMU mode is switched on.
    pub noiommu_mode: Option<bool>,
    /// The kernel links every range at its own offset: the correction of the multi-range defect, where it is present.
    pub multi_range_corrected: Option<bool>,
    /// What is no file of the host.
    pub facts: HostFacts,
}

/// Whether all direct DMA mappings bounce, and through what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bounce {
    /// They do not.
    No,
    /// `swiotlb=force`.
    Forced,
    /// Memory encryption of a confidential guest.
    Encryption,
}

impl Host {
    /// Reads the host behind a tree.
    pub fn read(tree: &Tree) -> Self {
        let facts = HostFacts::read(tree);
        let cpu_text = tree.text("proc/cpuinfo").filter(|text| !text.is_empty());
        let release = tree.text("proc/sys/kernel/osrelease").or_else(|| facts.kernel_release.clone());
        Self {
            kernel: release.or_else(|| tree.text("proc/version")).as_deref().and_then(KernelVersion::find),
            command_line: tree.text("proc/cmdline").map(|text| CommandLine::parse(&text)),
            confidential_guest: facts.confidential_guest.or_else(|| guest::detect(tree, cpu_text.as_deref())),
            cpu: cpu_text.as_deref().map(Cpu::parse),
            noiommu_mode: flag(tree, "sys/module/vfio/parameters/enable_unsafe_noiommu_mode"),
            multi_range_corrected: flag(tree, "sys/module/dma_buf_mapping/parameters/iova_multirange"),
            facts,
        }
    }

    /// Whether direct mappings bounce; unknown without the command line.
    pub fn bounce(&self) -> Option<Bounce> {
        if self.confidential_guest.is_some() {
            return Some(Bounce::Encryption);
        }
        match self.facts.swiotlb_forced {
            Some(forced) => Some(if forced { Bounce::Forced } else { Bounce::No }),
            None => {
                let forced = self.command_line.as_ref()?.swiotlb_forced();
                Some(if forced { Bounce::Forced } else { Bounce::No })
            }
        }
    }

    /// The page size; 4 KiB where nobody said otherwise.
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
