//! The missing information that makes a path unknown.

use super::ReportBuilder;
use crate::predict::importer::Mapping;
use crate::predict::refusal::unknown_of_direct_mapping;
use crate::predict::{Request, multi_range_defect};
use crate::{GroupMembership, KernelRules};

impl ReportBuilder<'_> {
    pub(super) fn unknown(&self) -> Vec<String> {
        if self.predictor.request.own_address_space {
            return Vec::new();
        }
        let predictor = self.predictor;
        let mut unknown = Vec::new();
        if self.redirecting.is_empty() {
            unknown.extend(self.acs_unknown.iter().map(|function| match function.config.readable_bytes() {
                _ if function.config.is_partial() => {
                    format!("ACS of {} (the lspci output does not show it)", function.bdf)
                }
                0 => format!("ACS of {} (no config space)", function.bdf),
                bytes => format!("ACS of {} (only {bytes} bytes of config space are readable)", function.bdf),
            }));
        }
        for at in [self.from, self.to] {
            if self.common.is_none() && self.topology().parent_unknown(predictor.top(at)) {
                unknown.push(format!("the bridges above {}", self.function(predictor.top(at)).bdf));
            }
        }
        let routes = predictor.routes(self.from, self.to);
        if routes.host_bridge && routes.none {
            self.unknown_trust(&mut unknown);
        }
        unknown.extend(predictor.newer_kernel().filter(|_| routes.none).map(|kernel| {
            format!(
                "the host bridges that Linux {kernel} trusts (peerpath knows the allowlists up to Linux {})",
                KernelRules::NEWEST
            )
        }));
        if routes.host_bridge {
            self.unknown_mapping(&mut unknown);
        }
        unknown.dedup();
        unknown
    }

    fn unknown_trust(&self, unknown: &mut Vec<String>) {
        let (from, to) = self.roots();
        let trust = &self.predictor.trust;
        match (trust.processor, &self.predictor.host.cpu, self.predictor.host.kernel) {
            (None, Some(cpu), Some(kernel)) if cpu.trusted_for_p2p() == Some(true) => unknown
                .push(format!("whether Linux {kernel} trusts the host bridges of AMD processors, as newer kernels do")),
            (None, ..) => unknown.push("the processor (/proc/cpuinfo)".to_owned()),
            (Some(_), ..) => {}
        }
        if trust.listed(from, to).is_some() {
            return;
        }
        for root in [from, to] {
            let root = &self.topology().roots()[root];
            let bus = format!("{:04x}:{:02x}", root.segment, root.bus);
            match root.possible_first.as_slice() {
                [_, _, ..] => {
                    unknown.push(format!("which device is the first on root bus {bus} (/proc/bus/pci/devices)"))
                }
                [first] => unknown
                    .push(format!("whether {first}, the first device on root bus {bus}, is in the kernel's P2PDMA allowlist of host bridges")),
                [] => {}
            }
        }
    }

    fn unknown_mapping(&self, unknown: &mut Vec<String>) {
        let (host, importer) = (self.predictor.host, self.function(self.to));
        let facts = &self.predictor.importers[self.to];
        if facts.mapping == Mapping::Unknown {
            unknown.push(match importer.membership {
                GroupMembership::Group(number) => {
                    format!("the domain type of {} (/sys/kernel/iommu_groups/{number}/type)", importer.bdf)
                }
                _ => format!("the IOMMU group of {}", importer.bdf),
            });
        }
        if facts.mapping == Mapping::DirectOrTce {
            unknown.push(format!(
                "whether the kernel maps for {} without translation or through its TCE table",
                importer.bdf
            ));
            return;
        }
        if facts.mapping != Mapping::Translated {
            unknown.extend(unknown_of_direct_mapping(host, importer, facts, self.predictor.mapped_bar(self.from)));
        }
        if !self.function(self.from).bars_known && facts.mask.is_some_and(|mask| mask != u64::MAX) {
            let exporter = self.function(self.from).bdf;
            unknown.push(format!("whether the DMA mask of {} covers the BAR of {exporter} (resource)", importer.bdf));
        }
        let Request { ranges, .. } = self.predictor.request;
        if facts.mapping != Mapping::Direct && ranges > 1 && multi_range_defect(host).is_none() {
            unknown.push("whether this kernel maps more than one range".to_owned());
        }
    }
}
