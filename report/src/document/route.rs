//! The way through the PCI tree, as a list of hops and as a picture.

use std::collections::HashMap;
use std::path::Path;

use peerpath_paths::{Inventory, PathName, Request, Tree};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::{INK, MUTED, PAPER, colour};
use super::describe;
use super::pair::Pair;
use crate::saved::{Saved, SavedPath};

/// What a snapshot of the host is called where it lies beside a result.
const SNAPSHOT: &str = "snapshot.tar.gz";
/// Pictures that are shown at once, and pictures that are drawn.
const SHOWN: usize = 6;
const DRAWN: usize = 60;
/// Longer ways are told, not drawn.
const MOST_HOPS: usize = 24;
/// Letters of a name that fit into a box.
const NAME_LETTERS: usize = 36;

/// One way, with the pairs that take it.
pub(crate) struct Route {
    pub(crate) path: PathName,
    /// Pairs that take it, by number and name.
    pub(crate) pairs: Vec<(usize, String)>,
    /// The hops in words.
    pub(crate) told: String,
    /// What decided.
    pub(crate) deciding: Option<String>,
    pub(crate) svg: Option<String>,
}

/// The ways that the pairs of a report take.
#[derive(Default)]
pub(crate) struct Routes {
    pub(crate) shown: Vec<Route>,
    pub(crate) folded: Vec<Route>,
    /// Ways that are told in the list of pairs only.
    pub(crate) left_out: usize,
    /// Pairs whose result does not say which hops they take.
    pub(crate) unknown: usize,
    /// Whether some of it comes from snapshots beside the results.
    pub(crate) from_snapshots: bool,
}

/// The hops of a pair, in the order in which data pass them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Hops {
    path: PathName,
    up: Vec<Hop>,
    /// The bridge at which the way turns round.
    turn: Option<Hop>,
    down: Vec<Hop>,
    fact: Option<String>,
    /// The hop that decided; none where that was the root complex, or the kernel.
    deciding: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Hop {
    bdf: String,
    name: String,
}

/// Finds and draws the ways of all pairs.
pub(crate) fn routes(saved: &[Saved], labels: &[String], pairs: &[Pair<'_>]) -> Routes {
    let mut snapshots = Snapshots { saved, read: HashMap::new() };
    let mut routes = Routes::default();
    let mut known: HashMap<Hops, usize> = HashMap::new();
    let mut all: Vec<(Hops, Vec<(usize, String)>)> = Vec::new();
    let has_way =
        |pair: &&Pair<'_>| !matches!(pair.path, PathName::HostMemory | PathName::Staged) && !pair.never_began();
    for pair in pairs.iter().filter(has_way) {
        let recorded = !pair.example().path.hops.is_empty();
        let hops = if recorded { of_result(&saved[pair.run], pair) } else { snapshots.hops(pair) };
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
    routes.left_out = all.len().saturating_sub(DRAWN);
    for (hops, pairs) in all.into_iter().take(DRAWN) {
        let route = Route { path: hops.path, pairs, told: hops.told(), deciding: hops.fact.clone(), svg: hops.svg() };
        let place = if routes.shown.len() < SHOWN { &mut routes.shown } else { &mut routes.folded };
        place.push(route);
    }
    routes
}

fn of_result(saved: &Saved, pair: &Pair<'_>) -> Option<Hops> {
    let path = &pair.example().path;
    let names: HashMap<&str, &str> = saved
        .environment
        .devices
        .iter()
        .filter_map(|device| Some((device.bdf.as_str(), device.name.as_deref()?)))
        .collect();
    Hops::of(pair.path, path, |bdf| names.get(bdf).map(|name| (*name).to_owned()))
}

/// Snapshots beside results, read when they are needed.
struct Snapshots<'a> {
    saved: &'a [Saved],
    read: HashMap<usize, Option<Inventory>>,
}

impl Snapshots<'_> {
    /// What follows from the snapshot, where that is what the result predicted: an arranged path was another one then.
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
            deciding: Some(crate::saved::SavedDeciding {
                bdf: report.deciding.bdf.map(|bdf| bdf.to_string()),
                fact: report.deciding.fact,
            }),
            ..SavedPath::default()
        };
        let name = |bdf: &str| {
            let function = inventory.topology.function(bdf.parse().ok()?)?;
            Some(crate::saved::name(&inventory.entry(function).name))
        };
        Hops::of(pair.path, &path, name)
    }
}

