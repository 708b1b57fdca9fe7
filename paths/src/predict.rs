//! Predicts the kernel's decision when an importer maps a dma-buf of an exporter's BAR.
//!
//! The prediction has the two stages of the kernel. First, the P2PDMA check finds the *route* from the bridges, ACS and host
//! bridges, independent of the IOMMU. Then the DMA API maps the buffer, depending on the importer's domain, its DMA mask and
//! swiotlb. If a fact is missing, the prediction tries every value of the fact, and is `unknown` if the results differ.

mod importer;
mod iova;
mod matrix;
mod refusal;
mod report;
mod route;

use std::collections::BTreeSet;

use crate::blockers::{self, GroupDrivers};
use crate::function_list::cleared_at_boot;
use crate::locality::Distances;
use crate::{
    Bar, Bdf, Bounce, Cause, ExporterRule, Facts, Function, Host, Locality, MemoryKind, PathName, Platform, Topology,
};

pub(crate) use importer::multi_range_defect;
use importer::{ImporterFacts, MappedBar, Reach};
pub use matrix::{AlikePairs, FunctionGroup, MatrixCell, PathMatrix};
pub(crate) use report::WITHOUT_FREE_RANGE;
pub use report::{DecidingFact, PathReport};
use route::{Routes, Trust};

/// Parameters of a prediction, in addition to the two functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The BAR index; `None` for the largest exportable BAR.
    pub bar: Option<u8>,
    /// Number of exported ranges of the BAR.
    pub ranges: usize,
    /// Whether the importer has its own I/O address space (an IOAS of iommufd), which translates every access. P2PDMA and the DMA
    /// API are then not involved.
    pub own_address_space: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self { bar: None, ranges: 1, own_address_space: false }
    }
}

/// A prediction for a pair. [`Predictor::report`] explains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prediction {
    from: usize,
    to: usize,
    /// The path that the kernel will choose, or `unknown`.
    pub path: PathName,
    /// The cause, if the path is `refused`; `None` for another path, or if the refusal is certain and several causes are
    /// possible.
    pub cause: Option<Cause>,
}

/// The paths that remain possible with the known facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PossiblePaths {
    bus_address: bool,
    bypass: bool,
    translated: bool,
    refused: Option<Refusal>,
}

/// Why the kernel may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Because(Cause),
    /// Several causes are possible.
    Open,
}

impl PossiblePaths {
    fn refused(cause: Cause) -> Self {
        Self { refused: Some(Refusal::Because(cause)), ..Self::default() }
    }

    /// Whether a refusal is the only possible result.
    fn is_refused(self) -> bool {
        self.result().0 == PathName::Refused
    }

    fn or(self, other: Self) -> Self {
        Self {
            bus_address: self.bus_address || other.bus_address,
            bypass: self.bypass || other.bypass,
            translated: self.translated || other.translated,
            refused: match (self.refused, other.refused) {
                (Some(one), Some(other)) if one != other => Some(Refusal::Open),
                (one, other) => one.or(other),
            },
        }
    }

    fn result(self) -> (PathName, Option<Cause>) {
        match (self.bus_address, self.bypass, self.translated, self.refused) {
            (true, false, false, None) => (PathName::BusAddress, None),
            (false, true, false, None) => (PathName::HostBridgeBypass, None),
            (false, false, true, None) => (PathName::HostBridgeTranslated, None),
            (false, false, false, Some(Refusal::Because(cause))) => (PathName::Refused, Some(cause)),
            (false, false, false, Some(Refusal::Open)) => (PathName::Refused, None),
            _ => (PathName::Unknown, None),
        }
    }
}

/// Predicts the path of pairs of functions of one host. Construction does the work that pairs share, so that one prediction needs
/// only a few comparisons.
#[derive(Debug)]
pub struct Predictor<'host> {
    host: &'host Host,
    topology: &'host Topology,
    request: Request,
    /// For each function, the requested BAR; `None` if the function does not have it.
    bars: Vec<Option<Bar>>,
    importers: Vec<ImporterFacts<'host>>,
    exporter_blockers: Vec<Vec<Cause>>,
    /// For each function, how many of this function and the bridges above it have an ACS redirect.
    redirects_above: Vec<u32>,
    /// For each function, how many of this function and the bridges above it have unknown ACS.
    unknown_above: Vec<u32>,
    depth: Vec<u32>,
    /// Functions whose ACS redirect the kernel command line clears.
    cleared_at_boot: BTreeSet<Bdf>,
    trust: Trust,
    platform: Option<Platform>,
    distances: Distances,
    /// Whether untranslated mappings bounce.
    bounce: Option<Bounce>,
}

