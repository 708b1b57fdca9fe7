//! What has to be changed on a host so that a pair takes the path that somebody asks for.
//!
//! Two things can be changed while a host runs: the type of the importer's IOMMU domain, and the ACS redirect of ports
//! between the two. What is planned is tried on a copy of the topology first: a plan that the prediction contradicts is no
//! plan, and what decides the prediction is the answer.

use std::fmt;

use crate::{
    AcsControl, Bdf, Capability, Cause, Explanation, GroupMembership, Inventory, PathName, Prediction, Request,
};

/// What an IOMMU group's domain is switched to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainType {
    /// DMA address = physical address.
    Identity,
    /// The DMA API allocates addresses that the IOMMU translates.
    Translated,
}

impl DomainType {
    /// The words that sysfs takes for it, the preferred one first.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Self::Identity => &["identity"],
            // With a flush queue, as kernels come up unless told to be strict; not every IOMMU driver offers one.
            Self::Translated => &["DMA-FQ", "DMA"],
        }
    }
}

/// One change on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostChange {
    /// Another type for the domain of a group.
    Domain {
        /// The group.
        group: u32,
        /// What it is to become.
        to: DomainType,
    },
    /// Redirect bits of a function's ACS control word.
    Acs {
        /// The function, nearly always a port.
        bdf: Bdf,
        /// Where the control word stands in config space.
        offset: u16,
        /// The bits.
        bits: AcsControl,
        /// Whether they are set or cleared.
        set: bool,
    },
}

impl fmt::Display for HostChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain { group, to } => write!(f, "IOMMU group {group} switched to {}", to.words()[0]),
            Self::Acs { bdf, bits, set, .. } => {
                write!(f, "ACS redirect {} on {bdf} ({})", if *set { "set" } else { "cleared" }, bits.names())
            }
        }
    }
}

