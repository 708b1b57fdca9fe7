//! Galleries: charts with a legend and a table of their values.

use peerpath_paths::PathName;

use super::svg::{Chart, Figured, Line, Reference, letter};
use crate::units;

/// Maximum number of lines in a chart. A group of more lines becomes several charts with the same axes.
pub(crate) const MAX_LINES: usize = 4;
/// Maximum number of figures of a line with a tooltip.
pub(crate) const MAX_FIGURES: usize = 64;
/// Number of charts that are not folded.
const SHOWN: usize = 9;
/// Maximum number of charts in a section.
const MAX_CHARTS: usize = 40;
/// Maximum number of rows in the table below a chart.
const MAX_ROWS: usize = 60;
/// Maximum number of rows in [`Gallery::flat`].
const MAX_FLAT_ROWS: usize = 200;
/// Maximum number of ceilings in a chart.
const MAX_CEILINGS: usize = 4;

/// Rows of a table, with the headings of its columns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) heads: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Number of rows that were omitted because of the limit.
    pub(crate) left_out: usize,
}

/// An entry of a legend.
#[derive(Debug, Clone)]
pub(crate) struct Legend {
    /// The number of a measured line, or the letter of a reference line.
    pub(crate) mark: String,
    /// Path of a measured line.
    pub(crate) path: Option<PathName>,
    pub(crate) name: String,
}

/// A drawn chart with its legend and table.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) svg: String,
    pub(crate) legend: Vec<Legend>,
    /// A remark for the reader.
    pub(crate) note: Option<String>,
    pub(crate) table: Rows,
}

/// A line with its name.
#[derive(Clone)]
pub(crate) struct NamedLine {
    pub(crate) path: PathName,
    pub(crate) name: String,
    /// What distinguishes the line from other lines of its pair, e.g. `depth 16`. Lines with the same detail are in one chart.
    pub(crate) detail: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Figures on the line with a tooltip, at most [`MAX_FIGURES`].
    pub(crate) figures: Vec<Figured>,
    /// Ceilings of the cells, without duplicates.
    pub(crate) ceilings: Vec<Reference>,
    /// Rows of the line in the table below the chart.
    pub(crate) rows: Vec<Vec<String>>,
}

impl NamedLine {
    fn is_baseline(&self) -> bool {
        self.path == PathName::HostMemory
    }
}

/// A group of lines before it is drawn as one or more charts.
pub(crate) struct ChartData {
    pub(crate) title: String,
    /// Axes and published figures.
    pub(crate) chart: Chart,
    pub(crate) lines: Vec<NamedLine>,
    pub(crate) marked: bool,
    pub(crate) note: Option<String>,
    /// Headings of the table.
    pub(crate) heads: Vec<&'static str>,
}

/// The charts of a section.
#[derive(Debug, Default)]
pub(crate) struct Gallery {
    pub(crate) shown: Vec<Figure>,
    pub(crate) folded: Vec<Figure>,
    pub(crate) left_out: usize,
    /// Values of charts that cannot be drawn as lines, because all points have the same x value.
    pub(crate) flat: Rows,
}

impl Gallery {
    /// Draws the charts in their order.
    pub(crate) fn draw(groups: impl Iterator<Item = ChartData>) -> Self {
        let mut gallery = Self::default();
        for data in groups {
            if data.is_flat() {
                gallery.flat.heads = [&["chart"], data.heads.as_slice()].concat();
                let rows = data.lines.into_iter().flat_map(|line| line.rows);
                gallery.flat.rows.extend(rows.map(|row| [vec![data.title.clone()], row].concat()));
                continue;
            }
            for facet in data.facets() {
                if gallery.shown.len() + gallery.folded.len() >= MAX_CHARTS {
                    gallery.left_out += 1;
                } else if let Some(figure) = facet.draw() {
                    let list = if gallery.shown.len() < SHOWN { &mut gallery.shown } else { &mut gallery.folded };
                    list.push(figure);
                }
            }
        }
        gallery.flat.left_out = gallery.flat.rows.len().saturating_sub(MAX_FLAT_ROWS);
        gallery.flat.rows.truncate(MAX_FLAT_ROWS);
        gallery
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shown.is_empty() && self.flat.rows.is_empty()
    }
}

