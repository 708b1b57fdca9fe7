//! Plans the host changes after which a pair uses the requested path.
//!
//! Two settings can change at run time: the type of the importer's IOMMU domain, and the ACS redirect bits of the ports between
//! the two functions. A plan is applied to a copy of the topology first. If the prediction for the copy contradicts the plan, the
//! result is an error that names the deciding fact.

use crate::host_change::{DomainType, HostChange};
use crate::placement::Placement;
use crate::{
    AcsControl, Bdf, Capability, Cause, Explanation, GroupMembership, Inventory, IommuGroupId, PathName, Platform,
    Prediction, Request,
};

impl Inventory {
    /// Plans the host changes after which the pair `from`, `to` uses the path `wanted`, in the order in which to apply them;
    /// empty if the pair already uses this path. `None` if one of the functions does not exist.
    ///
    /// # Errors
    /// No host change makes the pair use the path. The explanation contains the reason.
    pub fn arrange(
        &self,
        from: Bdf,
        to: Bdf,
        wanted: PathName,
        request: Request,
    ) -> Option<Result<Vec<HostChange>, Explanation>> {
        let predicted = self.predictor(request).predict(from, to)?;
        let plan = Plan { inventory: self, from, to, request };
        if predicted.path == wanted {
            return Some(match wanted {
                PathName::HostBridgeBypass => plan.with_requests_redirected(Vec::new()),
                _ => Ok(Vec::new()),
            });
        }
        if request.own_address_space {
            return Some(Err(Explanation::uncaused(
                format!("The I/O address space (IOAS) of {to} always translates."),
                "Request the path `translated`, or choose another kind of target.",
            )));
        }
        Some(plan.changes(wanted).and_then(|changes| plan.verified(changes, wanted)))
    }
}

struct Plan<'a> {
    inventory: &'a Inventory,
    from: Bdf,
    to: Bdf,
    request: Request,
}