impl<'host> Predictor<'host> {
    /// Prepares predictions for a host and a topology.
    pub fn new(host: &'host Host, topology: &'host Topology, request: Request) -> Self {
        let functions = topology.functions();
        let count = |wanted: fn(&Function) -> bool| -> Vec<u32> {
            topology.accumulate_down(|at, above| above.unwrap_or(0) + u32::from(wanted(&functions[at])))
        };
        let drivers = GroupDrivers::of(topology);
        Self {
            host,
            topology,
            request,
            bars: functions.iter().map(|function| wanted_bar(host, function, request)).collect(),
            importers: ImporterFacts::of_all(host, topology),
            exporter_blockers: functions
                .iter()
                .map(|function| blockers::of_exporter(host, topology, &drivers, function, request.bar))
                .collect(),
            redirects_above: count(|function| function.redirects().present().is_some()),
            unknown_above: count(|function| function.redirects() == crate::Capability::Unknown),
            depth: count(|_| true),
            cleared_at_boot: cleared_at_boot(host, topology),
            trust: Trust::of(host, topology),
            platform: Platform::of(host, topology),
            distances: Distances::of(topology),
            bounce: host.bounce(),
        }
    }

    /// The possible exporters: endpoints with an exportable BAR, or with unknown BARs.
    pub fn exporters(&self) -> impl Iterator<Item = Bdf> {
        let page_bytes = self.host.page_bytes();
        let functions = self.topology.functions().iter();
        functions.filter(move |function| function.may_export(page_bytes)).map(|function| function.bdf)
    }

    /// The possible importers: all functions except bridges.
    pub fn importers(&self) -> impl Iterator<Item = Bdf> {
        self.topology.functions().iter().filter(|function| !function.is_bridge()).map(|function| function.bdf)
    }

    /// Predicts the path of one pair; `None` if one of the functions does not exist.
    pub fn predict(&self, from: Bdf, to: Bdf) -> Option<Prediction> {
        Some(self.pair(self.topology.position(from)?, self.topology.position(to)?))
    }

    /// Predicts the path of every exporter to every importer, including the exporter itself as the importer, ordered by address.
    pub fn predict_all(&self) -> impl Iterator<Item = Prediction> {
        let from: Vec<usize> = self.exporters().filter_map(|bdf| self.topology.position(bdf)).collect();
        let to: Vec<usize> = self.importers().filter_map(|bdf| self.topology.position(bdf)).collect();
        (0..from.len() * to.len()).map(move |pair| self.pair(from[pair / to.len()], to[pair % to.len()]))
    }

    /// The distance between two functions; `None` for a function and itself, or if the distance depends on missing information.
    pub fn locality(&self, from: Bdf, to: Bdf) -> Option<Locality> {
        let (from, to) = (self.topology.position(from)?, self.topology.position(to)?);
        self.distances.between(self.topology, from, to, self.common(from, to))
    }

    /// Collects the facts for [`crate::explain()`] if a registration of this pair fails. Facts of a missing function are unknown.
    pub fn facts(&self, from: Bdf, to: Bdf) -> Facts {
        let position = |bdf| self.topology.position(bdf);
        let importer = position(to).map(|at| (&self.topology.functions()[at], &self.importers[at]));
        let exporter = position(from).map(|at| (&self.topology.functions()[at], self.bars[at]));
        let bar = exporter.and_then(|(_, bar)| bar);
        let reach = importer
            .zip(position(from).filter(|_| bar.is_some()))
            .map(|((_, facts), from)| (facts.mask, facts.reach(self.host, self.mapped_bar(from))));
        let route = position(from).zip(position(to)).and_then(|(from, to)| self.routes(from, to).only());
        Facts {
            source: exporter.map(|(function, _)| match ExporterRule::of(function, self.request.bar) {
                ExporterRule::Vfio => MemoryKind::VfioBar,
                _ => MemoryKind::Gpu,
            }),
            ranges: Some(self.request.ranges),
            driver: importer.and_then(|(function, _)| function.driver.clone()),
            translated: importer.and_then(|(_, facts)| facts.translated()),
            swiotlb_forced: self.bounce.map(|bounce| bounce == Bounce::Forced),
            mask_reaches_bar: match reach {
                Some((Some(_), Reach::Reached)) => Some(true),
                Some((_, Reach::BeyondMask | Reach::BeyondInbound)) => Some(false),
                _ => None,
            },
            memory_decode: exporter.and_then(|(function, _)| function.memory_decode()),
            confidential_guest: self.host.confidential_guest.as_ref().map(|_| true),
            route: route.filter(|_| !self.request.own_address_space),
            noiommu: exporter.and_then(|(function, _)| self.topology.group_of(function)).map(|group| group.noiommu),
        }
    }

    /// Whether the kernel trusts no host bridge of the host, so that no pair reaches the DMA API; `None` if that is unknown.
    pub(crate) fn trusts_no_host_bridge(&self) -> Option<bool> {
        let listed = (0..self.topology.roots().len()).map(|root| self.trust.listed(root, root));
        let answers: Vec<Option<bool>> = listed.chain([self.trust.processor]).collect();
        if answers.contains(&Some(true)) {
            return Some(false);
        }
        answers.iter().all(|answer| *answer == Some(false)).then_some(true)
    }

