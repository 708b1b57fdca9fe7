//! Charts of a report: throughput, latency, latency against load, and the cost of registration.

mod gallery;
mod published;
mod svg;

use std::collections::{BTreeMap, HashMap};

use gallery::{ChartData, MAX_LINES, NamedLine, Rows};
use svg::{Chart, Reference, Scale};

use super::describe;
use super::pair::Pair;
use crate::saved::{Outcome, SavedCell, quantile_name};
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

/// Groups cells into the lines of a chart.
fn lines<'a>(
    members: &[Member<'a>],
    name: impl Fn(Member<'a>) -> String,
    point: impl Fn(&SavedCell) -> Option<(f64, f64)>,
) -> Vec<NamedLine> {
    let mut lines: Vec<(usize, String, Vec<Member<'a>>)> = Vec::new();
    let mut known: HashMap<(usize, String), usize> = HashMap::new();
    for &(pair, cell) in members {
        let name = name((pair, cell));
        let at = *known.entry((pair.number, name.clone())).or_insert_with(|| {
            lines.push((pair.number, name, Vec::new()));
            lines.len() - 1
        });
        lines[at].2.push((pair, cell));
    }
    let drawn = lines.into_iter().map(|(_, name, members)| {
        let mut points: Vec<_> = members.iter().filter_map(|(_, cell)| point(cell)).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        NamedLine { path: members[0].0.path, name, points }
    });
    drawn.collect()
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

fn name_with_settings((pair, cell): Member<'_>) -> String {
    let settings = describe::settings(cell);
    if settings.is_empty() { pair_name(pair) } else { format!("{}, {settings}", pair_name(pair)) }
}

/// Returns no published figures for a chart of emulated devices, because these figures were measured on hardware.
fn beside_hardware(members: &[Member<'_>], references: Vec<Reference>) -> Vec<Reference> {
    if members.iter().any(|(pair, _)| pair.emulated) { Vec::new() } else { references }
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
        let name = |(pair, cell): Member<'_>| {
            let name = name_with_settings((pair, cell));
            // The settings omit a depth of 1, but next to other depths the name must contain it.
            if depths.len() > 1 && cell.depth == Some(1) { format!("{name}, depth 1") } else { name }
        };
        let row = |&(pair, cell): &Member<'_>| {
            vec![
                name((pair, cell)),
                cell_size(cell),
                or_dash(cell.throughput, units::bytes_per_second),
                or_dash(cell.throughput_min_window, units::bytes_per_second),
                or_dash(cell.operations_per_s, |rate| format!("{rate:.0}")),
            ]
        };
        ChartData {
            title: title.clone(),
            chart: Chart {
                x: (Scale::Bytes, "bytes per operation"),
                y: (Scale::Rate, "throughput"),
                lines: Vec::new(),
                references: beside_hardware(members, published::throughput(direction)),
            },
            lines: lines(members, name, |cell| Some((cell.size_bytes? as f64, cell.throughput?))),
            marked: true,
            note: None,
            table: Rows {
                heads: vec!["pair", "size", "throughput", "lowest window", "operations/s"],
                rows: members.iter().map(row).collect(),
                left_out: 0,
            },
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
        let mut curves = Vec::new();
        let mut rows = Vec::new();
        for &(pair, cell) in members {
            let samples = cell.latency.as_ref().and_then(crate::saved::SavedLatency::distribution);
            let name = name_with_settings((pair, cell));
            if curves.len() < MAX_LINES
                && let Some(samples) = &samples
            {
                curves.push(NamedLine { path: pair.path, name: name.clone(), points: curve(samples) });
            }
            rows.push(quantiles(name, cell, samples.as_ref()));
        }
        let heads: Vec<&'static str> = vec!["pair", "samples", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
        debug_assert_eq!(heads[2..7], QUANTILES.map(quantile_name));
        ChartData {
            title: title.clone(),
            chart: Chart {
                x: (Scale::Nines, "share of operations within this latency"),
                y: (Scale::Nanoseconds, "latency"),
                lines: Vec::new(),
                references: beside_hardware(members, published::latency(members[0].1.size_bytes, direction)),
            },
            lines: curves,
            marked: false,
            note: Some("A curve ends at the last quantile that its number of samples supports.".to_owned()),
            table: Rows { heads, rows, left_out: 0 },
        }
    }))
}

