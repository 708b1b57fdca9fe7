//! Checks for functions whose ATS the kernel keeps on in every domain (`pci_ats_required`, drivers/pci/ats.c, since Linux 7.3).
//! Only the driver of Arm's SMMUv3 calls this function.

use super::context::few;
use super::{Context, Verdict};
use crate::{Architecture, Capability, Function, KernelVersion};

const V7_3: KernelVersion = KernelVersion { major: 7, minor: 3 };

pub(super) fn check(at: &Context<'_>) -> Vec<Verdict> {
    let is_arm = at.host().cpu.as_ref().and_then(|cpu| cpu.architecture) == Some(Architecture::Arm64);
    if !is_arm || at.host().kernel.is_none_or(|kernel| kernel < V7_3) {
        return Vec::new();
    }
    let selected: Vec<&Function> = match (at.importer, at.exporter) {
        (Some(importer), _) => vec![importer],
        (None, Some(_)) => return Vec::new(),
        (None, None) => at.topology().functions().iter().collect(),
    };
    let always: Vec<_> = selected
        .into_iter()
        .filter(|function| function.ats != Capability::Absent && at.topology().group_of(function).is_some())
        .filter(|function| is_required(at, function))
        .map(|function| function.bdf.to_string())
        .collect();
    if always.is_empty() {
        return Vec::new();
    }
    vec![Verdict::warn(
        few(&always),
        "The function accesses memory coherently, so the kernel keeps ATS on, also in an identity domain, and the function \
         sends translated requests.",
        "Check the direct-translated bit of the ports above the function (`lspci -vv`, ACSCtl: DirectTrans). It decides the \
         route of translated requests; an identity domain does not.",
    )]
}

/// Whether a function, or the physical function of a virtual one, needs ATS: a device with CXL.cache, and the devices in
/// `pci_dev_ats_required` (drivers/pci/quirks.c).
fn is_required(at: &Context<'_>, function: &Function) -> bool {
    let function = function.physical_function.and_then(|bdf| at.topology().function(bdf)).unwrap_or(function);
    let listed = match (function.vendor, function.device) {
        // GB20B.
        (Some(0x10de), Some(device)) => (0x2e00..=0x2e3f).contains(&device),
        // ConnectX-10 with NVLink-C2C.
        (Some(0x15b3), Some(0x2101)) => true,
        _ => false,
    };
    listed || function.config.cxl_cache() == Capability::Present(true)
}
