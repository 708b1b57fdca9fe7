//! Prints GPUs, RDMA NICs, NVMe drives and functions bound to VFIO as a matrix of exporters and importers that fits one screen.

use peerpath_paths::{
    Bdf, Cause, EndpointKind, ExporterRule, Function, Inventory, Locality, PathMatrix, Predictor, Request, printable,
};

use super::gpu_rules::GpuRules;
use super::reasons::Reasons;
use super::{NO_PAIRS, run_binds, short};
use crate::text_layout::hanging;

/// Width if standard output is not a terminal.
const DEFAULT_WIDTH: usize = 120;
/// Maximum number of rows of functions. More functions are merged: functions with equal rows and columns share one row.
const FUNCTION_ROWS: usize = 16;
/// Maximum number of rows.
const ROWS: usize = 16;
/// Maximum number of function groups ([`peerpath_paths::FunctionGroup`]) before they are merged. The limit bounds time and memory
/// on hosts with thousands of bridges.
const FUNCTION_GROUPS: usize = 1024;
/// Maximum number of functions if the host has no function of an [`EndpointKind`].
const OTHERS: usize = 64;

/// The matrix as text, for a terminal with `width` columns. `remedy`: how to supply unknown facts.
pub(super) fn text(inventory: &Inventory, request: Request, remedy: &'static str, width: usize) -> String {
    let width = if width == usize::MAX { DEFAULT_WIDTH } else { width.clamp(60, 200) };
    let predictor = inventory.predictor(request);
    let Some(selection) = Selection::of(inventory, &predictor) else { return NO_PAIRS.to_owned() };
    let matrix = predictor.matrix(&selection.functions, FUNCTION_GROUPS);
    let mut reasons = Reasons::new(remedy);
    for reason in matrix.reasons() {
        reasons.add(&predictor.report(&reason.example), reason.pairs);
    }
    let names = Names::of(inventory);
    let mut text = selection.title(width);
    let words = words(&matrix);
    let (grid, unshown) = Grid::fitting(matrix, &names, width);
    text += "\n";
    text += &grid.render(&names, width);
    text += "\n";
    text += &reasons.render(|bdf| names.short(bdf), |path| format!("{} = {path}", short(path)), width);
    text += &hanging("", 2, &words, width);
    text += &blocked(&predictor, &names, &selection.functions, width);
    let mut rules = GpuRules::default();
    for function in selection.functions.iter().filter_map(|bdf| inventory.topology.function(*bdf)) {
        rules.add(ExporterRule::of(function, request.bar));
    }
    text += &rules.render(width);
    text + &selection.footer(unshown, width)
}

/// The functions of the matrix.
struct Selection {
    functions: Vec<Bdf>,
    /// The kinds of the functions, without duplicates; empty if the host has no function of an [`EndpointKind`].
    kinds: Vec<EndpointKind>,
    /// Number of other functions with an exportable BAR.
    others: usize,
}

impl Selection {
    /// Selects the functions of every [`EndpointKind`]. If they form no pair, selects functions with an exportable BAR. `None` if
    /// these form no pair either.
    fn of(inventory: &Inventory, predictor: &Predictor<'_>) -> Option<Self> {
        let exporters: Vec<Bdf> = predictor.exporters().collect();
        let kind = |bdf: &Bdf| inventory.topology.function(*bdf).and_then(Function::endpoint_kind);
        let functions: Vec<Bdf> = predictor.importers().filter(|bdf| kind(bdf).is_some()).collect();
        let exporting = exporters.iter().filter(|bdf| kind(bdf).is_some()).count();
        if exporting > 0 && functions.len() > 1 {
            let mut kinds: Vec<EndpointKind> = functions.iter().filter_map(kind).collect();
            kinds.sort_unstable();
            kinds.dedup();
            return Some(Self { functions, kinds, others: exporters.len() - exporting });
        }
        let others = exporters.len().saturating_sub(OTHERS);
        let mut functions: Vec<Bdf> = exporters.into_iter().take(OTHERS).collect();
        if functions.len() == 1 {
            // A single exporter forms no pair with itself, so add importers.
            functions.extend(predictor.importers().filter(|bdf| *bdf != functions[0]).take(OTHERS).collect::<Vec<_>>());
            functions.sort_unstable();
        }
        (functions.len() > 1).then_some(Self { functions, kinds: Vec::new(), others })
    }

