//! HTML: a page in one file that loads nothing and contains no scripts.

use askama::Template;
use base64::Engine as _;

use super::charts::{self, Gallery, PUBLISHED, Published};
use super::describe::{self, PATHS, PathDescription};
use super::matrix::{self, Matrix};
use super::pair::Pair;
use super::pair_summary::PairSummary;
use super::reasons::{self, Reason};
use super::route::{self, Routes};
use super::summary::{self, Summary};
use super::{ComparisonWithBase, Document, csv};
use crate::compare::{self, Verdict};
use crate::saved::{Saved, SavedCell, SavedDevice};
use crate::units;

/// Number of pairs that are not folded.
const SHOWN_PAIRS: usize = 200;
/// Maximum number of pairs on the page.
const MAX_PAIRS: usize = 1000;
/// Number of cells that are not folded.
const SHOWN_CELLS: usize = 25;
/// Maximum size of all cells on the page, in bytes of HTML.
const MAX_CELL_BYTES: usize = 4 << 20;
/// Maximum length of the CSV in the page, in bytes. Some browsers do not save links of more than 2 MiB.
const MAX_CSV_BYTES: usize = 1 << 20;
/// Maximum number of rows of a comparison on the page.
const MAX_COMPARED: usize = 1000;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: String,
    summary: Summary,
    banners: Vec<Banner>,
    /// The cells as CSV in base64. `None` if they are too many.
    csv: Option<String>,
    problems: Vec<String>,
    paths: &'static [PathDescription],
    many: bool,
    results: Vec<ResultPairs>,
    folded_results: Vec<ResultPairs>,
    pairs_left_out: usize,
    matrix: Matrix,
    routes: Routes,
    throughput: Gallery,
    latency: Gallery,
    load: Gallery,
    registration: Gallery,
    published: &'static [Published],
    reasons: Vec<Reason>,
    reasons_left_out: usize,
    comparison: Option<ComparisonSection>,
    environments: Vec<Environment<'a>>,
    cells: Cells,
    program: &'static str,
}

/// The pairs of one result.
struct ResultPairs {
    label: String,
    /// Conditions of the run in one line.
    conditions: String,
    pairs: Vec<PairSummary>,
}

struct ComparisonSection {
    base: String,
    summary: String,
    verdict: &'static str,
    method: &'static str,
    notes: Vec<String>,
    /// Rows that changed, or may have changed.
    rows: Vec<[String; 8]>,
    /// Rows that are the same.
    unchanged: Vec<[String; 8]>,
    left_out: usize,
}

/// A warning that applies to all values: its first sentence, and the rest.
struct Banner {
    first: String,
    rest: String,
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
    shown: Vec<CellRow>,
    folded: Vec<CellRow>,
    left_out: usize,
    has_disturbed: bool,
}

struct CellRow {
    fields: Vec<String>,
    /// What disturbed the repeats of the cell.
    disturbed: Option<String>,
}

pub(super) fn render(document: &Document) -> Result<String, askama::Error> {
    let (pairs, baselines) = (document.pairs(), document.baselines());
    let (results, folded_results, pairs_left_out) = results(document, &pairs);
    let (reasons, reasons_left_out) = reasons::reasons(&document.saved, &document.labels);
    // The published figures were measured on hardware.
    let published: &[Published] = if pairs.iter().any(|pair| pair.emulated) { &[] } else { &PUBLISHED };
    let page = Page {
        title: document.title(),
        summary: summary::summary(document, &pairs, &baselines),
        banners: document.banners().iter().map(|text| banner(text)).collect(),
        csv: embedded_csv(document),
        problems: document.problems(),
        paths: &PATHS,
        many: document.labels.len() > 1,
        results,
        folded_results,
        pairs_left_out,
        matrix: matrix::matrix(&document.labels, &pairs, &baselines),
        routes: route::routes(&document.saved, &document.labels, &pairs),
        throughput: charts::throughput(&pairs, &document.labels),
        latency: charts::latency(&pairs, &document.labels),
        load: charts::load(&pairs, &document.labels),
        registration: charts::registration(&pairs, &document.labels),
        published,
        reasons,
        reasons_left_out,
        comparison: document.comparison.as_ref().map(comparison),
        environments: document.saved.iter().zip(&document.labels).map(environment).collect(),
        cells: cells(document),
        program: concat!("peerpath ", env!("CARGO_PKG_VERSION")),
    };
    page.render()
}

