//! The hops between source and target in the PCI tree, as text and as a picture.

mod hops;
mod svg;

use std::collections::HashMap;
use std::path::Path;

use peerpath_paths::{Inventory, PathName, Request, Tree};

use hops::Hops;

use super::describe;
use super::pair::Pair;
use crate::saved::{self, Saved, SavedDecision, SavedPath};

/// File name of a snapshot of the host, next to the result.
const SNAPSHOT: &str = "snapshot.tar.gz";
/// Number of routes that are not folded.
const SHOWN: usize = 6;
/// Maximum number of routes on the page.
const MAX_ROUTES: usize = 60;

/// A sequence of hops, with the pairs whose data passes through it.
pub(crate) struct Route {
    pub(crate) path: PathName,
    /// Number and name of each pair.
    pub(crate) pairs: Vec<(usize, String)>,
    /// The hops as text.
    pub(crate) text: String,
    /// Fact that determines the path.
    pub(crate) deciding: Option<String>,
    pub(crate) svg: Option<String>,
}

/// The routes of all pairs of a report.
#[derive(Default)]
pub(crate) struct Routes {
    pub(crate) shown: Vec<Route>,
    pub(crate) folded: Vec<Route>,
    /// Number of routes beyond the limit of the page.
    pub(crate) left_out: usize,
    /// Number of pairs whose result does not record the hops.
    pub(crate) unknown: usize,
    /// Whether some routes come from snapshots next to the results.
    pub(crate) from_snapshots: bool,
}

/// Finds and draws the routes of all pairs. Pairs with equal hops share a route.
pub(crate) fn routes(saved: &[Saved], labels: &[String], pairs: &[Pair<'_>]) -> Routes {
    let mut snapshots = Snapshots { saved, read: HashMap::new() };
    let mut routes = Routes::default();
    let mut known: HashMap<Hops, usize> = HashMap::new();
    let mut all: Vec<(Hops, Vec<(usize, String)>)> = Vec::new();
    let has_route =
        |pair: &&Pair<'_>| !matches!(pair.path, PathName::HostMemory | PathName::Staged) && !pair.never_began();
    for pair in pairs.iter().filter(has_route) {
        let recorded = !pair.example().path.hops.is_empty();
        let hops = if recorded { recorded_hops(&saved[pair.run], pair) } else { snapshots.hops(pair) };
        let Some(hops) = hops else {
            routes.unknown += 1;
            continue;
        };
        routes.from_snapshots |= !recorded;
        let name = format!("{} to {}", describe::short_source(pair.source()), describe::short_target(pair.target()));
        let name = if labels.len() > 1 { format!("{}: {name}", labels[pair.run]) } else { name };
        match known.get(&hops) {
            Some(at) => all[*at].1.push((pair.number, name)),
            None => {
                known.insert(hops.clone(), all.len());
                all.push((hops, vec![(pair.number, name)]));
            }
        }
    }
    routes.left_out = all.len().saturating_sub(MAX_ROUTES);
    for (hops, pairs) in all.into_iter().take(MAX_ROUTES) {
        let svg = svg::draw(&hops);
        let route = Route { path: hops.path, pairs, text: hops.text(), deciding: hops.fact, svg };
        let list = if routes.shown.len() < SHOWN { &mut routes.shown } else { &mut routes.folded };
        list.push(route);
    }
    routes
}

fn recorded_hops(saved: &Saved, pair: &Pair<'_>) -> Option<Hops> {
    let path = &pair.example().path;
    let names: HashMap<&str, &str> = saved
        .environment
        .devices
        .iter()
        .filter_map(|device| Some((device.bdf.as_str(), device.name.as_deref()?)))
        .collect();
    Hops::of(pair.path, path, |bdf| names.get(bdf).map(|name| (*name).to_owned()))
}

/// Snapshots next to the results, by index of the run. Each is read on first use.
struct Snapshots<'a> {
    saved: &'a [Saved],
    read: HashMap<usize, Option<Inventory>>,
}

impl Snapshots<'_> {
    /// Predicts the hops from the snapshot. `None` if the predicted path differs from the measured one: the run changed the
    /// host after the snapshot was taken.
    fn hops(&mut self, pair: &Pair<'_>) -> Option<Hops> {
        let file = self.saved[pair.run].file.parent().unwrap_or(Path::new(".")).join(SNAPSHOT);
        let open = || file.is_file().then(|| Tree::open(&file).ok()).flatten().map(|tree| Inventory::read(&tree));
        let inventory = self.read.entry(pair.run).or_insert_with(open).as_ref()?;
        let (source, target) = (pair.source(), pair.target());
        let (from, to) = (source.bdf.as_ref()?.parse().ok()?, target.bdf.as_ref()?.parse().ok()?);
        let ranges = usize::try_from(describe::range_count(pair.example())).ok()?;
        let bar = source.bar.and_then(|bar| u8::try_from(bar).ok());
        let request = Request { bar, ranges, own_address_space: target.kind == "iommufd" };
        let report = inventory.predictor(request).explain(from, to)?;
        if report.predicted != pair.path {
            return None;
        }
        let path = SavedPath {
            hops: report.hops.iter().map(ToString::to_string).collect(),
            turns_at: report.turns_at.map(|bdf| bdf.to_string()),
            up_to: report.up_to.map(|bdf| bdf.to_string()),
            through_root_complex: report.through_root_complex,
            deciding: Some(SavedDecision {
                bdf: report.deciding.bdf.map(|bdf| bdf.to_string()),
                fact: report.deciding.fact,
            }),
            ..SavedPath::default()
        };
        let name = |bdf: &str| {
            let function = inventory.topology.function(bdf.parse().ok()?)?;
            Some(saved::clean_name(&inventory.entry(function).name))
        };
        Hops::of(pair.path, &path, name)
    }
}
