//! The report of a prediction: the deciding fact, the hops, missing information, and changes that give another path.

mod advice;
mod unknown;

use serde::{Deserialize, Serialize};

use super::refusal::Refused;
use super::{Prediction, Predictor};
use crate::acs_route::SwitchRoute;
use crate::route_facts::{RouteFact, route_facts};
use crate::{
    Bdf, Capability, Cause, ExporterRule, Function, KernelRules, KernelVersion, Locality, PathName, Topology, blockers,
};

/// Remedy if a translated domain has no free IOVA range for the BAR below the importer's DMA mask, as an imperative clause.
pub(crate) const WITHOUT_FREE_RANGE: &str =
    "export a smaller BAR or a part of it, or use an importer with a larger DMA mask";

/// One object of `paths --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathReport {
    /// Address of the exporter.
    pub from: Bdf,
    /// Address of the importer.
    pub to: Bdf,
    /// Path that the kernel will choose; `unknown` if the path depends on missing information.
    pub predicted: PathName,
    /// The cause, if the path is refused.
    pub cause: Option<Cause>,
    /// Causes other than the path that prevent binding, exporting or importing.
    pub blockers: Vec<Cause>,
    /// The driver that exports the memory and decides about importers. `predicted` assumes that the P2PDMA check decides,
    /// whatever the rule; `notes` states the effect of the rule.
    #[serde(default)]
    pub rule: ExporterRule,
    /// Fact that decides the path.
    pub deciding: DecidingFact,
    /// The functions on the path, including exporter and importer. A path through the root complex passes shared bridges
    /// twice: upward and downward.
    pub hops: Vec<Bdf>,
    /// Common bridge at which the path turns from upward to downward; `None` if it turns in the root complex.
    #[serde(default)]
    pub turns_at: Option<Bdf>,
    /// Last hop before the root complex; `None` if the path turns at a bridge.
    #[serde(default)]
    pub up_to: Option<Bdf>,
    /// Whether the importer's untranslated requests pass through the root complex; `None` if unknown or if the path is refused.
    #[serde(default)]
    pub through_root_complex: Option<bool>,
    /// Missing information that may change the prediction, as noun phrases.
    pub unknown: Vec<String>,
    /// Index of the BAR that the prediction assumes to be exported.
    #[serde(default)]
    pub bar: Option<u8>,
    /// Changes of the host that give another path, as imperative clauses.
    #[serde(default)]
    pub would_change: Vec<String>,
    /// Remarks about the pair, as clauses.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Distance between the functions; `None` for a function and itself, or if it is unknown.
    #[serde(default)]
    pub locality: Option<Locality>,
}

/// The fact that decides the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidingFact {
    /// Function that the fact concerns; `None` if it concerns the host.
    pub bdf: Option<Bdf>,
    /// Description of the fact, as a clause without capital and period.
    pub fact: String,
}

