//! The facts that make the DMA API refuse a mapping, as clauses.

use super::importer::{ImporterFacts, MappedBar, Mapping, Reach};
use crate::kernel_rules::EncryptedMmio;
use crate::{Bar, Bounce, Cause, Function, Host, KernelRules};

/// A refused mapping.
pub(super) struct Refused<'a> {
    pub(super) host: &'a Host,
    pub(super) importer: &'a Function,
    pub(super) facts: &'a ImporterFacts<'a>,
    pub(super) bar: Option<Bar>,
}

impl Refused<'_> {
    /// Returns the fact behind the cause, and whether it concerns the importer (`true`) or the host (`false`).
    pub(super) fn fact(&self, cause: Cause) -> (bool, String) {
        let mapping = &self.facts.mapping_fact;
        match cause {
            Cause::SwiotlbForced => (false, format!("swiotlb=force bounces every untranslated mapping, and {mapping}")),
            Cause::ConfidentialGuest => (false, format!("{}, and {mapping}", self.encrypted())),
            Cause::LegacyDmaOps => {
                let platform = self.host.cpu.as_ref().and_then(|cpu| cpu.legacy_dma);
                let platform = platform.map_or("the platform's DMA operations", |platform| platform.as_str());
                (true, format!("{platform} rejects MMIO"))
            }
            Cause::DmaMask => (true, self.unreachable()),
            Cause::MultiRangeDefect => {
                let kernel = match self.host.kernel {
                    Some(kernel) => format!("Linux {kernel}"),
                    None => "this kernel".to_owned(),
                };
                (true, format!("{kernel} cannot map more than one range in a translated domain, and {mapping}"))
            }
            _ => (true, mapping.clone()),
        }
    }

    fn encrypted(&self) -> String {
        let guest = self.host.confidential_guest.map_or_else(|| "confidential".to_owned(), |guest| guest.to_string());
        match KernelRules::fact(self.host.kernel, |rules| rules.encrypted_mmio) {
            Some(EncryptedMmio::Bounced) => {
                format!("a {guest} guest bounces every untranslated mapping, and the DMA API cannot bounce a BAR")
            }
            Some(EncryptedMmio::NotCapable) => format!(
                "in a {guest} guest a device reaches only addresses that are shared with the hypervisor, and a BAR that is \
                 mapped without translation is not shared (dma_capable)"
            ),
            None => format!("a {guest} guest permits no untranslated mapping of a BAR"),
        }
    }

    fn unreachable(&self) -> String {
        let bits = self.importer.dma_mask_bits.unwrap_or_default();
        let mapping = &self.facts.mapping_fact;
        let Some(bar) = &self.bar else { return mapping.clone() };
        let at = format!("BAR {} at {:#x}-{:#x}", bar.index, bar.start, bar.last());
        if self.facts.mapping == Mapping::Translated {
            return format!(
                "no I/O virtual address range of {:#x} bytes is free for BAR {} below the DMA mask of {bits} bits, because the \
                 kernel aligns a range to its size and avoids reserved ranges; {mapping}",
                bar.size_bytes, bar.index
            );
        }
        match self.facts.reach(self.host, MappedBar { bar: Some(bar), exists: Some(true) }) {
            Reach::BeyondInbound => format!(
                "{at} is outside of the inbound ranges (dma-ranges) of the host bridge of {}; {mapping}",
                self.importer.bdf
            ),
            _ => format!("{at} exceeds the DMA mask of {bits} bits; {mapping}"),
        }
    }
}

/// Missing information that decides whether the DMA API makes an untranslated mapping, as noun phrases.
pub(super) fn unknown_of_direct_mapping(
    host: &Host,
    importer: &Function,
    facts: &ImporterFacts<'_>,
    bar: MappedBar<'_>,
) -> Vec<String> {
    let reach = facts.reach(host, bar);
    let mut unknown = Vec::new();
    // A mapping that the mask refuses does not depend on swiotlb.
    if host.bounce().is_none() && matches!(reach, Reach::Reached | Reach::Unknown) {
        unknown.push("whether swiotlb=force is set (/proc/cmdline)".to_owned());
    }
    if reach == Reach::Unknown && !facts.inbound_known() && host.bounce() != Some(Bounce::Forced) {
        unknown.push(format!("the inbound ranges of the host bridge of {} (dma-ranges in devicetree)", importer.bdf));
    }
    let high = bar.bar.is_none_or(|bar| bar.last() > u64::from(u32::MAX));
    if facts.mask_unread && high {
        unknown.push(format!("the DMA mask of {} (dma_mask_bits)", importer.bdf));
    } else if facts.mask.is_none() && bar.bar.is_some() && high {
        // With vfio-pci, or without a driver, the mask keeps the kernel's initial value.
        let unset = importer.dma_mask_bits.is_some() || (importer.driver_known && importer.driver.is_none());
        let why = if unset { "no driver has set one" } else { "dma_mask_bits" };
        unknown.push(format!("the DMA mask of {} ({why})", importer.bdf));
    }
    unknown
}
