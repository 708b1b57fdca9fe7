//! Tables that fit the terminal.

use peerpath_paths::printable;

use crate::text_layout::{hanging, shortened};

/// A column of a table.
pub(crate) struct Column {
    header: &'static str,
    right_aligned: bool,
    /// Order of omission: the column with the highest value is omitted first. A column with 0 is never omitted.
    dispensable: u8,
}

/// A left-aligned column.
pub(crate) const fn text(header: &'static str, dispensable: u8) -> Column {
    Column { header, right_aligned: false, dispensable }
}

/// A right-aligned column.
pub(crate) const fn number(header: &'static str, dispensable: u8) -> Column {
    Column { header, right_aligned: true, dispensable }
}

const GAP: &str = "  ";

/// Smallest width of a column whose texts are cut.
const MIN_WIDTH: usize = 8;

/// Columns of text.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row with one text per column.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The table, at most `width` characters wide. If it is too wide, columns with one value move to a line above the table; then
    /// the most dispensable columns are omitted, and named below the table; then the widest text is shortened.
    pub(crate) fn render(&self, width: usize) -> String {
        let widths = self.widths();
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let mut common = Vec::new();
        while total(&widths, &shown) > width && shown.len() > 2 {
            let constant = shown.iter().filter(|&&at| self.common_value(at).is_some());
            let Some(&at) = constant.max_by_key(|&&at| self.columns[at].dispensable) else { break };
            shown.retain(|&other| other != at);
            common.push(at);
        }
        common.sort_unstable();
        let layout = self.fitted(widths, shown, width);
        let above: Vec<String> = common.iter().filter_map(|&at| self.named_value(at)).collect();
        let below: Vec<&str> = (0..self.columns.len())
            .filter(|at| !common.contains(at) && !layout.shown.contains(at))
            .map(|at| self.columns[at].header)
            .collect();
        let line = |head: &str, words: &str| {
            if words.is_empty() { String::new() } else { hanging(head, head.len() + 1, words, width) }
        };
        let rows: String =
            std::iter::once(layout.header()).chain(self.rows.iter().map(|row| layout.row(row))).collect();
        line("All rows:", &above.join(", ")) + &rows + &line("No room for:", &below.join(", "))
    }

    /// The layout of these rows, for rows that are printed one at a time. The rows of this table are then a sample: a longer cell
    /// in another row moves the rest of its row to the right.
    pub(crate) fn layout(&self, width: usize) -> Layout<'_> {
        self.fitted(self.widths(), (0..self.columns.len()).collect(), width)
    }

    /// Omits columns until the others fit, then shortens the widest text.
    fn fitted(&self, mut widths: Vec<usize>, mut shown: Vec<usize>, width: usize) -> Layout<'_> {
        while total(&widths, &shown) > width {
            let Some(&victim) = shown.iter().max_by_key(|&&at| self.columns[at].dispensable) else { break };
            if self.columns[victim].dispensable == 0 {
                break;
            }
            shown.retain(|&at| at != victim);
        }
        let excess = total(&widths, &shown).saturating_sub(width);
        let widest = shown.iter().copied().filter(|&at| !self.columns[at].right_aligned).max_by_key(|&at| widths[at]);
        let shortened = widest.filter(|_| excess > 0);
        if let Some(at) = shortened {
            widths[at] = widths[at].saturating_sub(excess).max(MIN_WIDTH.min(widths[at]));
        }
        Layout { columns: &self.columns, widths, shown, shortened }
    }

    fn widths(&self) -> Vec<usize> {
        let width = |(at, column): (usize, &Column)| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.chain([column.header.len()]).max().unwrap_or(0)
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    /// The value that all rows have in a column; `None` if they differ, or if there are fewer than two rows.
    fn common_value(&self, at: usize) -> Option<&str> {
        let (first, others) = self.rows.split_first()?;
        let is_common = !others.is_empty() && others.iter().all(|row| row[at] == first[at]);
        is_common.then_some(first[at].as_str())
    }

    /// Header and common value of a column; `None` for a column without values.
    fn named_value(&self, at: usize) -> Option<String> {
        let value = self.common_value(at).filter(|value| !["", "-"].contains(value))?;
        Some(format!("{} {value}", self.columns[at].header))
    }
}

/// Width of the shown columns with the gaps between them.
fn total(widths: &[usize], shown: &[usize]) -> usize {
    shown.iter().map(|&at| widths[at]).sum::<usize>() + GAP.len() * shown.len().saturating_sub(1)
}

/// The columns of a table that fit the terminal, with their widths.
pub(crate) struct Layout<'a> {
    columns: &'a [Column],
    widths: Vec<usize>,
    /// Indexes of the columns that fit.
    shown: Vec<usize>,
    /// The column whose texts are cut to its width.
    shortened: Option<usize>,
}

impl Layout<'_> {
    /// The line with the names of the columns.
    pub(crate) fn header(&self) -> String {
        self.line(|at| self.columns[at].header)
    }

    /// The line of a row, which has one text per column of the table.
    pub(crate) fn row(&self, row: &[String]) -> String {
        self.line(|at| &row[at])
    }

    fn line<'a>(&self, cell: impl Fn(usize) -> &'a str) -> String {
        let mut line = String::new();
        for (place, &at) in self.shown.iter().enumerate() {
            if place > 0 {
                line += GAP;
            }
            let width = self.widths[at];
            let cell = shortened(cell(at), if self.shortened == Some(at) { width } else { usize::MAX });
            line += &if self.columns[at].right_aligned { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(vec![text("name", 0), text("remark", 2), number("size", 1)]);
        table.push(vec!["a".into(), "long and dispensable".into(), "4 KiB".into()]);
        table.push(vec!["b\u{7}".into(), String::new(), "16 MiB".into()]);
        table
    }

    #[test]
    fn aligns_numbers_and_replaces_control_characters() {
        assert_eq!(
            sample().render(80),
            "name  remark                  size\na     long and dispensable   4 KiB\nb\u{fffd}                          16 MiB\n"
        );
    }

    #[test]
    fn omits_the_most_dispensable_column_first_and_names_it() {
        assert_eq!(sample().render(20), "name    size\na      4 KiB\nb\u{fffd}    16 MiB\nNo room for: remark\n");
        assert!(sample().render(5).starts_with("name\na\nb\u{fffd}\nNo room for:"), "{}", sample().render(5));
    }

    #[test]
    fn moves_a_common_value_above_the_table() {
        let mut table = Table::new(vec![text("name", 0), text("device", 0), text("more", 1), number("size", 0)]);
        for (name, size) in [("a", "4 KiB"), ("b", "16 MiB")] {
            table.push(vec![name.into(), "a long device".into(), "-".into(), size.into()]);
        }
        assert!(table.render(80).starts_with("name  device"), "{}", table.render(80));
        assert_eq!(
            table.render(23),
            "All rows: device a long\n          device\nname    size\na      4 KiB\nb     16 MiB\n"
        );
    }

    #[test]
    fn shortens_the_widest_text_last() {
        let mut table = Table::new(vec![text("verdict", 0), text("cell", 0)]);
        table.push(vec!["worse".into(), "0000:03:00.0:2/verbs:mlx5_0/write".into()]);
        assert_eq!(table.render(24), "verdict  cell\nworse    0000:03:00.0:2…\n");
    }
}
