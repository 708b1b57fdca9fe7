//! Changes that give another path, and remarks about the predicted one.

use super::{ReportBuilder, WITHOUT_FREE_RANGE};
use crate::link_security::LinkSecurity;
use crate::placement::Placement;
use crate::predict::importer::derived_from;
use crate::route_facts::{RouteFact, route_facts};
use crate::{Bounce, Cause, ExporterRule, Function, GroupMembership, PathName, Platform, boot_option};

impl ReportBuilder<'_> {
    pub(super) fn would_change(&self, path: PathName, cause: Option<Cause>) -> Vec<String> {
        if self.predictor.request.own_address_space {
            let remedy = |cause| match cause {
                Cause::ForeignDmaBuf => "bind the exporter to vfio-pci, which exports its BAR".to_owned(),
                _ => "export one range, or each range separately".to_owned(),
            };
            return cause.map(remedy).into_iter().collect();
        }
        let mut change = Vec::new();
        let redirecting: Vec<String> = self.redirecting.iter().map(|function| function.bdf.to_string()).collect();
        let is_cleared = |function: &&Function| self.predictor.cleared_at_boot.contains(&function.bdf);
        if !redirecting.is_empty() && self.redirecting.iter().all(is_cleared) {
            change.push(format!(
                "find out why ACS redirect is set on {} although pci=disable_acs_redir= on the command line names them \
                 (`peerpath doctor`), for a bus-address path",
                redirecting.join(", ")
            ));
        } else if !redirecting.is_empty() {
            change.push(format!(
                "clear the ACS redirect bits of {} before binding the exporter (at boot: {}) for a bus-address path",
                redirecting.join(", "),
                boot_option::without_redirect(&redirecting)
            ));
        } else if path != PathName::BusAddress && self.common.is_none() {
            let placement = Placement::of(self.predictor.platform, self.topology(), [self.from, self.to]);
            change.extend(placement.change().filter(|_| path != PathName::Unknown));
        }
        let group = match self.function(self.to).membership {
            GroupMembership::Group(number) => format!(" (/sys/kernel/iommu_groups/{number}/type)"),
            _ => String::new(),
        };
        match (path, cause) {
            (PathName::HostBridgeBypass, _)
                if group.is_empty() && self.predictor.platform.is_some_and(Platform::never_has_iommu) => {}
            (PathName::HostBridgeBypass, _) if group.is_empty() => {
                change.push("enable the IOMMU with a DMA domain for a host-bridge-translated path".to_owned());
            }
            (PathName::HostBridgeBypass, _) => {
                change.push(format!(
                    "set the domain type of the importer{group} to DMA for a host-bridge-translated path"
                ));
            }
            (PathName::HostBridgeTranslated, _) => {
                change.push(format!(
                    "set the domain type of the importer{group} to identity for a host-bridge-bypass path"
                ));
            }
            (_, Some(Cause::SwiotlbForced)) => {
                change
                    .push(format!("boot without swiotlb=force, or set the domain type of the importer{group} to DMA"));
            }
            (_, Some(Cause::DmaMask)) if self.predictor.importers[self.to].translated() == Some(true) => {
                change.push(WITHOUT_FREE_RANGE.to_owned());
            }
            (_, Some(Cause::DmaMask)) => {
                change.push(format!(
                    "set the domain type of the importer{group} to DMA, or assign the BAR an address below the mask"
                ));
            }
            (_, Some(Cause::MultiRangeDefect)) => {
                change.push("export one range, or each range separately".to_owned());
            }
            _ => {}
        }
        change
    }

    /// Remarks about the two functions, for every path.
    fn pair_notes(&self) -> Vec<String> {
        let mut functions = vec![self.function(self.from), self.function(self.to)];
        functions.dedup_by_key(|function| function.bdf);
        let mut notes = Vec::new();
        for function in functions {
            notes.extend(self.topology().vmd_above(function).map(|controller| {
                let bdf = function.bdf;
                format!(
                    "{bdf} is behind the VMD controller {controller}: its requests carry the requester ID of {controller}, so the \
                     IOMMU treats them as requests of {controller}"
                )
            }));
            notes.extend(function.tdisp.as_ref().map(|state| {
                format!(
                    "the TEE device interface (TDISP) of {} is {state}: the function exchanges data only with its confidential guest",
                    function.bdf
                )
            }));
            notes.extend(LinkSecurity::of(self.topology(), function).map(|security| security.clause(function.bdf)));
        }
        let importer = self.function(self.to);
        notes.extend(importer.subfunctions.iter().map(|(device, subfunction)| {
            format!("{device} is a device of the subfunction {subfunction}, whose DMA {} performs", importer.bdf)
        }));
        notes
    }

    pub(super) fn notes(&self, path: PathName, cause: Option<Cause>) -> Vec<String> {
        let translated = self.predictor.importers[self.to].translated();
        let mut notes = self.predictor.rule(self.from).notes(path, cause, translated);
        let importer = self.function(self.to);
        if notes.is_empty() && ExporterRule::of(importer, None) == ExporterRule::Nvidia {
            notes.push(
                "NVIDIA's driver imports dma-bufs only on Tegra; elsewhere CUDA registers the BAR's CPU mapping, and the \
                 driver maps it without the P2PDMA check"
                    .to_owned(),
            );
        }
        let through_root = matches!(path, PathName::HostBridgeBypass | PathName::HostBridgeTranslated);
        let (from_root, to_root) = self.roots();
        if path == PathName::HostBridgeBypass {
            for root in if from_root == to_root { vec![from_root] } else { vec![from_root, to_root] } {
                let root = &self.topology().roots()[root];
                if root.offset.is_some_and(|offset| offset != 0) {
                    notes.push(format!(
                        "the host bridge of bus {:04x}:{:02x} shifts addresses: the DMA address of a bypass mapping is the CPU address, not the bus address",
                        root.segment, root.bus
                    ));
                }
            }
            if self.topology().group_of(importer).is_some_and(|group| group.domain_type.as_deref() == Some("blocked")) {
                notes.push("the importer's domain type is blocked, so the IOMMU blocks its accesses".to_owned());
            }
        }
        let facts = route_facts(self.topology(), self.to, self.common, self.route.as_ref(), path);
        let matters = |fact: &RouteFact| through_root || (path == PathName::BusAddress && fact.is_problem());
        notes.extend(facts.filter(matters).map(|fact| fact.clause));
        if through_root && self.common.is_some() && self.through_root_complex(path) != Some(false) {
            notes.push(
                "the root complex may forward the data inside the root port or over the system interconnect: only a \
                 measurement shows which"
                    .to_owned(),
            );
        }
        if self.predictor.bounce == Some(Bounce::Forced) && path == PathName::HostBridgeTranslated {
            notes.push("swiotlb=force does not affect a translated domain".to_owned());
        }
        notes.extend(self.pair_notes());
        let host = self.predictor.host;
        if let Some(option) = derived_from(host, self.topology(), importer).filter(|_| through_root) {
            notes.push(format!(
                "the domain type of {} is derived from {option}; /sys/kernel/iommu_groups on the host shows whether it was \
                 changed after boot, or differs because the firmware marks a port as external",
                importer.bdf
            ));
        }
        notes
    }
}