/// Splits lines into charts of at most [`MAX_LINES`]: by detail, so that the pairs are side by side, and then by number, with the
/// baselines in every chart. Returns the detail and the lines of each chart.
fn facets(lines: Vec<NamedLine>) -> Vec<(String, Vec<NamedLine>)> {
    if lines.len() <= MAX_LINES {
        return vec![(String::new(), lines)];
    }
    let mut by_detail: Vec<(String, Vec<NamedLine>)> = Vec::new();
    for line in lines {
        match by_detail.iter_mut().find(|(detail, _)| *detail == line.detail) {
            Some((_, members)) => members.push(line),
            None => by_detail.push((line.detail.clone(), vec![line])),
        }
    }
    if by_detail.iter().all(|(_, members)| members.len() == 1) {
        by_detail = vec![(String::new(), by_detail.into_iter().flat_map(|(_, members)| members).collect())];
    }
    let mut facets = Vec::new();
    for (detail, members) in by_detail {
        if members.len() <= MAX_LINES {
            facets.push((detail, members));
            continue;
        }
        let (baselines, others): (Vec<_>, Vec<_>) = members.into_iter().partition(NamedLine::is_baseline);
        // Without space for other lines, a baseline is a line as any other.
        let (repeated, others) = if baselines.len() < MAX_LINES - 1 {
            (baselines, others)
        } else {
            (Vec::new(), [baselines, others].concat())
        };
        let charts: Vec<_> = others.chunks(MAX_LINES - repeated.len()).collect();
        for (at, chart) in charts.iter().enumerate() {
            let count = format!("{} of {}", at + 1, charts.len());
            let detail = if detail.is_empty() { count } else { format!("{detail}, {count}") };
            facets.push((detail, [chart, repeated.as_slice()].concat()));
        }
    }
    facets
}

impl ChartData {
    /// Whether all points have the same x value.
    fn is_flat(&self) -> bool {
        let mut x_values = self.lines.iter().flat_map(|line| &line.points).map(|point| point.0);
        let first = x_values.next();
        x_values.all(|x| Some(x) == first)
    }

    /// The charts of the group.
    fn facets(self) -> impl Iterator<Item = Self> {
        // Every chart has the axes of all lines.
        let drawn = self.lines.iter().flat_map(|line| {
            let ranges = line.figures.iter().filter_map(|figure| Some((figure.at.0, figure.range?)));
            let ranges = ranges.flat_map(|(x, (low, high))| [(x, low), (x, high)]);
            line.points.iter().copied().chain(ranges).collect::<Vec<_>>()
        });
        let extent = bounds(drawn);
        let Self { title, chart, lines, marked, note, heads } = self;
        let ceiling = lines.iter().flat_map(|line| &line.ceilings).flat_map(|ceiling| &ceiling.points);
        let highest = ceiling.map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
        let extent: Vec<_> = extent.iter().copied().chain(extent.first().map(|first| (first.0, highest))).collect();
        facets(lines).into_iter().map(move |(detail, lines)| Self {
            title: if detail.is_empty() { title.clone() } else { format!("{title}, {detail}") },
            chart: Chart { extent: extent.clone(), ..chart.clone() },
            lines,
            marked,
            note: note.clone(),
            heads: heads.clone(),
        })
    }

