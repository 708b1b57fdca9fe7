//! Galleries: charts with a legend and a table of their values.

use peerpath_paths::PathName;

use super::svg::{Chart, Line};

/// Maximum number of lines in a chart.
pub(crate) const MAX_LINES: usize = 9;
/// Number of charts that are not folded.
const SHOWN: usize = 8;
/// Maximum number of charts in a section.
const MAX_CHARTS: usize = 40;
/// Maximum number of rows in the table below a chart.
const MAX_ROWS: usize = 60;
/// Maximum number of rows in [`Gallery::flat`].
const MAX_FLAT_ROWS: usize = 200;

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
    pub(crate) number: usize,
    pub(crate) path: PathName,
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
pub(crate) struct NamedLine {
    pub(crate) path: PathName,
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A chart before it is drawn.
pub(crate) struct ChartData {
    pub(crate) title: String,
    pub(crate) chart: Chart,
    /// All lines. The chart gets the first [`MAX_LINES`].
    pub(crate) lines: Vec<NamedLine>,
    pub(crate) marked: bool,
    pub(crate) note: Option<String>,
    pub(crate) table: Rows,
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
    pub(crate) fn draw(charts: impl Iterator<Item = ChartData>) -> Self {
        let mut gallery = Self::default();
        for data in charts {
            if data.is_flat() {
                gallery.flat.heads = [&["chart"], data.table.heads.as_slice()].concat();
                let rows = data.table.rows.into_iter().map(|row| [vec![data.title.clone()], row].concat());
                gallery.flat.rows.extend(rows);
            } else if gallery.shown.len() + gallery.folded.len() >= MAX_CHARTS {
                gallery.left_out += 1;
            } else if let Some(figure) = data.draw() {
                let list = if gallery.shown.len() < SHOWN { &mut gallery.shown } else { &mut gallery.folded };
                list.push(figure);
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

impl ChartData {
    /// Whether all points have the same x value.
    fn is_flat(&self) -> bool {
        let mut x_values = self.lines.iter().flat_map(|line| &line.points).map(|point| point.0);
        let first = x_values.next();
        x_values.all(|x| Some(x) == first)
    }

    fn draw(mut self) -> Option<Figure> {
        let left_out = self.lines.len().saturating_sub(MAX_LINES);
        self.lines.truncate(MAX_LINES);
        let mut legend = Vec::new();
        for (at, NamedLine { path, name, points }) in self.lines.into_iter().enumerate() {
            let number = at + 1;
            self.chart.lines.push(Line { number, path, points, marked: self.marked });
            legend.push(Legend { number, path, name });
        }
        let svg = self.chart.svg()?;
        let fewer = (left_out > 0).then(|| format!("{left_out} more lines are in the table only."));
        let note = [self.note, fewer].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let mut table = self.table;
        table.left_out = table.rows.len().saturating_sub(MAX_ROWS);
        table.rows.truncate(MAX_ROWS);
        Some(Figure { title: self.title, svg, legend, note: (!note.is_empty()).then_some(note), table })
    }
}
