//! Checks whether a host can export a BAR, import it and observe the path. The checks change nothing.
//!
//! [`CHECKS`] lists all of them in the order in which a user should fix problems. Help, JSON and text output have the same order.
//! A check that does not apply returns no finding; for example, the exporter checks return none without an exporter. A check
//! without the necessary information returns *unknown*.

mod acs_redirect;
mod ats_required;
mod boot_options;
mod bus_master;
mod context;
mod devices_of_interest;
mod exporter;
mod finding;
mod gpu;
mod hops;
mod importer;
mod importer_kind;
mod iommu;
mod kernel;
mod links;
mod live;
mod mapping;
mod pair;
mod platform;
mod process;
mod vmd;

pub(crate) use boot_options::judges as judges_boot_option;
pub use context::Selection;
pub use finding::{Finding, Status};
pub use live::{GpuFacts, Gpus, LiveFacts, Use};

use context::Context;
use finding::Verdict;

use crate::{Inventory, Tree};

/// One check of a host.
pub struct Check {
    /// The name of the check in findings.
    pub name: &'static str,
    /// Requirement that the check verifies, as a phrase for help texts.
    pub about: &'static str,
    /// Whether the check concerns a requirement of VFIO. It does not apply to memory that a GPU driver exports.
    of_vfio: bool,
    run: fn(&Context<'_>) -> Vec<Verdict>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

const fn check(name: &'static str, about: &'static str, run: fn(&Context<'_>) -> Vec<Verdict>) -> Check {
    Check { name, about, of_vfio: false, run }
}

/// Creates a check of a requirement of VFIO.
const fn of_vfio(name: &'static str, about: &'static str, run: fn(&Context<'_>) -> Vec<Verdict>) -> Check {
    Check { of_vfio: true, ..check(name, about, run) }
}

/// Every check, in the order in which a user should fix problems.
pub static CHECKS: &[Check] = &[
    of_vfio("kernel-version", "Linux 6.19 or newer, which can export BARs", kernel::version),
    check("kernel-options", "required kernel options", kernel::options),
    of_vfio("iommu", "an IOMMU is enabled", iommu::in_use),
    check(
        "boot-options",
        "no PCI or IOMMU boot option is ignored or applies to unintended functions",
        boot_options::check,
    ),
    of_vfio("noiommu", "no-IOMMU mode of VFIO is off", iommu::noiommu_mode),
    of_vfio("vfio-driver", "vfio-pci is loaded", kernel::vfio_driver),
    of_vfio("legacy-dma", "the platform's DMA operations can map MMIO", platform::legacy_dma),
    check("confidential-guest", "not an SEV, TDX or CCA guest", platform::confidential_guest),
    check("swiotlb", "swiotlb=force is not set (it prevents untranslated mappings of BARs)", platform::swiotlb),
    check("config-space", "config space is completely readable", platform::config_space),
    check("exporter", "a function with an exportable BAR", exporter::exists),
    check("exporter-rule", "exporting driver, and its rule for importers", exporter::rule),
    check("bar", "size, width and address of the BAR", exporter::bar),
    of_vfio("iommu-group", "VFIO can own the exporter's IOMMU group", exporter::group),
    check("vmd", "no function is behind Intel's VMD", vmd::check),
    of_vfio("exporter-driver", "the exporter is bound to vfio-pci", exporter::driver),
    of_vfio("in-use", "the exporter is not in use", exporter::in_use),
    check("memory-decode", "memory decoding of the exporter is on", exporter::memory_decode),
    check("tdisp", "no function is locked by TDISP", platform::tdisp),
    check("link-security", "no TSM connection and no link encryption (IDE)", platform::link_security),
    check("rdma-library", "libibverbs is installed", importer::library),
    check("importer", "an RDMA device that can import", importer::exists),
    check("importer-driver", "the driver supports revocable dma-bufs", importer::driver),
    check("importer-ready", "the device is ready for use", importer::ready),
    check("bus-master", "bus mastering of the importer is on, so it can send DMA", bus_master::check),
    of_vfio("on-demand-paging", "on-demand paging (ODP), if the driver needs it", importer::on_demand_paging),
    check("gpu-driver", "NVIDIA driver, its CUDA version and GPUs", gpu::driver),
    check("gpu-module", "kernel module of the GPU", gpu::module),
    check("gpu-dma-buf", "the driver exports GPU memory as dma-bufs", gpu::dma_buf),
    check("gpu-direct-rdma", "other devices can access GPU memory (GPUDirect RDMA)", gpu::direct_rdma),
    check("gpu-bar1", "size of BAR1 compared with the GPU's memory", gpu::memory_bar),
    check("path", "predicted path and the rule that determines it", pair::path),
    check("acs-redirect", "no ACS redirect between functions below one switch", acs_redirect::check),
    check("dma-mask", "the importer's DMA mask covers the BAR", mapping::dma_mask),
    check("address-offset", "bus addresses equal CPU addresses", platform::address_offset),
    of_vfio("multi-range", "buffers with several ranges can be mapped", mapping::multi_range),
    check("link", "links run at the highest speed and width of both ends", links::speed_and_width),
    check("max-payload", "no payload exceeds the MPS of a receiver", links::max_payload),
    check("max-read-request", "max read request size (MRRS) at least the MPS", links::max_read_request),
    check("relaxed-ordering", "relaxed ordering is enabled on the importer", links::relaxed_ordering),
    check("acs-route", "route of requests and completions through a switch", pair::acs_route),
    check("ats", "path of ATS-translated requests", pair::ats),
    check("ats-required", "functions whose ATS the kernel keeps on", ats_required::check),
    check("memlock", "locked-memory limit", process::memlock),
    check("observation", "the kernel's tracing can observe the path", process::observation),
];

/// Runs every check. `live` contains facts that only the running host provides; without `live`, the checks that need these facts
/// return *unknown*.
pub fn run_checks(tree: &Tree, inventory: &Inventory, selection: &Selection, live: Option<&LiveFacts>) -> Vec<Finding> {
    let context = Context::new(tree, inventory, selection, live);
    let mut findings = Vec::new();
    for check in CHECKS.iter().filter(|check| context.through_vfio() || !check.of_vfio) {
        // If a GPU driver may export the memory, a missing requirement of VFIO is only a warning.
        let may_not_apply = check.of_vfio && context.rule_unknown();
        let softened = |verdict: Verdict| if may_not_apply { verdict.at_most_warn() } else { verdict };
        findings.extend((check.run)(&context).into_iter().map(|verdict| softened(verdict).of(check.name)));
    }
    findings
}