    fn draw(mut self) -> Option<Figure> {
        let mut legend = Vec::new();
        let mut table = Rows { heads: self.heads, ..Rows::default() };
        let mut ceilings: Vec<Reference> = Vec::new();
        let mut has_ranges = false;
        for (at, line) in self.lines.into_iter().enumerate() {
            let NamedLine { path, name, points, figures, rows, .. } = line;
            let number = at + 1;
            has_ranges |= figures.iter().any(|figure| figure.range.is_some());
            self.chart.lines.push(Line { number, path, points, figures, marked: self.marked });
            legend.push(Legend { mark: number.to_string(), path: Some(path), name });
            table.rows.extend(rows);
            let new = line.ceilings.into_iter().filter(|ceiling| !ceilings.contains(ceiling));
            let new: Vec<_> = new.collect();
            ceilings.extend(new);
        }
        ceilings.truncate(MAX_CEILINGS);
        self.chart.references.splice(0..0, ceilings);
        let references = self.chart.references.iter().enumerate();
        legend.extend(references.map(|(at, reference)| Legend {
            mark: letter(at).to_string(),
            path: None,
            name: reference.label.clone(),
        }));
        let svg = self.chart.svg()?;
        let ranges = has_ranges.then(|| "Error bars: lowest to highest value of the repeats.".to_owned());
        let note = [self.note, ranges].into_iter().flatten().collect::<Vec<_>>().join(" ");
        table.left_out = table.rows.len().saturating_sub(MAX_ROWS);
        table.rows.truncate(MAX_ROWS);
        Some(Figure { title: self.title, svg, legend, note: (!note.is_empty()).then_some(note), table })
    }
}

/// The corners of the smallest rectangle around points that are finite and above zero; empty without such points.
fn bounds(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let usable = points.filter(|(x, y)| x.is_finite() && *x >= 0.0 && y.is_finite() && *y > 0.0);
    let corners = usable.fold(None, |corners: Option<[(f64, f64); 2]>, (x, y)| {
        let [low, high] = corners.unwrap_or([(x, y); 2]);
        Some([(low.0.min(x), low.1.min(y)), (high.0.max(x), high.1.max(y))])
    });
    corners.into_iter().flatten().collect()
}

/// Label of a ceiling: `ceiling: 15.8 GB/s, limited by link ...`.
pub(crate) fn ceiling_label(bytes_per_s: f64, limited_by: Option<&str>) -> String {
    let by = limited_by.map_or_else(String::new, |hop| format!(", limited by {hop}"));
    format!("ceiling: {}{by}", units::bytes_per_second(bytes_per_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: PathName, detail: &str) -> NamedLine {
        NamedLine {
            path,
            name: format!("{path} {detail}"),
            detail: detail.to_owned(),
            points: vec![(4096.0, 1e9), (65_536.0, 2e9)],
            figures: Vec::new(),
            ceilings: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn titles(lines: Vec<NamedLine>) -> Vec<(String, usize)> {
        facets(lines).into_iter().map(|(detail, lines)| (detail, lines.len())).collect()
    }

    #[test]
    fn no_chart_has_more_than_four_lines() {
        use PathName::{BusAddress, HostMemory, Staged};
        let depths = ["depth 1", "depth 8", "depth 32"];
        let by_depth = depths.map(|depth| [BusAddress, Staged, HostMemory].map(|path| line(path, depth))).concat();
        assert_eq!(titles(by_depth), depths.map(|depth| (depth.to_owned(), 3)));
        let four = vec![line(BusAddress, "a"), line(BusAddress, "b"), line(Staged, "a"), line(HostMemory, "a")];
        assert_eq!(titles(four), [(String::new(), 4)]);
        let mut pairs = vec![line(BusAddress, ""); 7];
        pairs.push(line(HostMemory, ""));
        let charts = facets(pairs);
        assert_eq!(charts.iter().map(|chart| chart.1.len()).collect::<Vec<_>>(), [4, 4, 2]);
        assert!(charts.iter().all(|chart| chart.1.iter().any(NamedLine::is_baseline)), "a chart lacks the baseline");
        assert_eq!(charts[2].0, "3 of 3");
        let single: Vec<_> = (0..9).map(|at| line(BusAddress, &at.to_string())).collect();
        assert_eq!(titles(single).iter().map(|chart| chart.1).collect::<Vec<_>>(), [4, 4, 1]);
        assert!(facets(vec![line(HostMemory, ""); 30]).iter().all(|chart| chart.1.len() <= MAX_LINES));
    }
}