impl Hops {
    fn of(path: PathName, saved: &SavedPath, name: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let hop = |bdf: &String| Hop { bdf: bdf.clone(), name: name(bdf).unwrap_or_default() };
        let hops: Vec<Hop> = saved.hops.iter().map(hop).collect();
        if hops.len() < 2 {
            return None;
        }
        let turn = saved.turns_at.as_ref().and_then(|turn| hops.iter().position(|hop| hop.bdf == *turn));
        let (up, turn, down) = match turn {
            Some(at) => (hops[..at].to_vec(), Some(hops[at].clone()), hops[at + 1..].to_vec()),
            None => {
                let told = saved.up_to.as_ref().and_then(|last| hops.iter().position(|hop| hop.bdf == *last));
                let at = told.map_or_else(|| top(&saved.hops), |last| last + 1);
                (hops[..at].to_vec(), None, hops[at..].to_vec())
            }
        };
        let deciding = saved.deciding.as_ref();
        Some(Self {
            path,
            up,
            turn,
            down,
            fact: deciding.map(|deciding| deciding.fact.clone()),
            deciding: deciding.and_then(|deciding| deciding.bdf.clone()),
        })
    }

    fn crosses_root(&self) -> bool {
        self.path != PathName::BusAddress
    }

    fn deciding_hop(&self) -> Option<&str> {
        let on_the_way = |bdf: &&str| self.up.iter().chain(&self.turn).chain(&self.down).any(|hop| hop.bdf == *bdf);
        self.deciding.as_deref().filter(on_the_way)
    }

    fn root_words(&self) -> &'static str {
        match self.path {
            PathName::HostBridgeTranslated => "root complex: the IOMMU translates",
            PathName::HostBridgeBypass => "root complex: addresses pass untranslated",
            PathName::Refused => "root complex: the kernel refuses",
            _ => "root complex",
        }
    }

    /// `0000:01:00.0 → 0000:00:01.0 → (root complex) → ...`
    fn told(&self) -> String {
        let mut parts: Vec<String> = self.up.iter().map(|hop| hop.bdf.clone()).collect();
        let turn = self.turn.iter().map(|hop| hop.bdf.clone());
        if self.crosses_root() {
            parts.extend(turn.clone());
            parts.push(format!("({})", self.root_words()));
        }
        parts.extend(turn);
        parts.extend(self.down.iter().map(|hop| hop.bdf.clone()));
        parts.join(" → ")
    }

    /// Both sides of the way side by side, what they have in common above.
    fn svg(&self) -> Option<String> {
        if self.up.len() + self.down.len() > MOST_HOPS {
            return None;
        }
        let in_common = usize::from(self.crosses_root()) + usize::from(self.turn.is_some()) + self.shared();
        let rows = in_common + self.up.len().max(self.down.len()) - self.shared();
        let height = MARGIN * 2 + rows as i32 * ROW - (ROW - BOX.1);
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        self.draw(&area).ok()?;
        area.present().ok()?;
        drop(area);
        Some(svg)
    }

    /// Bridges below the turn that the way passes up and down again.
    fn shared(&self) -> usize {
        self.up.iter().rev().zip(&self.down).take_while(|(up, down)| up == down).count()
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let (own, shared) = self.up.split_at(self.up.len() - self.shared());
        let root = self.crosses_root().then_some((None, self.root_words()));
        let common = self.turn.iter().chain(shared.iter().rev()).map(|hop| (Some(hop), ""));
        let mut spots: Vec<Spot<'_>> = (0..)
            .zip(root.into_iter().chain(common))
            .map(|(row, (hop, role))| Spot { at: (WIDTH / 2, MARGIN + row * ROW), hop, role })
            .collect();
        let mut way = match (spots.first(), spots.last()) {
            (Some(top), Some(bottom)) if top.at != bottom.at => {
                // Up to the root complex and back through the same bridges.
                let ((x, top), bottom) = (top.at, bottom.at.1);
                vec![(x - 12, bottom), (x - 12, top), (x + 12, top), (x + 12, bottom)]
            }
            (only, _) => only.iter().map(|spot| spot.at).collect(),
        };
        let y = MARGIN + spots.len() as i32 * ROW;
        let (left, right) = (MARGIN + BOX.0 / 2, WIDTH - MARGIN - BOX.0 / 2);
        for (row, hop) in (0..).zip(own.iter().rev()) {
            let at = (left, y + row * ROW);
            let role = if Some(hop) == self.up.first() { "exporter" } else { "" };
            spots.push(Spot { at, hop: Some(hop), role });
            way.insert(0, at);
        }
        for (row, hop) in (0..).zip(&self.down[shared.len()..]) {
            let at = (right, y + row * ROW);
            let role = if Some(hop) == self.down.last() { "importer" } else { "" };
            spots.push(Spot { at, hop: Some(hop), role });
            way.push(at);
        }
        let line = colour(self.path).stroke_width(5);
        let middles: Vec<(i32, i32)> = way.iter().map(|(x, y)| (*x, y + BOX.1 / 2)).collect();
        area.draw(&PathElement::new(bent(&middles), line))?;
        for spot in &spots {
            spot.draw(area, self)?;
        }
        Ok(())
    }
}

