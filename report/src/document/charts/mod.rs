//! Charts of a report: throughput, latency, latency against load, and the cost of registration.

mod gallery;
mod published;
mod svg;

use std::collections::{BTreeMap, HashMap};

use gallery::{ChartData, MAX_FIGURES, NamedLine, ceiling_label};
use svg::{Chart, Figured, Origin, Reference, Scale};

use super::describe;
use super::pair::Pair;
use crate::saved::{Outcome, SavedCell, SavedRepeat, quantile_name};
use crate::units;

pub(crate) use gallery::Gallery;
pub(crate) use published::{PUBLISHED, Published};

/// Highest percentile of a latency curve, as a fraction.
const LAST_SHARE: f64 = 0.9999;
/// Points of a latency curve.
const CURVE_POINTS: usize = 64;
/// Quantiles in the table below a latency chart.
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// A cell with the pair that it belongs to.
type Member<'a> = (&'a Pair<'a>, &'a SavedCell);
/// The cells of a chart, with its title.
type Group<'a> = (String, Vec<Member<'a>>);

/// Groups cells into charts. `name` returns the rank and the title of a cell's chart; higher ranks come first.
fn groups<'a>(
    pairs: &'a [Pair<'a>],
    labels: &[String],
    wanted: impl Fn(&SavedCell) -> bool,
    name: impl Fn(&SavedCell) -> (u64, String),
) -> Vec<Group<'a>> {
    let mut groups: HashMap<(usize, u64, String), Vec<Member<'a>>> = HashMap::new();
    for pair in pairs {
        for cell in pair.cells.iter().copied().filter(|cell| cell.outcome == Outcome::Passed && wanted(cell)) {
            let (rank, name) = name(cell);
            groups.entry((pair.run, rank, name)).or_default().push((pair, cell));
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|((run, rank, name), members), ((other_run, other_rank, other_name), others)| {
        (other_rank, others.len(), run, name).cmp(&(rank, members.len(), other_run, other_name))
    });
    let title = |run: usize, name: String| if labels.len() > 1 { format!("{}: {name}", labels[run]) } else { name };
    groups.into_iter().map(|((run, _, name), members)| (title(run, name), members)).collect()
}

/// How the cells of a group become lines.
struct Lines<'f> {
    /// What distinguishes lines of a pair, e.g. `depth 16`.
    detail: &'f dyn Fn(&SavedCell) -> String,
    /// Position of a cell on the x axis, as number and as text.
    x: &'f dyn Fn(&SavedCell) -> Option<(f64, String)>,
    y: Quantity,
    /// Fields of the cell in the table, after the name of its line.
    row: &'f dyn Fn(&SavedCell) -> Vec<String>,
}

/// What the y axis shows, as value of a cell and of a repeat.
#[derive(Clone, Copy)]
struct Quantity {
    of_cell: fn(&SavedCell) -> Option<f64>,
    of_repeat: fn(&SavedRepeat) -> Option<f64>,
    /// The value with its unit.
    text: fn(f64) -> String,
}

const THROUGHPUT: Quantity =
    Quantity { of_cell: |cell| cell.throughput, of_repeat: |repeat| repeat.throughput, text: exact_rate };
const P50: Quantity = Quantity { of_cell: SavedCell::p50, of_repeat: SavedRepeat::p50, text: exact_time };
const P99: Quantity = Quantity { of_cell: SavedCell::p99, of_repeat: SavedRepeat::p99, text: exact_time };

fn exact_rate(rate: f64) -> String {
    format!("{} ({rate:.0} bytes/s)", units::bytes_per_second(rate))
}

fn exact_time(time: f64) -> String {
    format!("{} ({time:.0} ns)", units::nanoseconds(time))
}

impl Quantity {
    /// Lowest and highest value of the repeats. `None` with fewer than two.
    fn range(self, cell: &SavedCell) -> Option<(f64, f64)> {
        let mut values: Vec<f64> = cell.repeats.iter().filter_map(self.of_repeat).collect();
        values.sort_by(f64::total_cmp);
        (values.len() > 1).then(|| (values[0], values[values.len() - 1]))
    }