impl Inventory {
    /// The changes that lead `from` and `to` to a path, in the order in which they are to be made; none where it is the
    /// path already. `None` where one of the functions does not exist.
    ///
    /// # Errors
    /// Nothing that can be changed leads there, and why.
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
                format!("The address space (IOAS) of {to} translates every access, whatever the host is."),
                "Ask for translated, or name another kind of target.",
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
                "Ask for bus-address, bypass or translated.",
            )),
        }
    }

    fn without_redirects(&self) -> Result<Vec<HostChange>, Explanation> {
        let Self { from, to, .. } = *self;
        let Some(way) = self.way() else {
            return Err(Explanation::new(
                Cause::Topology,
                format!(
                    "No bridge stands above both {from} and {to}: between them everything passes the root complex."
                ),
                "Move both below one switch.",
            ));
        };
        self.require_acs_seen(&way)?;
        let ends = [from, to].into_iter().filter_map(|bdf| self.inventory.topology.function(bdf));
        if let Some((end, acs)) = ends.filter_map(|end| Some((end.bdf, end.redirects().present()?))).next() {
            return Err(Explanation::new(
                Cause::Topology,
                format!(
                    "{end} itself has ACS redirect set ({}), and the kernel sets it again whenever a driver takes the function.",
                    acs.redirect_names()
                ),
                "Choose a function without ACS of its own, or boot with pci=disable_acs_redir for this one.",
            ));
        }
        Ok(self.ports(&way).filter_map(|bdf| self.redirect(bdf, false)).collect())
    }

    /// The functions whose ACS is ours to change: what the ends have themselves, the kernel sets at every probe.
    fn ports<'b>(&self, way: &'b [Bdf]) -> impl Iterator<Item = Bdf> + use<'b> {
        let Self { from, to, .. } = *self;
        way.iter().copied().filter(move |bdf| ![from, to].contains(bdf))
    }

    fn through_root(&self, domain: DomainType) -> Result<Vec<HostChange>, Explanation> {
        let mut changes: Vec<HostChange> = self.domain(domain)?.into_iter().collect();
        changes.extend(self.any_redirect()?);
        match domain {
            DomainType::Identity => self.with_requests_redirected(changes),
            // No window of a bridge holds what the IOMMU has to translate.
            DomainType::Translated => Ok(changes),
        }
    }

    /// What makes the kernel send the pair through the root complex.
    fn any_redirect(&self) -> Result<Vec<HostChange>, Explanation> {
        let Some(way) = self.way() else { return Ok(Vec::new()) };
        let functions = || way.iter().filter_map(|bdf| self.inventory.topology.function(*bdf));
        if functions().any(|function| function.redirects().present().is_some()) {
            return Ok(Vec::new());
        }
        self.require_acs_seen(&way)?;
        let common = self.inventory.predictor(self.request).common_node(self.from, self.to);
        let possible = |at_the_turn: bool| -> Vec<HostChange> {
            let places = self.ports(&way).filter(|bdf| (Some(*bdf) == common) == at_the_turn);
            places.filter_map(|bdf| self.redirect(bdf, true)).collect()
        };
        // The ports on both sides: requests come up the importer's, their completions the exporter's.
        let redirects = Some(possible(false)).filter(|below| !below.is_empty()).unwrap_or_else(|| possible(true));
        if redirects.is_empty() {
            return Err(Explanation::new(
                Cause::Topology,
                format!(
                    "No port between {} and {} can redirect: none has ACS, so the way is cut short below the root complex.",
                    self.from, self.to
                ),
                "Move one of the two to another root port, or use a switch whose ports have ACS.",
            ));
        }
        Ok(redirects)
    }

    /// The changes, with what it takes that requests for the BAR's own address pass the root complex, as the kernel
    /// supposes once any function on the way redirects: a switch decides by the port at which they come in.
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
                    "{} and {} meet at {common} with no port between it and {}, so nothing sends the requests up.",
                    self.from, self.to, self.to
                ),
                "Ask for translated, or move one of the two to another port.",
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
                    "{port}, where requests of {} come into the switch, cannot redirect them: with the address of the BAR \
                     itself they would go to {} below the root complex.",
                    self.to, self.from
                ),
                "Ask for translated, or move one of the two to another root port.",
            ));
        };
        changes.push(redirect);
        Ok(changes)
    }

    /// The change of the importer's domain; none where it is of that type, or where there is nothing to translate.
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
                    format!("The IOMMU group of {to} could not be read."),
                    "Look at its link iommu_group in sysfs.",
                ));
            }
            _ => {
                return Err(Explanation::new(
                    Cause::NoIommu,
                    format!("No IOMMU stands above {to}, so nothing can translate for it."),
                    "Switch the IOMMU on in the firmware and on the kernel command line.",
                ));
            }
        };
        let number = group.number;
        match group.domain_type.as_deref() {
            Some("identity") if direct => Ok(None),
            Some("DMA" | "DMA-FQ") if !direct => Ok(None),
            // Only these can be written back.
            Some("identity" | "DMA" | "DMA-FQ") => Ok(Some(HostChange::Domain { group: number, to: wanted })),
            Some(other) => Err(Explanation::new(
                Cause::InUse,
                format!("The domain of {to} (IOMMU group {number}) is {other}, which cannot be given back afterwards."),
                "Choose an importer that belongs to a driver of the kernel.",
            )),
            None => Err(Explanation::new(
                Cause::KernelTooOld,
                format!("The kernel does not tell the domain type of IOMMU group {number}."),
                "Boot with iommu=pt for bypass, without it for translated.",
            )),
        }
    }

    /// The functions that the kernel asks for ACS.
    fn way(&self) -> Option<Vec<Bdf>> {
        self.inventory.predictor(self.request).functions_checked_for_acs(self.from, self.to)
    }

    fn require_acs_seen(&self, way: &[Bdf]) -> Result<(), Explanation> {
        let topology = &self.inventory.topology;
        let unseen = |bdf: &&Bdf| topology.function(**bdf).is_some_and(|function| function.acs == Capability::Unknown);
        let unseen: Vec<String> = way.iter().filter(unseen).map(ToString::to_string).collect();
        if unseen.is_empty() {
            return Ok(());
        }
        Err(Explanation::new(
            Cause::NoPermission,
            format!("ACS of {} could not be read: the kernel cut config space short.", unseen.join(", ")),
            "Run as root.",
        ))
    }

    /// Redirect switched on or off in a function that can do it and does not yet.
    fn redirect(&self, bdf: Bdf, set: bool) -> Option<HostChange> {
        let register = self.inventory.topology.function(bdf)?.config.acs_register().present()?;
        let now = register.control.0 & AcsControl::REDIRECT;
        // Egress control alone redirects nothing that the hardware would send on, so it is only ever cleared.
        let bits = if set { register.supported & AcsControl::REQUEST_AND_COMPLETION & !now } else { now };
        let worth = if set { bits & AcsControl::REQUEST_REDIRECT != 0 } else { bits != 0 };
        worth.then_some(HostChange::Acs { bdf, offset: register.offset, bits: AcsControl(bits), set })
    }

    /// The changes, if the predictor says that they lead there.
    fn verified(&self, changes: Vec<HostChange>, wanted: PathName) -> Result<Vec<HostChange>, Explanation> {
        let mut changed = self.inventory.clone();
        for change in &changes {
            changed.topology.apply(change);
        }
        let predictor = changed.predictor(self.request);
        match predictor.predict(self.from, self.to) {
            // What cannot be told beforehand is left for a run to see.
            Some(Prediction { path, .. }) if path == wanted || path == PathName::Unknown => Ok(changes),
            Some(prediction) => {
                let report = predictor.report(&prediction);
                let remedy = report.would_change.first().map_or_else(
                    || "Choose another pair, or another path.".to_owned(),
                    |change| format!("What would change that: {change}."),
                );
                let (path, fact) = (prediction.path, report.deciding.fact);
                let why = match path {
                    PathName::Refused => format!("Arranged as far as it can be, the mapping would be refused: {fact}."),
                    path => format!("Arranged as far as it can be, the path would be {path}: {fact}."),
                };
                Err(Explanation { cause: prediction.cause, severity: None, why, remedy })
            }
            None => Err(Explanation::uncaused("The functions are gone.", "Look at `peerpath list`.")),
        }
    }
}