impl Predictor<'_> {
    /// Explains a prediction of this predictor.
    pub fn report(&self, prediction: &Prediction) -> PathReport {
        let &Prediction { from, to, path, cause } = prediction;
        let common = self.common(from, to);
        let builder = ReportBuilder::of(self, from, to, common);
        let (exporter, importer) = (builder.function(from), builder.function(to));
        PathReport {
            from: exporter.bdf,
            to: importer.bdf,
            predicted: path,
            cause,
            blockers: self.blockers(from, importer),
            rule: self.rule(from),
            deciding: builder.deciding(path, cause),
            hops: builder.hops(path),
            turns_at: builder.turn(path).map(|at| builder.function(at).bdf),
            up_to: builder.turn(path).is_none().then(|| builder.function(self.top(from)).bdf),
            through_root_complex: builder.through_root_complex(path),
            unknown: builder.unknown(),
            bar: self.bars[from].map(|bar| bar.index),
            would_change: builder.would_change(path, cause),
            notes: builder.notes(path, cause).into_iter().chain(self.note_on_newer_kernel()).collect(),
            locality: self.distances.between(self.topology, from, to, common),
        }
    }

    /// The kernel, if it is newer than the known rules.
    fn newer_kernel(&self) -> Option<KernelVersion> {
        self.host.kernel.filter(|kernel| *kernel > KernelRules::NEWEST)
    }

    fn note_on_newer_kernel(&self) -> Option<String> {
        // An importer with an address space of its own depends on none of the rules.
        let kernel = self.newer_kernel().filter(|_| !self.request.own_address_space)?;
        Some(format!(
            "Linux {kernel} is newer than the known rules, so this prediction applies those of Linux {}",
            KernelRules::NEWEST
        ))
    }

    /// Joins the blockers of the exporter and of the importer without duplicates.
    fn blockers(&self, from: usize, importer: &Function) -> Vec<Cause> {
        let mut blockers = self.exporter_blockers[from].clone();
        let of_importer =
            blockers::of_importer(self.host, importer, self.rule(from)).into_iter().chain(blockers::of_tdisp(importer));
        blockers.extend(of_importer.filter(|blocker| !self.exporter_blockers[from].contains(blocker)));
        blockers
    }

    /// The statements about the route of the packets between two functions, if the path is `path`.
    pub(crate) fn route_facts(&self, from: Bdf, to: Bdf, path: PathName) -> Vec<RouteFact> {
        let (Some(from), Some(to)) = (self.topology.position(from), self.topology.position(to)) else {
            return Vec::new();
        };
        let common = self.common(from, to);
        let route = common.and_then(|common| SwitchRoute::below(self.topology, from, to, common));
        route_facts(self.topology, to, common, route.as_ref(), path).collect()
    }

    /// Causes that prevent the export of a function's BAR to every importer; none if the function does not exist.
    pub fn exporter_blockers(&self, bdf: Bdf) -> &[Cause] {
        self.topology.position(bdf).map(|at| self.exporter_blockers[at].as_slice()).unwrap_or_default()
    }

    /// Causes that prevent the import by a function from every exporter with this rule; none if the function can import, its
    /// driver is unknown, or the function does not exist.
    pub fn importer_blockers(&self, bdf: Bdf, exporter: ExporterRule) -> impl Iterator<Item = Cause> {
        let importer = self.topology.function(bdf);
        let of_driver = importer.and_then(|importer| blockers::of_importer(self.host, importer, exporter));
        of_driver.into_iter().chain(importer.and_then(blockers::of_tdisp))
    }

    /// Predicts and explains the path of one pair; `None` if one of the functions does not exist.
    pub fn explain(&self, from: Bdf, to: Bdf) -> Option<PathReport> {
        self.predict(from, to).map(|prediction| self.report(&prediction))
    }
}

/// Derives the fields of a report.
struct ReportBuilder<'a> {
    predictor: &'a Predictor<'a>,
    from: usize,
    to: usize,
    common: Option<usize>,
    /// The route through the switch that joins the functions; `None` if no switch joins them.
    route: Option<SwitchRoute<'a>>,
    /// Functions with an ACS redirect among those that P2PDMA checks, in the order of the check.
    redirecting: Vec<&'a Function>,
    /// Functions with unknown ACS among those that P2PDMA checks.
    acs_unknown: Vec<&'a Function>,
}

impl<'a> ReportBuilder<'a> {
    fn of(predictor: &'a Predictor<'a>, from: usize, to: usize, common: Option<usize>) -> Self {
        let route = common.and_then(|common| SwitchRoute::below(predictor.topology, from, to, common));
        let mut builder = Self { predictor, from, to, common, route, redirecting: Vec::new(), acs_unknown: Vec::new() };
        let Some(common) = common else { return builder };
        for function in predictor.between(from, to, common).map(|at| &predictor.topology.functions()[at]) {
            match function.redirects() {
                Capability::Present(_) => builder.redirecting.push(function),
                Capability::Unknown => builder.acs_unknown.push(function),
                Capability::Absent => {}
            }
        }
        builder
    }