    /// Tooltip of a value of a cell: name, position, exact value, and what the repeats say.
    fn title(self, name: &str, x: &str, y: f64, cell: &SavedCell) -> String {
        let mut title = format!("{name}\n{x}: {}", (self.text)(y));
        if let Some((low, high)) = self.range(cell) {
            title += &format!("\n{} repeats: {} to {}", cell.repeats.len(), (self.text)(low), (self.text)(high));
        }
        title
            + &cell
                .disturbances()
                .map(|(repeat, why)| format!("\nrepeat {repeat} disturbed: {why}"))
                .collect::<String>()
    }
}

/// Groups cells into the lines of a chart.
fn lines(members: &[Member<'_>], how: &Lines<'_>) -> Vec<NamedLine> {
    let mut lines: Vec<(String, Vec<Member<'_>>)> = Vec::new();
    let mut known: HashMap<(usize, String), usize> = HashMap::new();
    for &(pair, cell) in members {
        let detail = (how.detail)(cell);
        let at = *known.entry((pair.number, detail.clone())).or_insert_with(|| {
            lines.push((detail, Vec::new()));
            lines.len() - 1
        });
        lines[at].1.push((pair, cell));
    }
    lines.into_iter().map(|(detail, members)| line(detail, &members, how)).collect()
}

fn line(detail: String, members: &[Member<'_>], how: &Lines<'_>) -> NamedLine {
    let pair = members[0].0;
    let name = name(pair, &detail);
    let mut figures = Vec::new();
    for (_, cell) in members {
        let Some(((x, x_text), y)) = (how.x)(cell).zip((how.y.of_cell)(cell)) else { continue };
        figures.push(Figured { at: (x, y), range: how.y.range(cell), title: how.y.title(&name, &x_text, y, cell) });
    }
    figures.sort_by(|one, other| one.at.0.total_cmp(&other.at.0));
    let points = figures.iter().map(|figure| figure.at).collect();
    figures.truncate(MAX_FIGURES);
    let rows = members.iter().map(|(_, cell)| [vec![name.clone()], (how.row)(cell)].concat()).collect();
    NamedLine { path: pair.path, name, detail, points, figures, ceilings: Vec::new(), rows }
}

/// The different ceilings of cells, as horizontal lines.
fn ceilings<'a>(cells: impl Iterator<Item = &'a SavedCell>) -> Vec<Reference> {
    let mut ceilings: Vec<Reference> = Vec::new();
    for ceiling in cells.filter_map(|cell| cell.ceiling.as_ref()) {
        let label = ceiling_label(ceiling.bytes_per_s, ceiling.limited_by.as_deref());
        let line = Reference::horizontal(Origin::Ceiling, ceiling.bytes_per_s, label);
        if !ceilings.contains(&line) {
            ceilings.push(line);
        }
    }
    ceilings
}

fn pair_name(pair: &Pair<'_>) -> String {
    let other = pair.asked.filter(|asked| *asked != pair.path);
    let asked = other.map_or_else(String::new, |asked| format!(" (requested: {asked})"));
    format!(
        "{} to {}, {}{asked}",
        describe::short_source(pair.source()),
        describe::short_target(pair.target()),
        pair.path
    )
}

fn name(pair: &Pair<'_>, detail: &str) -> String {
    if detail.is_empty() { pair_name(pair) } else { format!("{}, {detail}", pair_name(pair)) }
}

/// Returns no published figures on a page with emulated devices, because these figures were measured on hardware.
fn beside_hardware(pairs: &[Pair<'_>], references: Vec<Reference>) -> Vec<Reference> {
    if pairs.iter().any(|pair| pair.emulated) { Vec::new() } else { references }
}

/// Position of a cell by its size.
fn by_size(cell: &SavedCell) -> Option<(f64, String)> {
    Some((cell.size_bytes? as f64, units::bytes(cell.size_bytes?)))
}

fn cell_size(cell: &SavedCell) -> String {
    cell.size_bytes.map_or_else(|| "-".to_owned(), units::bytes)
}

fn or_dash(value: Option<f64>, with_unit: fn(f64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), with_unit)
}

/// Charts of throughput over size.
pub(crate) fn throughput(pairs: &[Pair<'_>], labels: &[String]) -> Gallery {
    let direction = |cell: &SavedCell| match cell.direction.as_deref() {
        _ if cell.bidirectional => "both ways (sum of both directions)",
        Some("into_source") => "into source",
        Some("out_of_source") => "out of source",
        _ => "without a direction",
    };
    let groups = groups(
        pairs,
        labels,
        |cell| cell.throughput.is_some_and(|rate| rate > 0.0) && cell.offered_operations_per_s.is_none(),
        |cell| (0, format!("{} {}", cell.op, direction(cell))),
    );
    Gallery::draw(groups.iter().map(|(title, members)| {
        let direction = members[0].1.direction.as_deref().unwrap_or_default();
        let depths: BTreeMap<Option<u64>, ()> = members.iter().map(|(_, cell)| (cell.depth, ())).collect();
        let detail = |cell: &SavedCell| {
            let settings = describe::settings(cell);
            // The settings omit a depth of 1, but next to other depths the name must contain it.
            match cell.depth {
                Some(1) if depths.len() > 1 && settings.is_empty() => "depth 1".to_owned(),
                Some(1) if depths.len() > 1 => format!("depth 1, {settings}"),
                _ => settings,
            }
        };
        let row = |cell: &SavedCell| {
            vec![
                cell_size(cell),
                or_dash(cell.throughput, units::bytes_per_second),
                or_dash(cell.throughput_min_window, units::bytes_per_second),
                or_dash(cell.percent_of_ceiling(), |percent| format!("{percent:.0} %")),
                or_dash(cell.operations_per_s, |rate| format!("{rate:.0}")),
            ]
        };
        let mut lines = lines(members, &Lines { detail: &detail, x: &by_size, y: THROUGHPUT, row: &row });
        for line in &mut lines {
            let own = members.iter().filter(|(pair, cell)| name(pair, &detail(cell)) == line.name);
            line.ceilings = ceilings(own.map(|(_, cell)| *cell));
        }
        ChartData {
            title: title.clone(),
            chart: Chart {
                x: (Scale::Bytes, "size of an operation (bytes)"),
                y: (Scale::Rate, "throughput (bytes per second)"),
                lines: Vec::new(),
                references: beside_hardware(pairs, published::throughput(direction)),
                extent: Vec::new(),
            },
            lines,
            marked: true,
            note: None,
            heads: vec!["pair", "size", "throughput", "lowest window", "of ceiling", "operations/s"],
        }
    }))
}

/// Latency distributions. The x axis is the share of operations that complete within the latency.
pub(crate) fn latency(pairs: &[Pair<'_>], labels: &[String]) -> Gallery {
    let wanted = |cell: &SavedCell| cell.direction.is_some() && cell.latency.is_some();
    let groups = groups(pairs, labels, wanted, |cell| {
        let mode = if cell.mode == "completion" { String::new() } else { format!(" ({})", cell.mode) };
        (cell.size_bytes.unwrap_or(0), format!("{}{mode}", describe::operation(cell)))
    });
    Gallery::draw(groups.iter().map(|(title, members)| {
        let direction = members[0].1.direction.as_deref().unwrap_or_default();
        let heads: Vec<&'static str> = vec!["pair", "samples", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
        debug_assert_eq!(heads[2..7], QUANTILES.map(quantile_name));
        ChartData {
            title: title.clone(),
            chart: Chart {
                x: (Scale::Nines, "share of operations within this latency (%)"),
                y: (Scale::Nanoseconds, "latency (time)"),
                lines: Vec::new(),
                references: beside_hardware(pairs, published::latency(members[0].1.size_bytes, direction)),
                extent: Vec::new(),
            },
            lines: members.iter().map(distribution).collect(),
            marked: false,
            note: Some("A curve ends at the last quantile that its number of samples supports.".to_owned()),
            heads,
        }
    }))
}

/// The line of a latency distribution, with tooltips at its quantiles and the range of the repeats at the median.
fn distribution(&(pair, cell): &Member<'_>) -> NamedLine {
    let samples = cell.latency.as_ref().and_then(crate::saved::SavedLatency::distribution);
    let detail = describe::settings(cell);
    let name = name(pair, &detail);
    let figure = |share: f64| {
        let time = samples.as_ref()?.supported_quantile(share)?;
        let quantity = if share == 0.5 { P50 } else { Quantity { of_repeat: |_| None, ..P50 } };
        let title = quantity.title(&name, quantile_name(share).as_ref(), time, cell);
        Some(Figured { at: (share, time), range: quantity.range(cell), title })
    };
    NamedLine {
        path: pair.path,
        points: samples.as_ref().map(curve).unwrap_or_default(),
        figures: QUANTILES.into_iter().filter_map(figure).collect(),
        ceilings: Vec::new(),
        rows: vec![quantiles(name.clone(), cell, samples.as_ref())],
        name,
        detail,
    }
}

/// Charts of the latency against the offered load.
pub(crate) fn load(pairs: &[Pair<'_>], labels: &[String]) -> Gallery {
    let wanted = |cell: &SavedCell| cell.offered_operations_per_s.is_some() && cell.latency.is_some();
    let groups = groups(pairs, labels, wanted, |cell| {
        (cell.size_bytes.unwrap_or(0), format!("{} by load", describe::operation(cell)))
    });
    Gallery::draw(groups.iter().map(|(title, members)| {
        let rate = |rate: f64| format!("{rate:.0}");
        let row = |cell: &SavedCell| {
            vec![
                or_dash(cell.offered_operations_per_s.map(|offered| offered as f64), rate),
                or_dash(cell.operations_per_s, rate),
                or_dash(cell.p50(), units::nanoseconds),
                or_dash(cell.p99(), units::nanoseconds),
                or_dash(cell.latency.as_ref().and_then(|latency| latency.max), units::nanoseconds),
            ]
        };
        let offered = |cell: &SavedCell| {
            let offered = cell.offered_operations_per_s?;
            Some((offered as f64, format!("{offered} operations/s")))
        };
        let line = |what: &'static str, y: Quantity| {
            lines(members, &Lines { detail: &|_| what.to_owned(), x: &offered, y, row: &row })
        };
        // The table has the median and the p99 in one row.
        let p99 = line("p99", P99).into_iter().map(|line| NamedLine { rows: Vec::new(), ..line });
        let both = line("median", P50).into_iter().chain(p99);
        ChartData {
            title: title.clone(),
            chart: Chart {
                x: (Scale::Count, "offered load (operations per second)"),
                y: (Scale::Nanoseconds, "latency from the scheduled time"),
                lines: Vec::new(),
                references: Vec::new(),
                extent: Vec::new(),
            },
            // One chart per pair.
            lines: both.map(|line| NamedLine { detail: pair_of(&line.name), ..line }).collect(),
            marked: true,
            note: Some("If the achieved rate is below the offered one, the device is overloaded.".to_owned()),
            heads: vec!["pair", "offered/s", "achieved/s", "median", "p99", "max"],
        }
    }))
}

/// Name of a line without its detail.
fn pair_of(name: &str) -> String {
    name.rsplit_once(", ").map_or(name, |(pair, _)| pair).to_owned()
}

fn curve(samples: &crate::saved::Distribution) -> Vec<(f64, f64)> {
    // The curve ends at the highest quantile that the samples resolve, e.g. 99 % for 100 samples.
    let last = (1.0 - 1.0 / samples.count() as f64).min(LAST_SHARE);
    let nines = -(1.0 - last).log10();
    let share = |at: usize| 1.0 - 10_f64.powf(-nines * at as f64 / (CURVE_POINTS - 1) as f64);
    (0..CURVE_POINTS).map(|at| (share(at), samples.quantile(share(at)))).collect()
}

fn quantiles(name: String, cell: &SavedCell, samples: Option<&crate::saved::Distribution>) -> Vec<String> {
    let latency = cell.latency.clone().unwrap_or_default();
    let kept = [latency.p50, latency.p90, latency.p99, latency.p999, None];
    let values = QUANTILES.iter().zip(kept).map(|(share, kept)| {
        or_dash(samples.map_or(kept, |samples| samples.supported_quantile(*share)), units::nanoseconds)
    });
    let count = samples.map(crate::saved::Distribution::count).or(cell.iterations);
    let mut row = vec![name, count.map_or_else(|| "-".to_owned(), |count| count.to_string())];
    row.extend(values);
    row.push(or_dash(latency.max, units::nanoseconds));
    row
}

/// Charts of the time for export, attach, map, register and the reverse operations, by size and by number of ranges.
pub(crate) fn registration(pairs: &[Pair<'_>], labels: &[String]) -> Gallery {
    let wanted = |cell: &SavedCell| cell.direction.is_none() && cell.p50().is_some();
    let by_size = groups(pairs, labels, wanted, |cell| (rank(&cell.op), format!("{}, by size", cell.op)));
    let by_ranges = groups(pairs, labels, wanted, |cell| (rank(&cell.op), format!("{}, by number of ranges", cell.op)));
    let many = |(_, members): &Group<'_>| {
        let counts: BTreeMap<u64, ()> = members.iter().map(|(_, cell)| (describe::range_count(cell), ())).collect();
        counts.len() > 1
    };
    let by_ranges: Vec<_> = by_ranges.into_iter().filter(many).collect();
    let ranges = |cell: &SavedCell| {
        let count = describe::range_count(cell);
        Some((count as f64, describe::plural(usize::try_from(count).ok()?, "range")))
    };
    let sized = by_size.iter().map(|(title, members)| {
        let published = if members[0].1.op == "register" { published::registration() } else { Vec::new() };
        let chart = Chart {
            x: (Scale::Bytes, "size of a registration (bytes)"),
            y: (Scale::Nanoseconds, "median time"),
            lines: Vec::new(),
            references: beside_hardware(pairs, published),
            extent: Vec::new(),
        };
        let lines = lines(members, &Lines { detail: &describe::settings, x: &self::by_size, y: P50, row: &step_row });
        step_chart(title, chart, lines)
    });
    let ranged = by_ranges.iter().map(|(title, members)| {
        let chart = Chart {
            x: (Scale::Count, "ranges in one registration"),
            y: (Scale::Nanoseconds, "median time"),
            lines: Vec::new(),
            references: Vec::new(),
            extent: Vec::new(),
        };
        let lines = lines(members, &Lines { detail: &cell_size, x: &ranges, y: P50, row: &step_row });
        step_chart(title, chart, lines)
    });
    Gallery::draw(sized.chain(ranged))
}

/// Rank of an operation. The chart of the operation with the highest rank comes first.
fn rank(op: &str) -> u64 {
    match op {
        "register" => 11,
        "map" => 10,
        "allocate" => 9,
        "link" => 8,
        "sync" => 7,
        "attach" => 6,
        "export" => 5,
        "unregister" => 4,
        "unmap" => 3,
        "detach" => 2,
        _ => 1,
    }
}

fn step_row(cell: &SavedCell) -> Vec<String> {
    let latency = cell.latency.as_ref();
    vec![
        cell_size(cell),
        describe::range_count(cell).to_string(),
        cell.mechanism.clone().unwrap_or_else(|| "-".to_owned()),
        or_dash(latency.and_then(|latency| latency.min), units::nanoseconds),
        or_dash(latency.and_then(|latency| latency.p50), units::nanoseconds),
        or_dash(cell.p99(), units::nanoseconds),
    ]
}

fn step_chart(title: &str, chart: Chart, lines: Vec<NamedLine>) -> ChartData {
    ChartData {
        title: title.to_owned(),
        chart,
        lines,
        marked: true,
        note: None,
        heads: vec!["pair", "size", "ranges", "mechanism", "min", "median", "p99"],
    }
}