impl Plan<'_> {
    fn changes(&self, wanted: PathName) -> Result<Vec<HostChange>, Explanation> {
        match wanted {
            PathName::BusAddress => self.without_redirects(),
            PathName::HostBridgeBypass => self.through_root(DomainType::Identity),
            PathName::HostBridgeTranslated => self.through_root(DomainType::Translated),
            _ => Err(Explanation::uncaused(
                format!("No change of the host leads to {wanted}."),
                "Request bus-address, bypass or translated.",
            )),
        }
    }

    fn without_redirects(&self) -> Result<Vec<HostChange>, Explanation> {
        let Self { from, to, .. } = *self;
        let Some(checked) = self.checked_functions() else {
            let remedy = match self.placement() {
                Some(placement) if placement != Placement::Slots => placement.instead(),
                _ => "Move both functions below one switch.".to_owned(),
            };
            return Err(Explanation::new(
                Cause::Topology,
                format!(
                    "{from} and {to} have no common bridge, so all transfers between them pass through the root complex."
                ),
                remedy,
            ));
        };
        self.require_acs_seen(&checked)?;
        let pair = [from, to].into_iter().filter_map(|bdf| self.inventory.topology.function(bdf));
        let redirecting = pair.filter_map(|function| Some((function.bdf, function.redirects().present()?))).next();
        if let Some((bdf, acs)) = redirecting {
            return Err(Explanation::new(
                Cause::Topology,
                format!(
                    "ACS redirect is set on {bdf} itself ({}), and the kernel sets it again when a driver binds.",
                    acs.redirect_names()
                ),
                format!("Choose a function without ACS, or boot with pci=disable_acs_redir={bdf}."),
            ));
        }
        Ok(self.ports(&checked).filter_map(|bdf| self.redirect(bdf, false)).collect())
    }

    fn placement(&self) -> Option<Placement> {
        let Inventory { host, topology } = self.inventory;
        let pair = [topology.position(self.from)?, topology.position(self.to)?];
        Some(Placement::of(Platform::of(host, topology), topology, pair))
    }

    /// Selects the ports between exporter and importer. Excludes exporter and importer themselves: the kernel sets their ACS bits
    /// again at every driver probe.
    fn ports<'b>(&self, checked: &'b [Bdf]) -> impl Iterator<Item = Bdf> + use<'b> {
        let Self { from, to, .. } = *self;
        checked.iter().copied().filter(move |bdf| ![from, to].contains(bdf))
    }

    fn through_root(&self, domain: DomainType) -> Result<Vec<HostChange>, Explanation> {
        let mut changes: Vec<HostChange> = self.domain(domain)?.into_iter().collect();
        changes.extend(self.any_redirect()?);
        match domain {
            DomainType::Identity => self.with_requests_redirected(changes),
            // A translated DMA address is outside of every bridge window, so every request passes through the root complex.
            DomainType::Translated => Ok(changes),
        }
    }

    /// Plans the ACS redirect bits to set so that the kernel routes the pair through the root complex.
    fn any_redirect(&self) -> Result<Vec<HostChange>, Explanation> {
        let Some(checked) = self.checked_functions() else { return Ok(Vec::new()) };
        let functions = || checked.iter().filter_map(|bdf| self.inventory.topology.function(*bdf));
        if functions().any(|function| function.redirects().present().is_some()) {
            return Ok(Vec::new());
        }
        self.require_acs_seen(&checked)?;
        let common = self.inventory.predictor(self.request).common_node(self.from, self.to);
        let possible = |at_common_node: bool| -> Vec<HostChange> {
            let ports = self.ports(&checked).filter(|bdf| (Some(*bdf) == common) == at_common_node);
            ports.filter_map(|bdf| self.redirect(bdf, true)).collect()
        };
        // Requests enter the switch at the ports above the importer, completions at those above the exporter, so set the bits on
        // both sides. If no such port can redirect, use the common bridge.
        let redirects = Some(possible(false)).filter(|below| !below.is_empty()).unwrap_or_else(|| possible(true));
        if redirects.is_empty() {
            return Err(Explanation::new(
                Cause::Topology,
                format!(
                    "No port between {} and {} can redirect to the root complex: none has ACS.",
                    self.from, self.to
                ),
                "Move one function to another root port, or use a switch whose ports have ACS.",
            ));
        }
        Ok(redirects)
    }

    /// Adds the redirect that the path `host-bridge-bypass` needs. If any function on the path redirects, the kernel assumes that
    /// requests to the BAR's own address pass through the root complex. A switch, however, applies the ACS bits of the port at
    /// which the request enters.
    fn with_requests_redirected(&self, mut changes: Vec<HostChange>) -> Result<Vec<HostChange>, Explanation> {
        let Some(common) = self.inventory.predictor(self.request).common_node(self.from, self.to) else {
            return Ok(changes);
        };
        let topology = &self.inventory.topology;
        let chain = topology.position(self.to).into_iter().flat_map(|at| topology.chain(at));
        let below = chain.map(|at| topology.functions()[at].bdf).take_while(|bdf| *bdf != common);
        let Some(port) = below.last().filter(|port| *port != self.to) else {
            return Err(Explanation::new(
                Cause::Topology,
                format!(
                    "{} is attached directly to {common}, the nearest common bridge, so no port below {common} can redirect requests.",
                    self.to
                ),
                "Request the path `translated`, or move one function to another port.",
            ));
        };
        self.require_acs_seen(&[port])?;
        let register = topology.function(port).and_then(|function| function.config.acs_register().present());
        if register.is_some_and(|register| register.control.0 & AcsControl::REQUEST_REDIRECT != 0)
            || changes.iter().any(|change| matches!(change, HostChange::Acs { bdf, .. } if *bdf == port))
        {
            return Ok(changes);
        }
        let Some(redirect) = self.redirect(port, true) else {
            return Err(Explanation::new(
                Cause::Topology,
                format!(
                    "Requests of {} enter the switch at {port}, which cannot redirect them, so they reach {} without passing \
                     through the root complex.",
                    self.to, self.from
                ),
                "Request the path `translated`, or move one function to another root port.",
            ));
        };
        changes.push(redirect);
        Ok(changes)
    }

    /// Plans the change of the importer's domain; `None` if the domain already has the type, or if the importer has no IOMMU and
    /// needs no translation.
    fn domain(&self, wanted: DomainType) -> Result<Option<HostChange>, Explanation> {
        let topology = &self.inventory.topology;
        let to = self.to;
        let Some(importer) = topology.function(to) else { return Ok(None) };
        let direct = wanted == DomainType::Identity;
        let group = match (importer.membership, topology.group_of(importer)) {
            (GroupMembership::None, _) if direct => return Ok(None),
            (_, Some(group)) if group.noiommu && direct => return Ok(None),
            (_, Some(group)) if !group.noiommu => group,
            (GroupMembership::Unknown, _) => {
                return Err(Explanation::uncaused(
                    format!("The IOMMU group of {to} is not readable."),
                    "Check the link iommu_group of the function in sysfs.",
                ));
            }
            _ => {
                return Err(Explanation::new(
                    Cause::NoIommu,
                    format!("No IOMMU translates the accesses of {to}."),
                    "Enable the IOMMU in the firmware and on the kernel command line.",
                ));
            }
        };
        let number = group.number;
        match group.domain_type.as_deref() {
            Some("identity") if direct => Ok(None),
            Some("DMA" | "DMA-FQ") if !direct => Ok(None),
            // Only these types can be restored, because sysfs accepts no other.
            Some("identity" | "DMA" | "DMA-FQ") => {
                Ok(Some(HostChange::Domain { group: IommuGroupId(number), to: wanted }))
            }
            Some(other) => Err(Explanation::new(
                Cause::InUse,
                format!(
                    "The domain type of {to} (IOMMU group {number}) is {other}. sysfs does not accept this type, so peerpath cannot restore it after a change."
                ),
                "Choose an importer whose IOMMU group has the type DMA, DMA-FQ or identity (/sys/kernel/iommu_groups/N/type).",
            )),
            None => Err(Explanation::new(
                Cause::KernelTooOld,
                format!("The kernel does not report the domain type of IOMMU group {number}."),
                "Boot with iommu=pt for a bypass path, or without iommu=pt for a translated path.",
            )),
        }
    }

    /// Lists the functions whose ACS the kernel checks; `None` if only the root complex connects the pair.
    fn checked_functions(&self) -> Option<Vec<Bdf>> {
        self.inventory.predictor(self.request).functions_checked_for_acs(self.from, self.to)
    }

    fn require_acs_seen(&self, checked: &[Bdf]) -> Result<(), Explanation> {
        let topology = &self.inventory.topology;
        let unseen = |bdf: &&Bdf| topology.function(**bdf).is_some_and(|function| function.acs == Capability::Unknown);
        let unseen: Vec<String> = checked.iter().filter(unseen).map(ToString::to_string).collect();
        if unseen.is_empty() {
            return Ok(());
        }
        Err(Explanation::new(
            Cause::NoPermission,
            format!("ACS of {} is not readable: the kernel limits config space to 64 bytes.", unseen.join(", ")),
            "Run as root.",
        ))
    }

    /// Plans to set or clear the redirect bits of a function; `None` if it does not support redirect or needs no change.
    fn redirect(&self, bdf: Bdf, set: bool) -> Option<HostChange> {
        let register = self.inventory.topology.function(bdf)?.config.acs_register().present()?;
        let now = register.control.0 & AcsControl::REDIRECT;
        // Egress control alone does not redirect permitted requests, so this plan may clear it but never sets it.
        let bits = if set { register.supported & AcsControl::REQUEST_AND_COMPLETION & !now } else { now };
        let has_effect = if set { bits & AcsControl::REQUEST_REDIRECT != 0 } else { bits != 0 };
        has_effect.then_some(HostChange::Acs { bdf, offset: register.offset, bits: AcsControl(bits), set })
    }

    /// Returns the changes if the prediction for the changed host confirms them.
    fn verified(&self, changes: Vec<HostChange>, wanted: PathName) -> Result<Vec<HostChange>, Explanation> {
        let mut changed = self.inventory.clone();
        for change in &changes {
            changed.topology.apply(change);
        }
        let predictor = changed.predictor(self.request);
        match predictor.predict(self.from, self.to) {
            // Accept an unknown prediction, because the run observes the actual path.
            Some(Prediction { path, .. }) if path == wanted || path == PathName::Unknown => Ok(changes),
            Some(prediction) => {
                let report = predictor.report(&prediction);
                let remedy = report.would_change.first().map_or_else(
                    || "Choose another pair or another path.".to_owned(),
                    |change| format!("To get another path, {change}."),
                );
                let (path, fact) = (prediction.path, report.deciding.fact);
                let why = match path {
                    PathName::Refused => {
                        format!("The kernel would refuse the mapping even after all possible changes: {fact}.")
                    }
                    path => format!("The path would be {path} even after all possible changes: {fact}."),
                };
                Err(Explanation { cause: prediction.cause, severity: None, why, remedy })
            }
            None => Err(Explanation::uncaused("The functions do not exist.", "Choose functions of this host.")),
        }
    }
}
