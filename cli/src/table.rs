//! Tables that fit the terminal.

use peerpath_paths::printable;

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

/// Columns of text. In a narrow terminal, the columns with the highest `dispensable` are omitted.
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

    /// The table, with columns omitted until it is at most `width` characters wide.
    pub(crate) fn render(&self, width: usize) -> String {
        let layout = self.layout(width);
        std::iter::once(layout.header()).chain(self.rows.iter().map(|row| layout.row(row))).collect()
    }

    /// The layout of these rows, for rows that are printed one at a time. The rows of this table are then a sample: a longer cell
    /// in another row moves the rest of its row to the right.
    pub(crate) fn layout(&self, width: usize) -> Layout<'_> {
        let widths: Vec<usize> = self.columns.iter().enumerate().map(|(at, column)| self.width(at, column)).collect();
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let total = |shown: &[usize]| {
            shown.iter().map(|&at| widths[at]).sum::<usize>() + GAP.len() * shown.len().saturating_sub(1)
        };
        while total(&shown) > width {
            let Some(&victim) = shown.iter().max_by_key(|&&at| self.columns[at].dispensable) else { break };
            if self.columns[victim].dispensable == 0 {
                break;
            }
            shown.retain(|&at| at != victim);
        }
        Layout { columns: &self.columns, widths, shown }
    }

    fn width(&self, at: usize, column: &Column) -> usize {
        let cells = self.rows.iter().map(|row| row[at].chars().count());
        cells.chain([column.header.len()]).max().unwrap_or(0)
    }
}

/// The columns of a table that fit the terminal, with their widths.
pub(crate) struct Layout<'a> {
    columns: &'a [Column],
    widths: Vec<usize>,
    /// Indexes of the columns that fit.
    shown: Vec<usize>,
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
        for &at in &self.shown {
            if !line.is_empty() {
                line += GAP;
            }
            let (cell, width) = (cell(at), self.widths[at]);
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
    fn omits_the_most_dispensable_column_first() {
        assert_eq!(sample().render(20), "name    size\na      4 KiB\nb\u{fffd}    16 MiB\n");
        assert_eq!(sample().render(5), "name\na\nb\u{fffd}\n");
    }
}