/// How many of the hops lead up, where a result of an older version does not say and both sides meet in the root complex only:
/// a bridge has a lower bus number than what is below it, so the first that is not lower than the one before it leads down
/// again. Wrong between root buses of which the importer's has the lower number.
fn top(hops: &[String]) -> usize {
    let bus = |hop: &String| hop.parse::<peerpath_paths::Bdf>().ok().map(|bdf| (bdf.segment(), bdf.bus()));
    let falls = |pair: &[String]| match (bus(&pair[0]), bus(&pair[1])) {
        (Some((segment, bus)), Some((next_segment, next_bus))) => segment == next_segment && next_bus < bus,
        _ => false,
    };
    hops.windows(2).position(|pair| !falls(pair)).map_or(hops.len(), |at| at + 1)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

const WIDTH: i32 = 560;
const MARGIN: i32 = 12;
const ROW: i32 = 78;
const BOX: (i32, i32) = (256, 52);

/// A box: a hop, or the root complex.
struct Spot<'a> {
    /// The middle of its upper edge.
    at: (i32, i32),
    hop: Option<&'a Hop>,
    role: &'a str,
}

impl Spot<'_> {
    fn draw(&self, area: &Area<'_>, hops: &Hops) -> Drawn {
        let (x, y) = self.at;
        let corners = [(x - BOX.0 / 2, y), (x + BOX.0 / 2, y + BOX.1)];
        // What no function on the way decides, the root complex does.
        let decides = self.hop.map(|hop| hop.bdf.as_str()) == hops.deciding_hop();
        area.draw(&Rectangle::new(corners, PAPER.filled()))?;
        let edge = if decides { colour(hops.path) } else { MUTED };
        area.draw(&Rectangle::new(corners, edge.stroke_width(1)))?;
        if decides {
            // A second edge, not a colour, marks it.
            let inner = [(corners[0].0 + 3, corners[0].1 + 3), (corners[1].0 - 3, corners[1].1 - 3)];
            area.draw(&Rectangle::new(inner, edge.stroke_width(1)))?;
        }
        let middle = Pos::new(HPos::Center, VPos::Center);
        let bold = ("sans-serif", 15).into_font().style(FontStyle::Bold).color(&INK).pos(middle);
        let small = ("sans-serif", 13).into_font().color(&MUTED).pos(middle);
        let role = [self.role, if decides { "decides" } else { "" }];
        let role: Vec<&str> = role.into_iter().filter(|word| !word.is_empty()).collect();
        match self.hop {
            Some(hop) => {
                let title = if role.is_empty() { hop.bdf.clone() } else { format!("{}, {}", hop.bdf, role.join(", ")) };
                area.draw(&Text::new(title, (x, y + 17), bold))?;
                area.draw(&Text::new(shortened(&hop.name), (x, y + 36), small))
            }
            None => {
                let (title, rest) = self.role.split_once(": ").unwrap_or((self.role, ""));
                let title = if decides { format!("{title}, decides") } else { title.to_owned() };
                area.draw(&Text::new(title, (x, y + 17), bold))?;
                area.draw(&Text::new(rest.to_owned(), (x, y + 36), small))
            }
        }
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME_LETTERS {
        return name.to_owned();
    }
    name.chars().take(NAME_LETTERS - 1).chain(['…']).collect()
}