    fn topology(&self) -> &'a Topology {
        self.predictor.topology
    }

    fn function(&self, at: usize) -> &'a Function {
        &self.topology().functions()[at]
    }

    fn roots(&self) -> (usize, usize) {
        (self.topology().root_number(self.from), self.topology().root_number(self.to))
    }

    fn deciding(&self, path: PathName, cause: Option<Cause>) -> DecidingFact {
        if self.predictor.request.own_address_space {
            let bdf = self.function(self.to).bdf;
            let fact = match cause {
                Some(Cause::ForeignDmaBuf) => format!(
                    "the I/O address space (IOAS) of {bdf} maps only dma-bufs of vfio-pci, and {} exports this memory",
                    self.predictor.rule(self.from)
                ),
                Some(_) => format!("the I/O address space (IOAS) of {bdf} maps only dma-bufs with one range"),
                None => {
                    format!("the I/O address space (IOAS) of {bdf} always translates, and P2PDMA is not involved")
                }
            };
            return DecidingFact { bdf: Some(bdf), fact };
        }
        match (path, cause) {
            (PathName::BusAddress, _) => self.nearest(),
            (PathName::Unknown, _) | (PathName::Refused, None) => self.undecided(),
            (_, Some(cause)) if cause != Cause::Topology => self.mapping_refused(cause),
            _ => {
                let DecidingFact { bdf, fact } = self.through_root();
                let mapping =
                    if path == PathName::Refused { String::new() } else { format!("; {}", self.mapping_fact()) };
                DecidingFact { bdf, fact: fact + &mapping }
            }
        }
    }

    fn nearest(&self) -> DecidingFact {
        let bdf = self.common.map(|at| self.function(at).bdf);
        let fact = if self.from == self.to {
            "exporter and importer are the same function, and it has no ACS redirect"
        } else if self.common == Some(self.from) || self.common == Some(self.to) {
            "one function is above the other, and no ACS redirect is set between them"
        } else {
            "the functions have a common bridge, and no ACS redirect is set between them"
        };
        DecidingFact { bdf, fact: fact.to_owned() }
    }

    fn through_root(&self) -> DecidingFact {
        let trust = &self.predictor.trust;
        let (from, to) = self.roots();
        let (first, list) = self.list_fact();
        let processor = trust.processor == Some(true);
        let trusted = if processor { self.processor_fact() } else { list };
        match self.redirecting.first() {
            Some(port) => {
                let bits = port.acs.present().map(|control| control.redirect_names()).unwrap_or_default();
                DecidingFact {
                    bdf: Some(port.bdf),
                    fact: format!("ACS redirect is set on {} ({bits}); {trusted}", port.bdf),
                }
            }
            None if processor => {
                DecidingFact { bdf: None, fact: format!("the functions have no common bridge; {trusted}") }
            }
            None if from == to => {
                DecidingFact { bdf: first, fact: format!("the functions have no common bridge; {trusted}") }
            }
            None => DecidingFact {
                bdf: first,
                fact: format!("the functions have no common bridge and different host bridges; {trusted}"),
            },
        }
    }

    fn processor_fact(&self) -> String {
        let cpu = self.predictor.host.cpu.as_ref();
        let family = cpu.and_then(|cpu| cpu.family).unwrap_or_default();
        format!(
            "the kernel trusts the host bridges of AMD processors of family 23 and later \
             (this processor: family {family})"
        )
    }

    /// Returns the deciding device and the decision of the allowlist, as a clause. The deciding device is the first device on the
    /// importer's root bus if only that root bus is not in the allowlist, otherwise the first device on the exporter's root bus.
    fn list_fact(&self) -> (Option<Bdf>, String) {
        let (from, to) = self.roots();
        let trust = &self.predictor.trust;
        let both = trust.listed(from, to);
        let checked =
            if both == Some(false) && from != to && trust.listed_with_another(from) == Some(true) { to } else { from };
        let root = &self.topology().roots()[checked];
        let bus = format!("{:04x}:{:02x}", root.segment, root.bus);
        let Some(first) = root.possible_first.first().and_then(|bdf| self.topology().function(*bdf)) else {
            return (
                None,
                format!(
                    "root bus {bus} has no device, so the kernel cannot look up its host bridge in the P2PDMA allowlist"
                ),
            );
        };
        let is_eligible = (first.bdf.device(), first.bdf.function()) == (0, 0) || first.is_root_port() == Some(true);
        let fact = match both {
            Some(true) => "is in the kernel's P2PDMA allowlist of host bridges",
            Some(false) if !is_eligible => {
                "is neither device 00.0 nor a root port, so the kernel does not look it up in its P2PDMA allowlist"
            }
            Some(false) if from != to && trust.listed(checked, checked) == Some(true) => {
                "is in the kernel's P2PDMA allowlist of host bridges only for pairs below one host bridge"
            }
            Some(false) => "is not in the kernel's P2PDMA allowlist of host bridges",
            None => "is possibly in the kernel's P2PDMA allowlist of host bridges",
        };
        let newer = self.predictor.newer_kernel().map_or_else(String::new, |kernel| {
            format!(" (that of Linux {}; the one of Linux {kernel} is unknown)", KernelRules::NEWEST)
        });
        let order =
            if root.order_known { "" } else { " in the assumed order of a boot (/proc/bus/pci/devices is missing)" };
        let ids = first.ids();
        let fact = format!("{} ({ids}), the first device on root bus {bus}{order}, {fact}{newer}", first.bdf);
        (Some(first.bdf), fact)
    }

    fn mapping_fact(&self) -> &'a str {
        &self.predictor.importers[self.to].mapping_fact
    }

    fn mapping_refused(&self, cause: Cause) -> DecidingFact {
        let importer = self.function(self.to);
        let predictor = self.predictor;
        let facts = &predictor.importers[self.to];
        let refused = Refused { host: predictor.host, importer, facts, bar: predictor.bars[self.from] };
        let (of_importer, fact) = refused.fact(cause);
        DecidingFact { bdf: of_importer.then_some(importer.bdf), fact }
    }

    fn undecided(&self) -> DecidingFact {
        let bdf = self.acs_unknown.first().map(|function| function.bdf);
        let unknown = self.unknown();
        let fact = match unknown.first() {
            Some(first) if self.predictor.pair(self.from, self.to).path == PathName::Refused => {
                format!("several causes are possible, and which of them applies depends on {first}")
            }
            Some(first) => format!("the path depends on {first}, which is unknown"),
            None => "the path depends on missing information".to_owned(),
        };
        DecidingFact { bdf, fact }
    }

    /// The bridge at which the importer's untranslated requests turn from upward to downward.
    fn turn(&self, path: PathName) -> Option<usize> {
        let (from, to) = (self.predictor.top(self.from), self.predictor.top(self.to));
        let stay_below_switch = self.route.and_then(|route| route.keeps_requests(path)) == Some(true);
        if path == PathName::BusAddress || stay_below_switch { self.common } else { (from == to).then_some(from) }
    }

    fn through_root_complex(&self, path: PathName) -> Option<bool> {
        match path {
            PathName::BusAddress => Some(false),
            PathName::HostBridgeBypass | PathName::HostBridgeTranslated => match self.route {
                Some(route) => route.keeps_requests(path).map(|keeps| !keeps),
                // Functions of one device may reach each other inside the device.
                None if self.common.is_some() && path == PathName::HostBridgeBypass => None,
                None => Some(true),
            },
            _ => None,
        }
    }

    /// The functions on the path, including exporter and importer. A path through the root complex passes shared bridges twice.
    fn hops(&self, path: PathName) -> Vec<Bdf> {
        let topology = self.topology();
        let turn = self.turn(path);
        let below_turn = |at| topology.chain(at).take_while(|&at| Some(at) != turn).collect::<Vec<_>>();
        let up = below_turn(self.from);
        let down = below_turn(self.to);
        up.into_iter().chain(turn).chain(down.into_iter().rev()).map(|at| self.function(at).bdf).collect()
    }
}