    fn title(&self, width: usize) -> String {
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.plural()).collect();
        let what = match kinds.as_slice() {
            [] => "functions with an exportable BAR".to_owned(),
            [only] => (*only).to_owned(),
            [all @ .., last] => format!("{} and {last}", all.join(", ")),
        };
        let title = format!(
            "Predicted paths between {what}. Row: exporter. Column: importer. Cell: path/distance, the distance in the \
             abbreviations of nvidia-smi topo -m."
        );
        hanging("", 0, &title, width)
    }

    fn footer(&self, unshown: usize, width: usize) -> String {
        let mut unshown_parts = Vec::new();
        let functions = |count| if count == 1 { "function" } else { "functions" };
        if unshown > 0 {
            unshown_parts.push(format!("{unshown} more {}", functions(unshown)));
        }
        if self.others > 0 {
            unshown_parts.push(format!("{} other {} with an exportable BAR", self.others, functions(self.others)));
        }
        let unshown =
            if unshown_parts.is_empty() { String::new() } else { format!("Not shown: {}. ", unshown_parts.join(", ")) };
        let footer = format!(
            "{unshown}--all lists every pair, --from BDF the pairs of one exporter, and --from BDF --to BDF the details of a \
             pair."
        );
        hanging("", 0, &footer, width)
    }
}

/// The names of functions in the matrix.
struct Names<'a> {
    inventory: &'a Inventory,
    /// Whether every function is in PCI segment 0. Names then omit the segment, as those of `lspci` do.
    one_segment: bool,
}

impl<'a> Names<'a> {
    fn of(inventory: &'a Inventory) -> Self {
        let functions = inventory.topology.functions();
        Self { inventory, one_segment: functions.iter().all(|function| function.bdf.segment() == 0) }
    }

    /// The address, without the segment if there is only one.
    fn short(&self, bdf: Bdf) -> String {
        let text = bdf.to_string();
        match text.strip_prefix("0000:") {
            Some(short) if self.one_segment => short.to_owned(),
            _ => text,
        }
    }

    /// The address, with the name of the device or of the driver.
    fn long(&self, bdf: Bdf) -> String {
        let Some(function) = self.inventory.topology.function(bdf) else { return self.short(bdf) };
        let device = |class: &str| function.devices.iter().find_map(|device| device.strip_prefix(class));
        let device = device("verbs:").or_else(|| device("nvme:"));
        let name = device.or(function.driver.as_deref()).unwrap_or_else(|| function.class_name());
        printable(&format!("{} {name}", self.short(bdf)))
    }

    /// The names of several functions, shortened to at most `width` columns. At least one name remains.
    fn list(&self, functions: &[Bdf], width: usize) -> String {
        let mut text = String::new();
        for (at, bdf) in functions.iter().enumerate() {
            let name = self.long(*bdf);
            let left = functions.len() - at;
            let more = format!(", {left} more");
            let rest = if left > 1 { more.len() } else { 0 };
            if at > 0 && text.chars().count() + 2 + name.chars().count() + rest > width {
                return text + &more;
            }
            if at > 0 {
                text += ", ";
            }
            text += &name;
        }
        text
    }
}

/// A row and column of the matrix.
struct Entry {
    /// Index of the function group in the matrix.
    group: usize,
    functions: Vec<Bdf>,
    exports: bool,
}

/// The rows and columns that fit the screen.
struct Grid {
    matrix: PathMatrix,
    entries: Vec<Entry>,
    /// Indexes of entries.
    rows: Vec<usize>,
    columns: Vec<usize>,
    /// Whether entries are single functions.
    single: bool,
    gap: usize,
}

