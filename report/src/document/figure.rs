//! Pictures with the tables behind them.

use peerpath_paths::PathName;

use super::chart::{Chart, Line};

/// More lines make no picture.
pub(crate) const MOST_LINES: usize = 9;
/// Pictures that are shown at once; more are folded.
const SHOWN: usize = 8;
/// Pictures that are drawn at all; what is in further ones stands among the cells.
const DRAWN: usize = 40;
/// Rows of the table behind a picture.
const MOST_ROWS: usize = 60;
/// Rows of the table of what makes no picture.
const MOST_FLAT_ROWS: usize = 200;

/// A table as it stands on a page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) heads: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Rows that were left out.
    pub(crate) left_out: usize,
}

/// One line of a legend.
#[derive(Debug, Clone)]
pub(crate) struct Legend {
    pub(crate) number: usize,
    pub(crate) path: PathName,
    pub(crate) name: String,
}

/// A picture, its legend, and the table behind it.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) svg: String,
    pub(crate) legend: Vec<Legend>,
    /// What is to be said about it.
    pub(crate) note: Option<String>,
    pub(crate) table: Rows,
}

/// A line with its name, before it has a number.
pub(crate) struct Named {
    pub(crate) path: PathName,
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A picture before it is drawn.
pub(crate) struct Sketch {
    pub(crate) title: String,
    pub(crate) chart: Chart,
    /// Lines with their names; the chart gets as many of them as make a picture.
    pub(crate) lines: Vec<Named>,
    pub(crate) marked: bool,
    pub(crate) note: Option<String>,
    pub(crate) table: Rows,
}

/// The pictures of a section: those at once to be seen, those folded, and how many there would be more.
#[derive(Debug, Default)]
pub(crate) struct Gallery {
    pub(crate) shown: Vec<Figure>,
    pub(crate) folded: Vec<Figure>,
    pub(crate) left_out: usize,
    /// What was measured at one place of the axis only, and makes no line.
    pub(crate) flat: Rows,
}

impl Gallery {
    /// Draws the sketches, in their order.
    pub(crate) fn draw(sketches: impl Iterator<Item = Sketch>) -> Self {
        let mut gallery = Self::default();
        for sketch in sketches {
            if sketch.is_flat() {
                gallery.flat.heads = [&["of"], sketch.table.heads.as_slice()].concat();
                let rows = sketch.table.rows.into_iter().map(|row| [vec![sketch.title.clone()], row].concat());
                gallery.flat.rows.extend(rows);
            } else if gallery.shown.len() + gallery.folded.len() >= DRAWN {
                gallery.left_out += 1;
            } else if let Some(figure) = sketch.draw() {
                let place = if gallery.shown.len() < SHOWN { &mut gallery.shown } else { &mut gallery.folded };
                place.push(figure);
            }
        }
        gallery.flat.left_out = gallery.flat.rows.len().saturating_sub(MOST_FLAT_ROWS);
        gallery.flat.rows.truncate(MOST_FLAT_ROWS);
        gallery
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shown.is_empty() && self.flat.rows.is_empty()
    }
}

impl Sketch {
    /// All points above one place of the axis.
    fn is_flat(&self) -> bool {
        let mut places = self.lines.iter().flat_map(|line| &line.points).map(|point| point.0);
        let first = places.next();
        places.all(|place| Some(place) == first)
    }

    fn draw(mut self) -> Option<Figure> {
        let left_out = self.lines.len().saturating_sub(MOST_LINES);
        self.lines.truncate(MOST_LINES);
        let mut legend = Vec::new();
        for (at, Named { path, name, points }) in self.lines.into_iter().enumerate() {
            let number = at + 1;
            self.chart.lines.push(Line { number, path, points, marked: self.marked });
            legend.push(Legend { number, path, name });
        }
        let svg = self.chart.svg()?;
        let fewer = (left_out > 0).then(|| format!("{left_out} more stand in the table only."));
        let note = [self.note, fewer].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let mut table = self.table;
        table.left_out = table.rows.len().saturating_sub(MOST_ROWS);
        table.rows.truncate(MOST_ROWS);
        Some(Figure { title: self.title, svg, legend, note: (!note.is_empty()).then_some(note), table })
    }
}
