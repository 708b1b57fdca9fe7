//! Line charts with logarithmic axes, as SVG.
//!
//! Every line has a number and a marker shape, so a reader need not distinguish colours.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use peerpath_paths::PathName;

use crate::document::colours::{CEILING, GRID, INK, MUTED, PUBLISHED, colour};
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

/// A figure of a cell in a chart.
#[derive(Debug, Clone)]
pub(crate) struct Figured {
    /// Position: values of both axes.
    pub(crate) at: (f64, f64),
    /// Lowest and highest figure of the repeats, drawn as an error bar.
    pub(crate) range: Option<(f64, f64)>,
    /// Exact values, shown as a tooltip.
    pub(crate) title: String,
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
    /// Figures with a tooltip, on the line.
    pub(crate) figures: Vec<Figured>,
    /// Whether points have markers.
    pub(crate) marked: bool,
}

/// Origin of a reference line, which determines its style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Figures that others published.
    Published,
    /// Ceiling of a path.
    Ceiling,
}

/// A line that was not measured: published figures, or a ceiling.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reference {
    pub(crate) origin: Origin,
    /// Points of the line. A point with an infinite x is drawn at the edge of the chart.
    pub(crate) points: Vec<(f64, f64)>,
    /// Entry of the legend and tooltip.
    pub(crate) label: String,
}

impl Reference {
    /// A horizontal line through the whole chart.
    pub(crate) fn horizontal(origin: Origin, y: f64, label: String) -> Self {
        Self { origin, points: vec![(f64::NEG_INFINITY, y), (f64::INFINITY, y)], label }
    }
}

