//! Markdown: a summary for a pull request or an issue.

use std::fmt::Write as _;

use super::summary::{self, Summary};
use super::{ComparisonWithBase, Document, describe, matrix, reasons};
use crate::compare::{self, Row, Verdict};

/// Maximum number of pairs, and of rows of a comparison.
const MAX_ROWS: usize = 60;

/// Renders the document as GitHub-flavoured Markdown.
pub(crate) fn render(document: &Document) -> String {
    let mut text = format!("# {}\n", escape(&document.title()));
    for line in document.banners() {
        let _ = write!(text, "\n> **{}**\n", escape(&line));
    }
    let pairs = document.pairs();
    let baselines = document.baselines();
    text += &summary_of(&summary::summary(document, &pairs, &baselines));
    for line in &document.problems() {
        let _ = write!(text, "\n> {}\n", escape(line));
    }
    if let Some(comparison) = &document.comparison {
        text += &comparison_with(comparison);
    }
    text += "\n## Sources and targets\n\n";
    text += &table_of(&matrix::matrix(&document.labels, &pairs, &baselines), document.labels.len() > 1);
    text += "\n## Paths and speed\n";
    let summaries = document.pair_summaries(&pairs, &baselines);
    let mut run = None;
    for (pair, summary) in pairs.iter().zip(&summaries).take(MAX_ROWS) {
        if document.labels.len() > 1 && run != Some(pair.run) {
            // A blank line ends the list of the previous run.
            let gap = if run.is_some() { "\n" } else { "" };
            run = Some(pair.run);
            let _ = write!(text, "{gap}\n### {}\n", escape(&document.labels[pair.run]));
        }
        let _ = write!(
            text,
            "\n- **{}**: {}",
            escape(&summary.subject),
            escape(&summary.sentence()[summary.subject.len() + 2..])
        );
        for line in summary.why.iter().chain(&summary.stopped_by).chain(&summary.flags) {
            let _ = write!(text, "\n  - {}", escape(line));
        }
    }
    if summaries.len() > MAX_ROWS {
        let _ = write!(text, "\n\nand {}.", describe::plural(summaries.len() - MAX_ROWS, "more pair"));
    }
    text.push('\n');
    let (reasons, _) = reasons::reasons(&document.saved, &document.labels);
    if !reasons.is_empty() {
        text += "\n## Waived or failed\n\n";
        for one in &reasons {
            let cause = one.cause.as_ref().map_or(String::new(), |cause| format!(" [{cause}]"));
            let remedy = one.remedy.as_ref().map_or(String::new(), |remedy| format!(" Remedy: {remedy}"));
            let line = format!("{}{cause}: {}{remedy} ({})", one.outcome.as_str(), one.reason, one.cells);
            let _ = writeln!(text, "- {}", escape(&line));
        }
    }
    text
}

fn summary_of(summary: &Summary) -> String {
    let mut text = String::new();
    if let Some(compared) = &summary.comparison {
        let line = format!("compared with {}. {}.", compared.base, compared.counts);
        let _ = write!(text, "\n**{}** {}\n", compared.verdict, escape(&line));
    }
    let _ = write!(text, "\n**{}** {}\n", summary.verdict, escape(&summary.counts));
    if !summary.facts.is_empty() {
        text.push('\n');
    }
    for (name, value) in &summary.facts {
        let _ = writeln!(text, "- {name}: {}", escape(value));
    }
    let _ = summary.predicted.as_ref().map(|line| write!(text, "\n{line}.\n"));
    if !summary.pairs.is_empty() {
        text.push('\n');
    }
    for one in &summary.pairs {
        let result = one.result.as_ref().map_or_else(String::new, |result| format!("{}: ", escape(result)));
        let path = escape(&format!("{} ({}); {}", one.path, one.certainty, one.counts));
        let _ = writeln!(text, "- {result}**{}**: {path}", escape(&one.subject));
        for figure in &one.figures {
            let _ = writeln!(text, "  - {}", escape(&figure.text()));
        }
    }
    if summary.more_pairs > 0 {
        let _ = write!(text, "\n{} more pairs are in the matrix.\n", summary.more_pairs);
    }
    for line in &summary.disturbed {
        let _ = write!(text, "\n> {}\n", escape(line));
    }
    text
}

/// Unchanged rows are folded.
fn comparison_with(with_base: &ComparisonWithBase) -> String {
    let comparison = &with_base.comparison;
    let mut text = format!("\n## Compared with {}\n\n", escape(&with_base.base));
    let rows = compare::rows_by_severity(comparison).into_iter().take(MAX_ROWS);
    let (unchanged, changed): (Vec<_>, Vec<_>) = rows.partition(|row| row.verdict == Verdict::Same);
    text += &if changed.is_empty() { "No row changed.\n".to_owned() } else { compared_rows(&changed) };
    if !unchanged.is_empty() {
        let count = unchanged.len();
        let rows = compared_rows(&unchanged);
        let _ = write!(text, "\n<details><summary>{count} unchanged rows</summary>\n\n{rows}\n</details>\n");
    }
    let _ = write!(text, "\n{}\n", escape(comparison.method));
    text
}

fn compared_rows(rows: &[&Row]) -> String {
    let mut text =
        "| verdict | cell | metric | base | new | change | 90 % interval |\n|---|---|---|--:|--:|--:|--:|\n".to_owned();
    for row in rows {
        let fields = [
            row.verdict.as_str().to_owned(),
            row.key.clone(),
            compare::metric_name(row.metric).to_owned(),
            compare::format_value(row.metric, row.base),
            compare::format_value(row.metric, row.new),
            compare::format_change(row),
            compare::format_interval(row),
        ];
        text += &line(&fields);
    }
    text
}

fn table_of(matrix: &matrix::Matrix, runs: bool) -> String {
    let first: &[&str] = if runs { &["result", "source"] } else { &["source"] };
    let heads: Vec<String> = first.iter().map(ToString::to_string).chain(matrix.targets.iter().cloned()).collect();
    let mut text = line(&heads);
    text += &format!("|{}\n", "---|".repeat(heads.len()));
    for row in matrix.shown.iter().chain(&matrix.folded) {
        let mut fields = if runs { vec![row.run.clone()] } else { Vec::new() };
        fields.push(row.source.clone());
        fields.extend(row.entries.iter().map(|entries| {
            let texts: Vec<_> = entries.iter().map(|entry| format!("{}: {}", entry.path, entry.text)).collect();
            texts.join("; ")
        }));
        text += &line(&fields);
    }
    text
}

fn line(fields: &[String]) -> String {
    format!("| {} |\n", fields.iter().map(|field| escape(field)).collect::<Vec<_>>().join(" | "))
}

/// Escapes text so that it contains no markup, no links and no mentions of users.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '@' => escaped += "&#64;",
            '#' => escaped += "&#35;",
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' => escaped.extend(['\\', character]),
            character => escaped.push(character),
        }
    }
    // GitHub turns bare URLs into links.
    escaped.replace("://", ":&#47;&#47;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_markup_links_and_mentions() {
        assert_eq!(escape("mlx5_0 | <b> @you [x](y)"), "mlx5\\_0 \\| &lt;b&gt; &#64;you \\[x\\](y)");
        assert_eq!(escape("https://example.org #1"), "https:&#47;&#47;example.org &#35;1");
    }
}
