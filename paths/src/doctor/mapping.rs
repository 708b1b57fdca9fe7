//! Checks of the DMA mapping of a pair: the importer's DMA mask, and buffers with several ranges.

use super::pair::pair;
use super::{Context, Verdict};
use crate::predict::{WITHOUT_FREE_RANGE, multi_range_defect};
use crate::vfio::is_vfio_driver;
use crate::{Cause, PathName, sentence};

/// The fact that decides the path of the selected pair, as a sentence. Called if the DMA mask is the cause of a refusal.
fn refused_by_mask(at: &Context<'_>) -> String {
    at.report.as_ref().map_or_else(String::new, |report| sentence(&report.deciding.fact))
}

pub(super) fn dma_mask(at: &Context<'_>) -> Vec<Verdict> {
    let (Some(subject), Some(importer), Some(facts)) = (pair(at), at.importer, &at.facts) else { return Vec::new() };
    let refused = at.report.as_ref().is_some_and(|report| report.cause == Some(Cause::DmaMask));
    let bits = importer.dma_mask_bits.unwrap_or_default();
    vec![match facts.mask_reaches_bar {
        _ if refused => Verdict::fail(
            subject,
            Cause::DmaMask,
            refused_by_mask(at),
            match facts.translated {
                Some(true) => sentence(WITHOUT_FREE_RANGE),
                _ => "Set the domain type of the importer's group to DMA, or place the BAR lower (firmware: no decoding above 4 GiB).".to_owned(),
            },
        ),
        _ if at.own_address_space => Verdict::pass(
            subject,
            "The DMA mask does not matter: the program that maps through iommufd chooses the I/O virtual addresses.",
        ),
        // A GPU driver maps through the DMA API on every path.
        _ if at.through_vfio() && at.takes(PathName::BusAddress) => Verdict::pass(subject, "A bus-address path does not depend on the DMA mask."),
        Some(false) if facts.translated == Some(true) => {
            Verdict::pass(subject, format!("The DMA mask has {bits} bits, and the translating domain allocates addresses below the mask."))
        }
        Some(false) => Verdict::warn(
            subject,
            format!(
                "The BAR's address exceeds the importer's DMA mask of {bits} bits, so the kernel refuses an untranslated mapping."
            ),
            "Set the domain type of the importer's group to DMA.",
        )
        .because(Cause::DmaMask),
        Some(true) => Verdict::pass(subject, format!("The importer's DMA mask of {bits} bits covers the BAR.")),
        None if importer.driver.as_deref().is_some_and(is_vfio_driver) => Verdict::unknown(
            subject,
            "The importer's DMA mask is unknown: only the importer's own driver sets it, and a VFIO driver is bound.",
            format!("Select the importer as iommufd:{}, or bind it to its own driver.", importer.bdf),
        ),
        None if at.tree.is_live() && importer.driver.is_some() => Verdict::unknown(
            subject,
            "The importer's DMA mask is unknown: the file dma_mask_bits of the importer in sysfs is not readable.",
            "Check the importer's driver: a run reports the cause dma-mask if the mask does not cover the BAR.",
        ),
        None if importer.driver.is_some() || !importer.driver_known => Verdict::unknown(
            subject,
            "The importer's DMA mask is unknown: the snapshot or lspci output does not contain the file dma_mask_bits of the importer.",
            "Add the file dma_mask_bits of the importer to the sysfs copy, or take a snapshot with `peerpath snapshot`.",
        ),
        None => Verdict::unknown(
            subject,
            "The importer's DMA mask is unknown: no driver of the device has set it.",
            "Bind the importer to its own driver.",
        ),
    }]
}

pub(super) fn multi_range(at: &Context<'_>) -> Vec<Verdict> {
    let host = at.host();
    // A kernel without the dma-buf export of vfio-pci cannot have the multi-range defect.
    if host.dma_buf_export().is_none_or(|(present, _)| !present) {
        return Vec::new();
    }
    if !at.some_importer_may_translate() {
        return Vec::new();
    }
    let unaffected =
        at.facts.as_ref().is_some_and(|facts| facts.translated == Some(false)) || at.takes(PathName::BusAddress);
    vec![match multi_range_defect(host) {
        Some(false) => Verdict::pass("host", "The kernel maps every range of a buffer."),
        _ if unaffected => Verdict::pass("host", "On this path the kernel maps every range of a buffer."),
        Some(true) => Verdict::warn(
            "host",
            "This kernel cannot map more than one range in a translated domain (Linux 6.19 to 7.3); a BAR exported as one range is unaffected.",
            "Export one range, or each range separately.",
        )
        .because(Cause::MultiRangeDefect),
        None => Verdict::unknown(
            "host",
            "It is unknown whether this kernel maps more than one range in a translated domain.",
            "Export one range, or try several ranges: a kernel with the defect returns EADDRINUSE.",
        ),
    }]
}