fn banner(text: &str) -> Banner {
    let (first, rest) = text.split_once(". ").unwrap_or((text, ""));
    Banner { first: format!("{}.", first.trim_end_matches('.')), rest: rest.to_owned() }
}

fn embedded_csv(document: &Document) -> Option<String> {
    let csv = csv::render(document);
    (csv.len() <= MAX_CSV_BYTES).then(|| base64::engine::general_purpose::STANDARD.encode(csv))
}

/// Kind of the devices of a result, e.g. `emulated by QEMU, soft RDMA`.
pub(super) fn devices(saved: &Saved) -> String {
    let environment = &saved.environment;
    let mut parts = vec![match environment.emulated {
        Some(true) => environment.emulator.as_ref().map_or("emulated".to_owned(), |by| format!("emulated by {by}")),
        Some(false) => "hardware".to_owned(),
        None => "not recorded".to_owned(),
    }];
    if environment.soft_rdma == Some(true) {
        parts.push("soft RDMA".to_owned());
    }
    parts.join(", ")
}

/// Returns the visible pairs and the folded pairs, by result, and the number of pairs beyond the limit.
///
/// With more than [`SHOWN_PAIRS`] pairs, those with the most cells are visible.
fn results(document: &Document, pairs: &[Pair<'_>]) -> (Vec<ResultPairs>, Vec<ResultPairs>, usize) {
    let baselines = document.baselines();
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    if pairs.len() > SHOWN_PAIRS {
        order.sort_by_key(|at| std::cmp::Reverse(pairs[*at].cells.len()));
    }
    let listed = &order[..order.len().min(MAX_PAIRS)];
    let (shown, folded) = listed.split_at(listed.len().min(SHOWN_PAIRS));
    let by_result = |wanted: &[usize]| {
        let of = |run: usize| -> Vec<PairSummary> {
            let mine = wanted.iter().map(|at| &pairs[*at]).filter(|pair| pair.run == run);
            mine.map(|pair| PairSummary::of(pair, &baselines)).collect()
        };
        let all = (0..document.saved.len()).map(|run| ResultPairs {
            label: document.labels[run].clone(),
            conditions: conditions(&document.saved[run]),
            pairs: of(run),
        });
        all.filter(|result| !result.pairs.is_empty()).collect::<Vec<_>>()
    };
    (by_result(shown), by_result(folded), pairs.len() - listed.len())
}

/// Conditions of a run, e.g. `Linux 7.2.12, IOMMU: intel, emulated by QEMU, soft RDMA`.
fn conditions(saved: &Saved) -> String {
    let environment = &saved.environment;
    let mut parts = Vec::new();
    parts.extend(environment.kernel.as_ref().map(|kernel| format!("Linux {kernel}")));
    parts.extend(environment.iommu.as_ref().map(|iommu| match iommu.as_str() {
        "none" => "no IOMMU".to_owned(),
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

fn comparison(with_base: &ComparisonWithBase) -> ComparisonSection {
    let comparison = &with_base.comparison;
    let row = |row: &compare::Row| {
        [
            row.verdict.as_str().to_owned(),
            row.key.clone(),
            compare::metric_name(row.metric).to_owned(),
            compare::format_value(row.metric, row.base),
            compare::format_value(row.metric, row.new),
            compare::format_change(row),
            compare::format_interval(row),
            row.why.clone(),
        ]
    };
    let rows = compare::rows_by_severity(comparison).into_iter().take(MAX_COMPARED);
    let (unchanged, changed): (Vec<_>, Vec<_>) = rows.partition(|row| row.verdict == Verdict::Same);
    ComparisonSection {
        base: with_base.base.clone(),
        summary: compare::summary(comparison),
        verdict: comparison.verdict.as_str(),
        method: comparison.method,
        notes: comparison.notes.clone(),
        rows: changed.into_iter().map(row).collect(),
        unchanged: unchanged.into_iter().map(row).collect(),
        left_out: comparison.cells.len().saturating_sub(MAX_COMPARED),
    }
}

fn environment<'a>((saved, label): (&'a Saved, &'a String)) -> Environment<'a> {
    let run = &saved.run;
    let version = run.schema_version.map(|version| version.to_string());
    let arguments = (!run.arguments.is_empty()).then(|| run.arguments.join(" "));
    let facts = [
        ("started", run.started_at.clone()),
        ("command line", arguments),
        ("written by", run.tool.clone()),
        ("run", run.id.clone()),
        ("format version", version),
    ];
    let appended = saved.appended.iter().map(|appended| {
        let run = &appended.run;
        let facts = [run.started_at.clone(), run.id.clone(), Some(run.arguments.join(" "))];
        let facts: Vec<_> = facts.into_iter().flatten().collect();
        (format!("added the cells from number {}", appended.first_cell.saturating_add(1)), facts.join(", "))
    });
    Environment {
        label,
        file: crate::saved::clean_sentence(&saved.file.to_string_lossy()),
        run: facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).chain(appended).collect(),
        conditions: &saved.environment.facts,
        plan: &run.plan,
        devices: &saved.environment.devices,
    }
}

/// Sorts cells with the largest operations first, because they show the throughput best.
fn cells(document: &Document) -> Cells {
    let many = document.labels.len() > 1;
    let mut all: Vec<(usize, &SavedCell)> = document
        .saved
        .iter()
        .enumerate()
        .flat_map(|(run, saved)| saved.cells.iter().map(move |cell| (run, cell)))
        .collect();
    all.sort_by_key(|(_, cell)| std::cmp::Reverse(cell.size_bytes));
    let mut heads = vec![
        "source",
        "target",
        "path",
        "operation",
        "mode",
        "settings",
        "p50",
        "p99",
        "throughput",
        "spread",
        "verified",
        "outcome",
    ];
    if many {
        heads.insert(0, "result");
    }
    let has_ceilings = all.iter().any(|(_, cell)| cell.percent_of_ceiling().is_some());
    if has_ceilings {
        heads.insert(heads.len() - 3, "of ceiling");
    }
    let mut cells = Cells { heads, ..Cells::default() };
    let mut bytes = 0;
    for (run, cell) in all {
        if bytes > MAX_CELL_BYTES {
            cells.left_out += 1;
            continue;
        }
        let mut fields = row(many.then(|| document.labels[run].clone()), cell);
        if has_ceilings {
            let percent = cell.percent_of_ceiling().map_or_else(String::new, |percent| format!("{percent:.0} %"));
            fields.insert(fields.len() - 3, percent);
        }
        let row = CellRow { fields, disturbed: describe::disturbances(cell) };
        cells.has_disturbed |= row.disturbed.is_some();
        bytes += row.fields.iter().map(|field| field.len() + "<td>".len()).sum::<usize>();
        bytes += row.disturbed.as_ref().map_or(0, String::len);
        let list = if cells.shown.len() < SHOWN_CELLS { &mut cells.shown } else { &mut cells.folded };
        list.push(row);
    }
    cells
}

fn row(label: Option<String>, cell: &SavedCell) -> Vec<String> {
    let nanoseconds = |time: Option<f64>| time.map_or_else(String::new, units::nanoseconds);
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
        cell.spread_percent().map_or_else(String::new, |percent| format!("{percent:.1} %")),
        cell.verified_bytes.map_or_else(String::new, units::bytes),
        cell.outcome.as_str().to_owned(),
    ]);
    row
}
