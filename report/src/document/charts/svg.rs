//! Line charts with logarithmic axes, as SVG.
//!
//! Every line has a number and a marker shape, so a reader need not distinguish colours.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use peerpath_paths::PathName;

use crate::document::colours::{GRID, INK, MUTED, PUBLISHED, colour};
use crate::units;

/// Quantity on an axis, which determines the ticks and their labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Bytes, ticks at powers of two.
    Bytes,
    /// Counts, ticks at powers of two.
    Count,
    /// Shares of samples, ticks at 90 %, 99 %, 99.9 %.
    Nines,
    /// Nanoseconds, decimal ticks.
    Nanoseconds,
    /// Bytes per second, decimal ticks.
    Rate,
}

/// A measured line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Number at the end of the line and in the legend.
    pub(crate) number: usize,
    /// Path, which determines the colour. The style sheet draws baselines dashed.
    pub(crate) path: PathName,
    /// Points without a finite logarithm are not drawn.
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether points have markers.
    pub(crate) marked: bool,
}

/// A line of published figures.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    /// Points of the line. A point with an infinite x is drawn at the edge of the chart.
    pub(crate) points: Vec<(f64, f64)>,
    /// Text at the line.
    pub(crate) label: &'static str,
}

/// A line chart with its axes and published figures.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    pub(crate) x: (Scale, &'static str),
    pub(crate) y: (Scale, &'static str),
    pub(crate) lines: Vec<Line>,
    pub(crate) references: Vec<Reference>,
}

const SIZE: (u32, u32) = (560, 350);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawing<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type DrawResult<T> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

impl Chart {
    /// The chart as SVG. `None` if there is nothing to draw.
    pub(crate) fn svg(&self) -> Option<String> {
        let lines: Vec<(&Line, Vec<(f64, f64)>)> =
            self.lines.iter().map(|line| (line, self.mapped(&line.points))).collect();
        let all = || lines.iter().flat_map(|(_, points)| points);
        let x = span(all().map(|point| point.0), self.x.0)?;
        // The y axis includes the published figures.
        let published = self.references.iter().flat_map(|line| &line.points).filter_map(|point| log(point.1, self.y.0));
        let y = span(all().map(|point| point.1).chain(published), self.y.0)?;
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        self.draw(&area, &lines, x, y).ok()?;
        area.present().ok()?;
        drop(area);
        Some(svg)
    }

    fn mapped(&self, points: &[(f64, f64)]) -> Vec<(f64, f64)> {
        points.iter().filter_map(|&(x, y)| Some((log(x, self.x.0)?, log(y, self.y.0)?))).collect()
    }

    fn draw(
        &self,
        area: &Area<'_>,
        lines: &[(&Line, Vec<(f64, f64)>)],
        x: (f64, f64),
        y: (f64, f64),
    ) -> DrawResult<()> {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(26)
            .x_label_area_size(50)
            .y_label_area_size(92)
            .build_cartesian_2d(Axis { span: x, scale: self.x.0 }, Axis { span: y, scale: self.y.0 })?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(MUTED)
            .label_style(("sans-serif", 15).into_font().color(&INK))
            .axis_desc_style(("sans-serif", 15).into_font().color(&MUTED))
            .x_desc(self.x.1)
            .y_desc(self.y.1)
            .x_label_formatter(&|at| label(*at, self.x.0))
            .y_label_formatter(&|at| label(*at, self.y.0))
            .draw()?;
        let mut labels = Vec::new();
        for reference in &self.references {
            let edge = |at: f64| {
                if at == f64::NEG_INFINITY {
                    Some(x.0)
                } else if at.is_infinite() {
                    Some(x.1)
                } else {
                    log(at, self.x.0)
                }
            };
            let points = reference
                .points
                .iter()
                .filter_map(|point| Some((edge(point.0)?.clamp(x.0, x.1), log(point.1, self.y.0)?)));
            let points: Vec<_> = points.collect();
            let Some(&first) = points.first() else { continue };
            chart.draw_series([PathElement::new(points, PUBLISHED.stroke_width(1))])?;
            labels.push((first, reference.label));
        }
        let style = ("sans-serif", 13).into_font().color(&PUBLISHED);
        for (at, label) in spread_vertically(labels, y, 0.085) {
            let text = format!("published: {label}");
            chart.draw_series([EmptyElement::at(at) + Text::new(text, (4, -15), style.clone())])?;
        }
        for (line, points) in lines {
            let colour = colour(line.path);
            chart.draw_series([PathElement::new(points.clone(), colour.stroke_width(2))])?;
            if line.marked {
                for point in points {
                    mark(&mut chart, *point, line.number, colour)?;
                }
            }
        }
        // Drawn last, so that no line crosses a number.
        let style =
            ("sans-serif", 15).into_font().style(FontStyle::Bold).color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        let ends: Vec<((f64, f64), usize)> =
            lines.iter().filter_map(|(line, points)| Some((*points.last()?, line.number))).collect();
        for (at, number) in spread_vertically(ends, y, 0.045) {
            chart.draw_series([EmptyElement::at(at) + Text::new(number.to_string(), (7, 0), style.clone())])?;
        }
        Ok(())
    }
}