impl Grid {
    /// Shows each function if that fits, otherwise merges functions with equal rows and columns. Also returns the number of
    /// functions that do not fit.
    fn fitting(matrix: PathMatrix, names: &Names<'_>, width: usize) -> (Self, usize) {
        let functions: usize = matrix.function_groups().iter().map(|group| group.functions.len()).sum();
        let left_out = matrix.left_out();
        if functions <= FUNCTION_ROWS && left_out == 0 {
            let grid = Self::new(matrix.clone(), true);
            let labels = grid.rows.iter().map(|&at| names.long(grid.entries[at].functions[0]).chars().count());
            let label = labels.max().unwrap_or(0);
            for gap in [2, 1] {
                if grid.width(label, gap) <= width {
                    return (Self { gap, ..grid }, 0);
                }
            }
        }
        let mut grid = Self::new(matrix.merged(), false);
        grid.rows.truncate(ROWS);
        let cell = grid.cell_width() + 1;
        let columns = (width.saturating_sub(grid.letter_width()) / cell).max(1);
        grid.columns.truncate(columns);
        let shown = |at: &usize| grid.columns.contains(at) && (grid.rows.contains(at) || !grid.entries[*at].exports);
        let unshown = (0..grid.entries.len()).filter(|at| !shown(at)).map(|at| grid.entries[at].functions.len());
        let unshown = left_out + unshown.sum::<usize>();
        if grid.width(0, 2) <= width {
            grid.gap = 2;
        }
        (grid, unshown)
    }

    fn new(matrix: PathMatrix, single: bool) -> Self {
        let mut entries = Vec::new();
        for (at, group) in matrix.function_groups().iter().enumerate() {
            if single {
                let one = |bdf: &Bdf| Entry { group: at, functions: vec![*bdf], exports: group.exports };
                entries.extend(group.functions.iter().map(one));
            } else {
                entries.push(Entry { group: at, functions: group.functions.clone(), exports: group.exports });
            }
        }
        entries.sort_by_key(|entry| entry.functions[0]);
        let rows = (0..entries.len()).filter(|&at| entries[at].exports).collect();
        let columns = (0..entries.len()).collect();
        Self { matrix, entries, rows, columns, single, gap: 1 }
    }

    fn cell(&self, row: usize, column: usize) -> String {
        if self.single && row == column {
            return "-".to_owned();
        }
        match self.matrix.cell(self.entries[row].group, self.entries[column].group) {
            Some(cell) => match cell.locality {
                Some(locality) => format!("{}/{locality}", short(cell.path)),
                None => format!("{}/?", short(cell.path)),
            },
            None => "-".to_owned(),
        }
    }

    fn cell_width(&self) -> usize {
        let cells = self.rows.iter().flat_map(|&row| self.columns.iter().map(move |&column| (row, column)));
        cells.map(|(row, column)| self.cell(row, column).len()).max().unwrap_or(0).max(self.letter_width())
    }

    fn letter_width(&self) -> usize {
        letters(self.entries.len().saturating_sub(1)).len()
    }

    fn width(&self, label: usize, gap: usize) -> usize {
        let label = if label > 0 { label + 2 } else { 0 };
        self.letter_width() + self.columns.len() * (gap + self.cell_width()) + label
    }

    fn render(&self, names: &Names<'_>, width: usize) -> String {
        let (letter, cell, gap) = (self.letter_width(), self.cell_width(), " ".repeat(self.gap));
        let labels: Vec<String> =
            self.entries.iter().map(|entry| names.list(&entry.functions, width - letter - 2)).collect();
        let complete = self.entries.iter().all(|entry| entry.functions.len() <= 4);
        let label = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        // Names that do not fit next to the cells are printed below the matrix, with the importers without a row.
        let beside = complete && self.width(label, self.gap) <= width;
        let mut text = " ".repeat(letter);
        for &column in &self.columns {
            text += &format!("{gap}{:<cell$}", letters(column));
        }
        text.truncate(text.trim_end().len());
        text += "\n";
        for &row in &self.rows {
            let mut line = format!("{:<letter$}", letters(row));
            for &column in &self.columns {
                line += &format!("{gap}{:<cell$}", self.cell(row, column));
            }
            if beside {
                line += &format!("  {}", labels[row]);
            }
            text += line.trim_end();
            text += "\n";
        }
        for (at, label) in labels.iter().enumerate() {
            let is_shown = self.rows.contains(&at) || self.columns.contains(&at);
            if is_shown && !(beside && self.rows.contains(&at)) {
                text += &format!("{:<letter$}  {label}\n", letters(at));
            }
        }
        text
    }
}

