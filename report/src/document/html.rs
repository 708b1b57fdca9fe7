//! The page: one file, nothing loaded, nothing run.

use askama::Template;

use super::describe::{self, PATHS, PathWords};
use super::figure::Gallery;
use super::matrix::{self, Matrix};
use super::pair::Pair;
use super::published::{PUBLISHED, Published};
use super::route::{self, Routes};
use super::trouble::{self, Trouble};
use super::verdict::Verdict;
use super::{Document, pictures};
use crate::compare;
use crate::saved::{Saved, SavedCell, SavedDevice};
use crate::units;

/// Pairs that are told at once, and pairs that are told at all.
const SHOWN_VERDICTS: usize = 200;
const MOST_VERDICTS: usize = 1000;
/// Cells that are shown at once, and letters of cells that a page has room for.
const SHOWN_CELLS: usize = 25;
const MOST_CELL_LETTERS: usize = 4 << 20;
/// Rows of a comparison.
const MOST_COMPARED: usize = 1000;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: String,
    summary: String,
    banners: Vec<String>,
    problems: Vec<String>,
    paths: &'static [PathWords],
    many: bool,
    results: Vec<ResultVerdicts>,
    folded_results: Vec<ResultVerdicts>,
    verdicts_left_out: usize,
    matrix: Matrix,
    routes: Routes,
    throughput: Gallery,
    latency: Gallery,
    registration: Gallery,
    published: &'static [Published],
    troubles: Vec<Trouble>,
    troubles_left_out: usize,
    comparison: Option<ComparisonSection>,
    environments: Vec<Environment<'a>>,
    cells: Cells,
    program: &'static str,
}

/// The verdicts of one result.
struct ResultVerdicts {
    label: String,
    /// Its conditions in a line.
    conditions: String,
    verdicts: Vec<Verdict>,
}

struct ComparisonSection {
    base: String,
    summary: String,
    verdict: &'static str,
    method: &'static str,
    notes: Vec<String>,
    rows: Vec<[String; 8]>,
    left_out: usize,
}

struct Environment<'a> {
    label: &'a str,
    file: String,
    run: Vec<(String, String)>,
    conditions: &'a [(String, String)],
    plan: &'a [(String, String)],
    devices: &'a [SavedDevice],
}

#[derive(Default)]
struct Cells {
    heads: Vec<&'static str>,
    shown: Vec<Vec<String>>,
    folded: Vec<Vec<String>>,
    left_out: usize,
}

pub(super) fn render(document: &Document) -> Result<String, askama::Error> {
    let (pairs, baselines) = (document.pairs(), document.baselines());
    let (results, folded_results, verdicts_left_out) = results(document, &pairs);
    let (troubles, troubles_left_out) = trouble::troubles(&document.saved, &document.labels);
    let page = Page {
        title: document.title(),
        summary: document.summary(),
        banners: document.banners(),
        problems: document.problems(),
        paths: &PATHS,
        many: document.labels.len() > 1,
        results,
        folded_results,
        verdicts_left_out,
        matrix: matrix::matrix(&document.labels, &pairs, &baselines),
        routes: route::routes(&document.saved, &document.labels, &pairs),
        throughput: pictures::throughput(&pairs, &document.labels),
        latency: pictures::latency(&pairs, &document.labels),
        registration: pictures::registration(&pairs, &document.labels),
        published: &PUBLISHED,
        troubles,
        troubles_left_out,
        comparison: document.comparison.as_ref().map(comparison),
        environments: document.saved.iter().zip(&document.labels).map(environment).collect(),
        cells: cells(document),
        program: concat!("peerpath ", env!("CARGO_PKG_VERSION")),
    };
    page.render()
}