    fn pair(&self, from: usize, to: usize) -> Prediction {
        if self.request.own_address_space {
            let (path, cause) = match self.request.ranges {
                _ if self.rule(from).is_gpu() => (PathName::Refused, Some(Cause::ForeignDmaBuf)),
                0 | 1 => (PathName::HostBridgeTranslated, None),
                _ => (PathName::Refused, Some(Cause::OneRangeOnly)),
            };
            return Prediction { from, to, path, cause };
        }
        let routes = self.routes(from, to);
        let mut possible = PossiblePaths { bus_address: routes.bus_address, ..PossiblePaths::default() };
        if routes.host_bridge {
            let importer = &self.importers[to];
            possible = possible.or(importer.map(self.host, self.bounce, self.mapped_bar(from), self.request.ranges));
        }
        if routes.none {
            possible = possible.or(PossiblePaths::refused(Cause::Topology));
        }
        let (path, cause) = possible.result();
        Prediction { from, to, path, cause }
    }

    /// The BAR of an exporter that importers map.
    fn mapped_bar(&self, from: usize) -> MappedBar<'_> {
        let bar = self.bars[from].as_ref();
        let known = self.topology.functions()[from].bars_known;
        MappedBar { bar, exists: known.then_some(bar.is_some()) }
    }

    /// The exporter rule for the memory of a function.
    fn rule(&self, from: usize) -> ExporterRule {
        ExporterRule::of(&self.topology.functions()[from], self.request.bar)
    }

    fn routes(&self, from: usize, to: usize) -> Routes {
        let common = self.common(from, to);
        let through_root = || self.trust.routes(self.topology.root_number(from), self.topology.root_number(to));
        let unknown_parent =
            || self.topology.parent_unknown(self.top(from)) || self.topology.parent_unknown(self.top(to));
        match common {
            Some(common) if self.count_between(&self.redirects_above, from, to, common) > 0 => through_root(),
            Some(common) if self.count_between(&self.unknown_above, from, to, common) == 0 => Routes::BUS_ADDRESS,
            Some(_) => Routes::BUS_ADDRESS.or(through_root()),
            None if unknown_parent() => Routes::BUS_ADDRESS.or(through_root()),
            None => through_root(),
        }
    }

    /// Counts the functions with one property, an ACS redirect or unknown ACS, between exporter and importer: from the exporter
    /// up to and including the common node, and from the importer up to and excluding the common node. For function `i`,
    /// `above[i]` is how many of this function and the bridges above it have the property.
    fn count_between(&self, above: &[u32], from: usize, to: usize, common: usize) -> u32 {
        let beyond = self.topology.above(common).map_or(0, |at| above[at]);
        above[from].saturating_sub(beyond) + above[to].saturating_sub(above[common])
    }

    /// Finds the nearest common bridge, or one of the two functions if it is above the other; `None` if only the root complex
    /// connects them.
    pub fn common_node(&self, from: Bdf, to: Bdf) -> Option<Bdf> {
        let common = self.common(self.topology.position(from)?, self.topology.position(to)?)?;
        Some(self.topology.functions()[common].bdf)
    }

    /// Lists the functions whose ACS the kernel checks, in the kernel's order: from the exporter up to and including the common
    /// node, then from the importer up to the common node. `None` if the two functions have no common node.
    pub fn functions_checked_for_acs(&self, from: Bdf, to: Bdf) -> Option<Vec<Bdf>> {
        let (from, to) = (self.topology.position(from)?, self.topology.position(to)?);
        let chain = self.between(from, to, self.common(from, to)?);
        Some(chain.map(|at| self.topology.functions()[at].bdf).collect())
    }

    fn between(&self, from: usize, to: usize, common: usize) -> impl Iterator<Item = usize> {
        let below = move |at| self.topology.chain(at).take_while(move |&at| at != common);
        below(from).chain([common]).chain(below(to))
    }

    /// The nearest common bridge, or one of the two functions if it is above the other.
    fn common(&self, from: usize, to: usize) -> Option<usize> {
        let (mut a, mut b) = (from, to);
        loop {
            if a == b {
                return Some(a);
            }
            let (above_a, above_b) = (self.topology.above(a), self.topology.above(b));
            match self.depth[a].cmp(&self.depth[b]) {
                std::cmp::Ordering::Greater => a = above_a?,
                std::cmp::Ordering::Less => b = above_b?,
                std::cmp::Ordering::Equal => (a, b) = (above_a?, above_b?),
            }
        }
    }

    fn top(&self, at: usize) -> usize {
        self.topology.top(at)
    }
}

fn wanted_bar(host: &Host, function: &Function, request: Request) -> Option<Bar> {
    match request.bar {
        Some(index) => function.bars.iter().find(|bar| bar.index == index).copied(),
        None => function.main_bar(host.page_bytes()).copied(),
    }
}