/// Shifts labels down until they are at least `share` of the height of the chart apart.
fn spread_vertically<T>(
    mut texts: Vec<((f64, f64), T)>,
    y: (f64, f64),
    share: f64,
) -> impl Iterator<Item = ((f64, f64), T)> {
    texts.sort_by(|one, other| other.0.1.total_cmp(&one.0.1));
    let mut above = f64::INFINITY;
    texts.into_iter().map(move |((x, height), text)| {
        above = height.min(above - (y.1 - y.0) * share);
        ((x, above), text)
    })
}

/// A logarithmic axis.
struct Axis {
    span: (f64, f64),
    scale: Scale,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.span.0) / (self.span.1 - self.span.0);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { ticks(self.span, self.scale) }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.span.0..self.span.1
    }
}

/// Draws a marker whose shape depends on the number of the line.
fn mark(chart: &mut Drawing<'_, '_>, at: (f64, f64), number: usize, colour: RGBColor) -> DrawResult<()> {
    let (fill, line) = (colour.filled(), colour.stroke_width(2));
    let spot = EmptyElement::at(at);
    match number % 5 {
        1 => chart.draw_series([spot + Circle::new((0, 0), 4, fill)])?,
        2 => chart.draw_series([spot + Rectangle::new([(-4, -4), (4, 4)], fill)])?,
        3 => chart.draw_series([spot + TriangleMarker::new((0, 0), 6, fill)])?,
        4 => chart.draw_series([spot + Cross::new((0, 0), 4, line)])?,
        _ => chart.draw_series([spot + Circle::new((0, 0), 4, line)])?,
    };
    Ok(())
}

/// Position of a value on an axis. `None` if its logarithm is not finite.
fn log(value: f64, scale: Scale) -> Option<f64> {
    let at = match scale {
        Scale::Bytes | Scale::Count => value.log2(),
        Scale::Nines => -(1.0 - value).log10(),
        Scale::Nanoseconds | Scale::Rate => value.log10(),
    };
    at.is_finite().then_some(at)
}

/// Range of an axis: from the smallest to the largest position, with a margin.
fn span(positions: impl Iterator<Item = f64>, scale: Scale) -> Option<(f64, f64)> {
    let (low, high) = positions.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)));
    if !low.is_finite() || !high.is_finite() {
        return None;
    }
    Some(match scale {
        Scale::Nines => (0.0, high.max(2.0)),
        Scale::Bytes | Scale::Count if high - low < 1.0 => (low - 1.0, high + 1.0),
        Scale::Bytes | Scale::Count => (low - 0.2, high + 0.2),
        Scale::Nanoseconds | Scale::Rate => {
            let room = ((high - low) * 0.06).max(0.1);
            (low - room, high + room)
        }
    })
}