/// Charts of the latency against the offered load.
pub(crate) fn load(pairs: &[Pair<'_>], labels: &[String]) -> Gallery {
    let wanted = |cell: &SavedCell| cell.offered_operations_per_s.is_some() && cell.latency.is_some();
    let groups = groups(pairs, labels, wanted, |cell| {
        (cell.size_bytes.unwrap_or(0), format!("{} by load", describe::operation(cell)))
    });
    Gallery::draw(groups.iter().map(|(title, members)| {
        let rate = |rate: f64| format!("{rate:.0}");
        let row = |&(pair, cell): &Member<'_>| {
            vec![
                pair_name(pair),
                or_dash(cell.offered_operations_per_s.map(|offered| offered as f64), rate),
                or_dash(cell.operations_per_s, rate),
                or_dash(cell.p50(), units::nanoseconds),
                or_dash(cell.p99(), units::nanoseconds),
                or_dash(cell.latency.as_ref().and_then(|latency| latency.max), units::nanoseconds),
            ]
        };
        let line = |what: &'static str, of: fn(&SavedCell) -> Option<f64>| {
            let name = move |(pair, _): Member<'_>| format!("{}, {what}", pair_name(pair));
            lines(members, name, |cell| Some((cell.offered_operations_per_s? as f64, of(cell)?)))
        };
        ChartData {
            title: title.clone(),
            chart: Chart {
                x: (Scale::Count, "offered operations per second"),
                y: (Scale::Nanoseconds, "latency from the scheduled time"),
                lines: Vec::new(),
                references: Vec::new(),
            },
            lines: line("median", SavedCell::p50).into_iter().chain(line("p99", SavedCell::p99)).collect(),
            marked: true,
            note: Some("If the achieved rate is below the offered one, the device is overloaded.".to_owned()),
            table: Rows {
                heads: vec!["pair", "offered/s", "achieved/s", "median", "p99", "max"],
                rows: members.iter().map(row).collect(),
                left_out: 0,
            },
        }
    }))
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
    let size = |cell: &SavedCell| Some((cell.size_bytes? as f64, cell.p50()?));
    let ranges = |cell: &SavedCell| Some((describe::range_count(cell) as f64, cell.p50()?));
    let with_size = |(pair, cell): Member<'_>| format!("{}, {}", pair_name(pair), cell_size(cell));
    let sized = by_size.iter().map(|(title, members)| {
        let x = (Scale::Bytes, "bytes registered");
        step_chart(title, members, x, lines(members, name_with_settings, size), true)
    });
    let ranged = by_ranges.iter().map(|(title, members)| {
        let x = (Scale::Count, "ranges in one registration");
        step_chart(title, members, x, lines(members, with_size, ranges), false)
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

fn step_chart(
    title: &str,
    members: &[Member<'_>],
    x: (Scale, &'static str),
    lines: Vec<NamedLine>,
    by_size: bool,
) -> ChartData {
    let registers = members[0].1.op == "register";
    let row = |&(pair, cell): &Member<'_>| {
        let latency = cell.latency.clone().unwrap_or_default();
        vec![
            pair_name(pair),
            cell_size(cell),
            describe::range_count(cell).to_string(),
            cell.mechanism.clone().unwrap_or_else(|| "-".to_owned()),
            or_dash(latency.min, units::nanoseconds),
            or_dash(latency.p50, units::nanoseconds),
            or_dash(cell.p99(), units::nanoseconds),
        ]
    };
    ChartData {
        title: title.to_owned(),
        chart: Chart {
            x,
            y: (Scale::Nanoseconds, "median time"),
            lines: Vec::new(),
            references: if registers && by_size {
                beside_hardware(members, published::registration())
            } else {
                Vec::new()
            },
        },
        lines,
        marked: true,
        note: None,
        table: Rows {
            heads: vec!["pair", "size", "ranges", "mechanism", "min", "median", "p99"],
            rows: members.iter().map(row).collect(),
            left_out: 0,
        },
    }
}