/// Result by result; where there are too many pairs, those with most cells first.
fn results(document: &Document, pairs: &[Pair<'_>]) -> (Vec<ResultVerdicts>, Vec<ResultVerdicts>, usize) {
    let baselines = document.baselines();
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    if pairs.len() > SHOWN_VERDICTS {
        order.sort_by_key(|at| std::cmp::Reverse(pairs[*at].cells.len()));
    }
    let told = &order[..order.len().min(MOST_VERDICTS)];
    let (shown, folded) = told.split_at(told.len().min(SHOWN_VERDICTS));
    let by_result = |wanted: &[usize]| {
        let of = |run: usize| -> Vec<Verdict> {
            let mine = wanted.iter().map(|at| &pairs[*at]).filter(|pair| pair.run == run);
            mine.map(|pair| Verdict::of(pair, &baselines)).collect()
        };
        let all = (0..document.saved.len()).map(|run| ResultVerdicts {
            label: document.labels[run].clone(),
            conditions: conditions(&document.saved[run]),
            verdicts: of(run),
        });
        all.filter(|result| !result.verdicts.is_empty()).collect::<Vec<_>>()
    };
    (by_result(shown), by_result(folded), pairs.len() - told.len())
}

/// `Linux 7.2.12, IOMMU intel, emulated by QEMU, soft RDMA`.
fn conditions(saved: &Saved) -> String {
    let environment = &saved.environment;
    let mut parts = Vec::new();
    parts.extend(environment.kernel.as_ref().map(|kernel| format!("Linux {kernel}")));
    parts.extend(environment.iommu.as_ref().map(|iommu| match iommu.as_str() {
        "none" => "no IOMMU in use".to_owned(),
        iommu => format!("IOMMU: {iommu}"),
    }));
    if environment.emulated == Some(true) {
        parts.push(environment.emulator.as_ref().map_or("emulated".to_owned(), |by| format!("emulated by {by}")));
    }
    if environment.soft_rdma == Some(true) {
        parts.push("soft RDMA".to_owned());
    }
    parts.join(", ")
}

fn comparison(compared: &super::Compared) -> ComparisonSection {
    let made = &compared.made;
    let row = |row: &compare::Row| {
        [
            row.verdict.as_str().to_owned(),
            row.key.clone(),
            compare::metric(row.metric).to_owned(),
            compare::figure(row.metric, row.base),
            compare::figure(row.metric, row.new),
            compare::change(row),
            compare::bounds(row),
            row.why.clone(),
        ]
    };
    ComparisonSection {
        base: compared.base.clone(),
        summary: compare::summary(made),
        verdict: made.verdict.as_str(),
        method: made.method,
        notes: made.notes.clone(),
        rows: compare::by_weight(made).into_iter().take(MOST_COMPARED).map(row).collect(),
        left_out: made.cells.len().saturating_sub(MOST_COMPARED),
    }
}

fn environment<'a>((saved, label): (&'a Saved, &'a String)) -> Environment<'a> {
    let run = &saved.run;
    let version = run.schema_version.map(|version| version.to_string());
    let arguments = (!run.arguments.is_empty()).then(|| run.arguments.join(" "));
    let told = [
        ("started", run.started_at.clone()),
        ("command line", arguments),
        ("written by", run.tool.clone()),
        ("run", run.id.clone()),
        ("version of the format", version),
    ];
    Environment {
        label,
        file: crate::saved::sentence(&saved.file.to_string_lossy()),
        run: told.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect(),
        conditions: &saved.environment.facts,
        plan: &run.plan,
        devices: &saved.environment.devices,
    }
}

/// The largest first: they say most of throughput, and the page need not be scrolled for them.
fn cells(document: &Document) -> Cells {
    let many = document.labels.len() > 1;
    let mut all: Vec<(usize, &SavedCell)> = document
        .saved
        .iter()
        .enumerate()
        .flat_map(|(run, saved)| saved.cells.iter().map(move |cell| (run, cell)))
        .collect();
    all.sort_by_key(|(_, cell)| std::cmp::Reverse(cell.size_bytes));
    let mut heads =
        vec!["from", "to", "path", "operation", "mode", "settings", "p50", "p99", "throughput", "verified", "outcome"];
    if many {
        heads.insert(0, "result");
    }
    let mut cells = Cells { heads, ..Cells::default() };
    let mut letters = 0;
    for (run, cell) in all {
        if letters > MOST_CELL_LETTERS {
            cells.left_out += 1;
            continue;
        }
        let row = row(many.then(|| document.labels[run].clone()), cell);
        letters += row.iter().map(|field| field.len() + "<td>".len()).sum::<usize>();
        let place = if cells.shown.len() < SHOWN_CELLS { &mut cells.shown } else { &mut cells.folded };
        place.push(row);
    }
    cells
}

fn row(label: Option<String>, cell: &SavedCell) -> Vec<String> {
    let nanoseconds = |figure: Option<f64>| figure.map_or_else(String::new, units::nanoseconds);
    let latency = cell.latency.as_ref();
    let mut row: Vec<String> = label.into_iter().collect();
    row.extend([
        describe::short_source(&cell.source),
        describe::short_target(&cell.target),
        cell.path.best_known().to_string(),
        describe::operation(cell),
        cell.mode.clone(),
        describe::settings(cell),
        nanoseconds(latency.and_then(|latency| latency.p50)),
        nanoseconds(cell.p99()),
        cell.throughput.map_or_else(String::new, units::bytes_per_second),
        cell.verified_bytes.map_or_else(String::new, units::bytes),
        cell.outcome.as_str().to_owned(),
    ]);
    row
}

#[cfg(test)]
mod tests {
    /// The style sheet replaces the colours of the light theme in pictures; one that it does not know would stay light.
    #[test]
    fn every_colour_of_a_picture_is_known_to_the_style_sheet() {
        use crate::document::chart;
        let css = include_str!("../../templates/report.css");
        let paths = peerpath_paths::PathName::ALL.map(chart::colour);
        for colour in paths.into_iter().chain([chart::INK, chart::MUTED, chart::PAPER, chart::GRID, chart::PUBLISHED]) {
            let plotters::style::RGBColor(red, green, blue) = colour;
            let hex = format!("#{red:02X}{green:02X}{blue:02X}");
            assert!(css.contains(&format!("\"{hex}\"")), "{hex}");
        }
    }
}