fn ticks((low, high): (f64, f64), scale: Scale) -> Vec<f64> {
    let whole = |step: i32| {
        let (first, last) = (low.ceil() as i32, high.floor() as i32);
        (first..=last).filter(|at| at.rem_euclid(step) == 0).map(f64::from).collect::<Vec<_>>()
    };
    match scale {
        Scale::Nines => whole(1),
        Scale::Bytes | Scale::Count => whole(((high - low) / 8.0).ceil().max(1.0) as i32),
        Scale::Nanoseconds | Scale::Rate => {
            let within: &[f64] = match high - low {
                span if span < 0.7 => &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
                span if span < 1.6 => &[1.0, 2.0, 3.0, 5.0, 7.0],
                span if span < 3.5 => &[1.0, 2.0, 5.0],
                _ => &[1.0],
            };
            let decades = low.floor() as i32..=high.floor() as i32;
            let all = decades.flat_map(|decade| within.iter().map(move |part| f64::from(decade) + part.log10()));
            all.filter(|at| (low..=high).contains(at)).collect()
        }
    }
}

fn label(at: f64, scale: Scale) -> String {
    match scale {
        Scale::Bytes => units::bytes(at.exp2().round() as u64),
        Scale::Count => format!("{}", at.exp2().round() as u64),
        Scale::Nines => share(1.0 - 10_f64.powf(-at)),
        Scale::Nanoseconds => short(units::nanoseconds(10_f64.powf(at))),
        Scale::Rate => short(units::bytes_per_second(10_f64.powf(at))),
    }
}

fn share(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Removes trailing zeros: `5.00 us` becomes `5 us`.
fn short(text: String) -> String {
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)]) -> Chart {
        Chart {
            x: (Scale::Bytes, "bytes"),
            y: (Scale::Rate, "throughput"),
            lines: vec![Line { number: 1, path: PathName::BusAddress, points: points.to_vec(), marked: true }],
            references: vec![Reference {
                points: vec![(f64::NEG_INFINITY, 52e9), (f64::INFINITY, 52e9)],
                label: "GPUs",
            }],
        }
    }

    #[test]
    fn labels_axes_with_units() {
        let svg = chart(&[(4096.0, 1e9), (1_048_576.0, 1e10)]).svg().unwrap();
        for text in ["4 KiB", "1 MiB", "1 GB/s", "10 GB/s", "published: GPUs", "#00775A"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }

    #[test]
    fn spreads_texts_of_equal_height() {
        let texts = vec![((0.0, 5.0), 'b'), ((0.0, 5.1), 'a'), ((1.0, 1.0), 'd'), ((0.0, 4.95), 'c')];
        let placed: Vec<_> = spread_vertically(texts, (0.0, 10.0), 0.045).collect();
        assert_eq!(placed.iter().map(|text| text.1).collect::<String>(), "abcd");
        assert!(placed.windows(2).all(|pair| pair[0].0.1 - pair[1].0.1 > 0.449), "{placed:?}");
        assert_eq!(placed[3].0, (1.0, 1.0), "a text with enough space stays");
    }

    #[test]
    fn ignores_points_without_finite_logarithm() {
        assert!(chart(&[(4096.0, 0.0), (0.0, 1e9), (f64::NAN, 1e9), (4096.0, f64::INFINITY)]).svg().is_none());
        assert!(chart(&[]).svg().is_none());
        assert!(chart(&[(4096.0, 1e9), (4096.0, f64::NAN)]).svg().is_some());
    }

    #[test]
    fn ticks_are_few_and_round() {
        for (low, high) in [(0.0, 0.3), (2.1, 3.3), (1.0, 4.0), (-2.0, 9.0)] {
            let ticks = ticks((low, high), Scale::Nanoseconds);
            assert!((2..=14).contains(&ticks.len()), "{low} {high}: {ticks:?}");
        }
        assert_eq!(label(3.0_f64, Scale::Nines), "99.9 %");
        assert_eq!(label(3.0_f64, Scale::Nanoseconds), "1 us");
    }
}
