//! What has to hold before a BAR can be exported, imported and observed, checked before anything is touched.
//!
//! [`CHECKS`] is the whole of it: one small function each, in the order in which a user should put things right. Help,
//! JSON and text follow that table. A check that does not apply (an exporter's, where none is named) finds nothing; one
//! that cannot tell says *unknown*.

mod context;
mod exporter;
mod finding;
mod gpu;
mod hops;
mod importer;
mod iommu;
mod kernel;
mod live;
mod pair;
mod platform;
mod process;

pub use context::Selection;
pub use finding::{Finding, Status};
pub use live::{GpuFacts, Gpus, LiveFacts, Use};

use context::Context;
use finding::Verdict;

use crate::{Inventory, Tree};

/// One check.
pub struct Check {
    /// Its name, as findings carry it.
    pub name: &'static str,
    /// What it looks at, in a few words, for help texts.
    pub about: &'static str,
    run: fn(&Context<'_>) -> Vec<Verdict>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

const fn check(name: &'static str, about: &'static str, run: fn(&Context<'_>) -> Vec<Verdict>) -> Check {
    Check { name, about, run }
}

/// Every check, in the order in which things should be put right.
pub static CHECKS: &[Check] = &[
    check("kernel-version", "Linux 6.19 or newer, which exports BARs", kernel::version),
    check("kernel-options", "what the kernel has to be built with", kernel::options),
    check("iommu", "an IOMMU is in use", iommu::in_use),
    check("noiommu", "VFIO's mode without IOMMU is off", iommu::noiommu_mode),
    check("vfio-driver", "vfio-pci is loaded", kernel::vfio_driver),
    check("legacy-dma", "no platform whose DMA operations want pages", platform::legacy_dma),
    check("confidential-guest", "no SEV, TDX or CCA guest", platform::confidential_guest),
    check("swiotlb", "direct mappings are not bounced", platform::swiotlb),
    check("config-space", "config space can be read whole", platform::config_space),
    check("exporter", "a function with a BAR to export", exporter::exists),
    check("bar", "size, width and address of the BAR", exporter::bar),
    check("iommu-group", "nothing in the exporter's group keeps VFIO out", exporter::group),
    check("exporter-driver", "vfio-pci has the exporter", exporter::driver),
    check("in-use", "nothing uses the exporter", exporter::in_use),
    check("memory-decode", "the exporter answers memory accesses", exporter::memory_decode),
    check("tdisp", "neither function is locked for a confidential guest", platform::tdisp),
    check("rdma-library", "libibverbs is installed", importer::library),
    check("importer", "an RDMA device to import into", importer::exists),
    check("importer-driver", "its driver imports revocable peer-to-peer buffers", importer::driver),
    check("importer-ready", "the device can be used now", importer::ready),
    check("on-demand-paging", "paging on demand, where the driver needs it", importer::on_demand_paging),
    check("gpu-driver", "NVIDIA's driver, the CUDA that it speaks, its GPUs", gpu::driver),
    check("gpu-module", "which kernel module drives the GPU", gpu::module),
    check("gpu-dma-buf", "the GPU's memory can be had as dma-bufs", gpu::dma_buf),
    check("gpu-direct-rdma", "other devices may reach the GPU's memory", gpu::direct_rdma),
    check("gpu-bar1", "how much of the GPU's memory its BAR shows", gpu::memory_bar),
    check("path", "which way the kernel would choose, and why", pair::path),
    check("dma-mask", "the importer's DMA mask reaches the BAR", pair::dma_mask),
    check("address-offset", "bus addresses equal the CPU's", platform::address_offset),
    check("multi-range", "buffers of many ranges can be mapped", pair::multi_range),
    check("max-payload", "one payload size (MPS) along the way", pair::max_payload),
    check("max-read-request", "read requests (MRRS) no smaller than the payload", pair::max_read_request),
    check("relaxed-ordering", "the importer may relax the order of writes", pair::relaxed_ordering),
    check("ats", "which way requests go that ATS has translated", pair::ats),
    check("memlock", "memory can be locked for the far side", process::memlock),
    check("observation", "the path taken can be observed", process::observation),
];

/// Carries out every check. `live` is what only the running host can be asked; without it those checks say *unknown*.
pub fn run_checks(tree: &Tree, inventory: &Inventory, selection: &Selection, live: Option<&LiveFacts>) -> Vec<Finding> {
    let context = Context::new(tree, inventory, selection, live);
    let mut findings = Vec::new();
    for check in CHECKS {
        findings.extend((check.run)(&context).into_iter().map(|verdict| verdict.of(check.name)));
    }
    findings
}