/// A line chart with its axes and reference lines.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    pub(crate) x: (Scale, &'static str),
    pub(crate) y: (Scale, &'static str),
    pub(crate) lines: Vec<Line>,
    pub(crate) references: Vec<Reference>,
    /// Points that the axes include although they are not drawn: those of the other charts of a group, which share their axes.
    pub(crate) extent: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (460, 320);
/// Size of every text in a chart. plotters divides it by 1.24.
const FONT: i32 = 16;
/// Distance of labels of reference lines, as a share of the height of a chart.
const LABEL_DISTANCE: f64 = 0.09;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawing<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type DrawResult<T> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// The name of a reference line in its chart: `a`, `b` and so on.
pub(crate) fn letter(at: usize) -> char {
    char::from(b'a' + u8::try_from(at).unwrap_or(u8::MAX).min(25))
}

impl Chart {
    /// The chart as SVG. `None` if there is nothing to draw.
    pub(crate) fn svg(&self) -> Option<String> {
        let lines: Vec<(&Line, Vec<(f64, f64)>)> =
            self.lines.iter().map(|line| (line, self.mapped(&line.points))).collect();
        lines.iter().find(|(_, points)| !points.is_empty())?;
        let extent = self.mapped(&self.extent);
        let all = || lines.iter().flat_map(|(_, points)| points).chain(&extent);
        let x = span(all().map(|point| point.0), self.x.0)?;
        // The y axis includes the reference lines and the error bars.
        let references = self.references.iter().flat_map(|line| &line.points).map(|point| point.1);
        let ranges = self.lines.iter().flat_map(|line| &line.figures).filter_map(|figure| figure.range);
        let other = references.chain(ranges.flat_map(|(low, high)| [low, high])).filter_map(|y| log(y, self.y.0));
        let y = span(all().map(|point| point.1).chain(other), self.y.0)?;
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let overlay = self.draw(&area, &lines, x, y).ok()?;
        area.present().ok()?;
        drop(area);
        svg.insert_str(svg.rfind("</svg>")?, &overlay);
        Some(svg)
    }

    fn mapped(&self, points: &[(f64, f64)]) -> Vec<(f64, f64)> {
        points.iter().filter_map(|&point| self.map(point)).collect()
    }

    fn map(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        Some((log(x, self.x.0)?, log(y, self.y.0)?))
    }

    /// Draws the chart, and returns elements to add to it: error bars and tooltips.
    fn draw(
        &self,
        area: &Area<'_>,
        lines: &[(&Line, Vec<(f64, f64)>)],
        x: (f64, f64),
        y: (f64, f64),
    ) -> DrawResult<String> {
        let font = || ("sans-serif", FONT).into_font();
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(26)
            .x_label_area_size(48)
            .y_label_area_size(88)
            .build_cartesian_2d(Axis { span: x, scale: self.x.0 }, Axis { span: y, scale: self.y.0 })?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(MUTED)
            .label_style(font().color(&INK))
            .axis_desc_style(font().color(&MUTED))
            .x_desc(self.x.1)
            .y_desc(self.y.1)
            .x_label_formatter(&|at| label(*at, self.x.0))
            .y_label_formatter(&|at| label(*at, self.y.0))
            .draw()?;
        let mut overlay = String::new();
        let mut labels = Vec::new();
        for (at, reference) in self.references.iter().enumerate() {
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
            let (colour, name) = match reference.origin {
                Origin::Published => (PUBLISHED, "published"),
                Origin::Ceiling => (CEILING, "ceiling"),
            };
            let pixels: Vec<_> = points.iter().map(|point| chart.backend_coord(point)).collect();
            overlay += &reference_title(&pixels, &reference.label);
            chart.draw_series([PathElement::new(points, colour.stroke_width(1))])?;
            labels.push((first, format!("{}: {name}", letter(at))));
        }
        let style = font().color(&MUTED);
        for (at, label) in spread_vertically(labels, y, LABEL_DISTANCE) {
            chart.draw_series([EmptyElement::at(at) + Text::new(label, (4, -16), style.clone())])?;
        }
        for (line, points) in lines {
            let colour = colour(line.path);
            chart.draw_series([PathElement::new(points.clone(), colour.stroke_width(2))])?;
            if line.marked {
                for point in points {
                    mark(&mut chart, *point, line.number, colour)?;
                }
            }
            for figure in &line.figures {
                let Some(at) = self.map(figure.at) else { continue };
                let range = figure.range.and_then(|(low, high)| Some((log(low, self.y.0)?, log(high, self.y.0)?)));
                let pixel = |y: f64| chart.backend_coord(&(at.0, y));
                overlay += &range.map_or_else(String::new, |(low, high)| error_bar(pixel(low), pixel(high), colour));
                overlay += &point_title(pixel(at.1), &figure.title);
            }
        }
        // Drawn last, so that no line crosses a number.
        let style = font().style(FontStyle::Bold).color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        let ends: Vec<((f64, f64), usize)> =
            lines.iter().filter_map(|(line, points)| Some((*points.last()?, line.number))).collect();
        for (at, number) in spread_vertically(ends, y, 0.05) {
            chart.draw_series([EmptyElement::at(at) + Text::new(number.to_string(), (8, 0), style.clone())])?;
        }
        Ok(overlay)
    }
}

/// Vertical bar with a short line at each end.
fn error_bar((x, low): (i32, i32), (_, high): (i32, i32), RGBColor(red, green, blue): RGBColor) -> String {
    format!(
        "<path class=\"range\" fill=\"none\" stroke=\"#{red:02X}{green:02X}{blue:02X}\" d=\"M{} {low}h8m-4 0V{high}m-4 0h8\"/>\n",
        x - 4
    )
}

/// Invisible area around a point that shows a tooltip.
fn point_title((x, y): (i32, i32), title: &str) -> String {
    format!("<circle class=\"hit\" cx=\"{x}\" cy=\"{y}\" r=\"9\"><title>{}</title></circle>\n", escaped(title))
}

/// Invisible area along a line that shows a tooltip.
fn reference_title(pixels: &[(i32, i32)], title: &str) -> String {
    let points: Vec<_> = pixels.iter().map(|(x, y)| format!("{x},{y}")).collect();
    let title = escaped(title);
    format!("<polyline class=\"hit\" points=\"{}\"><title>{title}</title></polyline>\n", points.join(" "))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
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
        Scale::Bytes | Scale::Count => whole(((high - low) / 6.0).ceil().max(1.0) as i32),
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
            lines: vec![Line {
                number: 1,
                path: PathName::BusAddress,
                points: points.to_vec(),
                figures: points
                    .iter()
                    .map(|&at| Figured { at, range: Some((at.1 / 2.0, at.1 * 2.0)), title: format!("<{}>", at.1) })
                    .collect(),
                marked: true,
            }],
            references: vec![
                Reference::horizontal(Origin::Published, 52e9, "GPUs".to_owned()),
                Reference::horizontal(Origin::Ceiling, 15e9, "link a".to_owned()),
            ],
            extent: Vec::new(),
        }
    }

    #[test]
    fn labels_axes_with_units() {
        let svg = chart(&[(4096.0, 1e9), (1_048_576.0, 1e10)]).svg().unwrap();
        for text in ["4 KiB", "1 MiB", "1 GB/s", "10 GB/s", "a: published", "b: ceiling", "#00775A"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }

    #[test]
    fn every_point_has_a_tooltip_and_an_error_bar() {
        let svg = chart(&[(4096.0, 1e9), (1_048_576.0, 1e10)]).svg().unwrap();
        assert_eq!(svg.matches("class=\"range\"").count(), 2, "{svg}");
        for title in ["&lt;1000000000&gt;", "&lt;10000000000&gt;", "GPUs", "link a"] {
            assert!(svg.contains(&format!("<title>{title}</title>")), "{title}: {svg}");
        }
        assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
    }

    #[test]
    fn all_texts_have_one_size() {
        let svg = chart(&[(4096.0, 1e9), (1_048_576.0, 1e10)]).svg().unwrap();
        let sizes: std::collections::BTreeSet<_> =
            svg.split("font-size=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(sizes.len(), 1, "{sizes:?}");
    }

    #[test]
    fn charts_of_a_group_have_the_same_axes() {
        let mut other = chart(&[(4096.0, 2e9), (65_536.0, 3e9)]);
        other.references.clear();
        other.extent = vec![(64.0, 1e6), (1_048_576.0, 1e10)];
        let svg = other.svg().unwrap();
        assert!(svg.contains("10 MB/s"), "{svg}");
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