/// The name of a row and column: A to Z, AA, AB, ...
fn letters(mut at: usize) -> String {
    let mut text = String::new();
    loop {
        text.insert(0, char::from(b'A' + (at % 26) as u8));
        if at < 26 {
            return text;
        }
        at = at / 26 - 1;
    }
}

/// Explains the distances that occur in the matrix.
fn words(matrix: &PathMatrix) -> String {
    let cells = matrix.kinds();
    let occurs = |locality| cells.iter().any(|cell| cell.locality == locality);
    let known = Locality::ALL.into_iter().filter(|word| occurs(Some(*word)));
    let mut words: Vec<_> = known.map(|word| format!("{word} = {}", word.about())).collect();
    if occurs(None) {
        words.push("/? = unknown, because bridges or NUMA nodes are unknown".to_owned());
    }
    format!("{}.", words.join("; "))
}

/// Lists the causes other than the path that prevent exports and imports.
fn blocked(predictor: &Predictor<'_>, names: &Names<'_>, functions: &[Bdf], width: usize) -> String {
    let exporters: Vec<Bdf> = predictor.exporters().filter(|bdf| functions.binary_search(bdf).is_ok()).collect();
    let mut parts = Vec::new();
    let mut bound_by_run = Vec::new();
    for cause in Cause::ALL {
        let exporting = exporters.iter().filter(|bdf| predictor.exporter_blockers(**bdf).contains(cause)).copied();
        let is_bound_by_run = |bdf: &Bdf| *cause == Cause::DriverNotVfio && run_binds(names.inventory, *bdf);
        let (binding, exporting): (Vec<Bdf>, Vec<Bdf>) = exporting.partition(is_bound_by_run);
        parts.extend(part(*cause, names, &exporting, exporters.len(), "exporter"));
        bound_by_run.extend(binding);
        // GPU drivers accept importers that VFIO rejects.
        let importing = |rule| -> Vec<Bdf> {
            let blocked =
                functions.iter().filter(|bdf| predictor.importer_blockers(**bdf, rule).any(|one| one == *cause));
            blocked.copied().collect()
        };
        let mut rules = exporters.iter().map(|bdf| rule_of(names.inventory, *bdf));
        let (of_vfio, of_others) = (importing(ExporterRule::Vfio), importing(ExporterRule::Nvidia));
        let vfio_exports = rules.any(|rule| rule == ExporterRule::Vfio);
        if of_vfio == of_others || !vfio_exports {
            parts.extend(part(*cause, names, &of_others, functions.len(), "importer"));
        } else {
            let part = part(*cause, names, &of_vfio, functions.len(), "importer");
            parts.extend(part.map(|part| format!("{part}, for BARs that VFIO exports")));
        }
    }
    let mut text = String::new();
    if !parts.is_empty() {
        let line = format!(
            "Blocked on every path: {}. Run `peerpath doctor --from BDF --to BDF` for the remedies.",
            parts.join("; ")
        );
        text += &hanging("", 2, &line, width);
    }
    if let Some(list) = list(names, &bound_by_run, exporters.len(), "exporter") {
        text += &hanging("", 2, &format!("Without a driver: {list}. `peerpath run` binds them to vfio-pci."), width);
    }
    text
}

fn rule_of(inventory: &Inventory, bdf: Bdf) -> ExporterRule {
    inventory.topology.function(bdf).map_or(ExporterRule::Vfio, |function| ExporterRule::of(function, None))
}

fn part(cause: Cause, names: &Names<'_>, blocked: &[Bdf], all: usize, role: &str) -> Option<String> {
    list(names, blocked, all, role).map(|list| format!("{cause} ({list})"))
}

/// Some of `all` exporters or importers; `None` without functions.
fn list(names: &Names<'_>, functions: &[Bdf], all: usize, role: &str) -> Option<String> {
    const SHOWN: usize = 3;
    let list = functions.iter().take(SHOWN).map(|bdf| names.short(*bdf)).collect::<Vec<_>>().join(", ");
    Some(match functions.len() {
        0 => return None,
        count if count == all => format!("every {role}"),
        1 => format!("{role} {list}"),
        count if count <= SHOWN => format!("{role}s {list}"),
        count => format!("{role}s {list} and {} more", count - SHOWN),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_named_with_letters() {
        assert_eq!([0, 25, 26, 51, 52, 701, 702].map(letters), ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
    }
}