/// Through the gaps between the rows, so that a line never runs behind a box that it does not visit.
fn bent(points: &[(i32, i32)]) -> Vec<(i32, i32)> {
    let mut bent: Vec<(i32, i32)> = Vec::new();
    for &(x, y) in points {
        if let Some(&(before_x, before_y)) = bent.last()
            && before_x != x
            && before_y != y
        {
            let lower = before_y.max(y);
            let gap = lower - BOX.1 / 2 - (ROW - BOX.1) / 2;
            bent.extend([(before_x, gap), (x, gap)]);
        }
        bent.push((x, y));
    }
    bent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saved::SavedDeciding;

    fn hops(path: PathName, hops: &[&str], turns_at: Option<&str>, decides: Option<&str>) -> Hops {
        let saved = SavedPath {
            hops: hops.iter().map(ToString::to_string).collect(),
            turns_at: turns_at.map(str::to_owned),
            deciding: Some(SavedDeciding { bdf: decides.map(str::to_owned), fact: "a fact".to_owned() }),
            ..SavedPath::default()
        };
        Hops::of(path, &saved, |_| Some("<b>bridge</b>".to_owned())).unwrap()
    }

    #[test]
    fn the_way_turns_where_the_result_says_or_in_the_root_complex() {
        let below = hops(
            PathName::BusAddress,
            &["0000:06:00.0", "0000:05:00.0", "0000:04:00.0", "0000:05:01.0", "0000:07:00.0"],
            Some("0000:04:00.0"),
            Some("0000:04:00.0"),
        );
        assert_eq!(below.told(), "0000:06:00.0 → 0000:05:00.0 → 0000:04:00.0 → 0000:05:01.0 → 0000:07:00.0");
        let across = hops(
            PathName::HostBridgeTranslated,
            &["0000:01:00.0", "0000:00:01.0", "0000:40:01.0", "0000:42:00.0"],
            None,
            None,
        );
        assert_eq!((across.up.len(), across.down.len()), (2, 2));
        assert!(across.told().contains("0000:00:01.0 → (root complex: the IOMMU translates) → 0000:40:01.0"));
        let told = SavedPath {
            hops: ["0000:41:00.0", "0000:40:00.0", "0000:00:19.0", "0000:02:00.0"].map(str::to_owned).to_vec(),
            up_to: Some("0000:40:00.0".to_owned()),
            ..SavedPath::default()
        };
        let between_root_buses = Hops::of(PathName::HostBridgeBypass, &told, |_| None).unwrap();
        assert_eq!(between_root_buses.up.last().unwrap().bdf, "0000:40:00.0");
        let segments = hops(PathName::HostBridgeBypass, &["0000:01:00.0", "0001:00:01.0"], None, None);
        assert_eq!(segments.up.len(), 1);
    }

    #[test]
    fn a_bridge_is_drawn_once_however_often_it_is_passed() {
        let up_and_down = hops(
            PathName::HostBridgeTranslated,
            &[
                "0000:03:00.0",
                "0000:02:00.0",
                "0000:01:00.0",
                "0000:00:18.0",
                "0000:01:00.0",
                "0000:02:01.0",
                "0000:04:00.0",
            ],
            Some("0000:00:18.0"),
            None,
        );
        let svg = up_and_down.svg().unwrap();
        for bdf in ["0000:01:00.0", "0000:00:18.0", "0000:02:00.0", "0000:02:01.0"] {
            assert_eq!(svg.matches(bdf).count(), 1, "{bdf}: {svg}");
        }
    }

    #[test]
    fn names_in_a_picture_are_no_markup() {
        let up_and_down = hops(
            PathName::HostBridgeTranslated,
            &["0000:03:00.0", "0000:02:00.0", "0000:00:01.0", "0000:02:01.0", "0000:04:00.0"],
            Some("0000:00:01.0"),
            Some("0000:02:00.0"),
        );
        let svg = up_and_down.svg().unwrap();
        assert!(svg.contains("0000:02:00.0, decides") && svg.contains("&lt;b&gt;bridge"), "{svg}");
        assert!(!svg.contains("<b>"), "{svg}");
    }
}
