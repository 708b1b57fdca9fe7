//! Markdown: a summary for a pull request or an issue.

use std::fmt::Write as _;

use super::{Document, describe, matrix, reasons};
use crate::compare;

/// Maximum number of pairs, and of rows of a comparison.
const MAX_ROWS: usize = 60;

/// Renders the document as GitHub-flavoured Markdown.
pub(crate) fn render(document: &Document) -> String {
    let mut text = format!("# {}\n\n{}\n", escape(&document.title()), escape(&document.summary()));
    for line in document.banners() {
        let _ = write!(text, "\n> **{}**\n", escape(&line));
    }
    for line in &document.problems() {
        let _ = write!(text, "\n> {}\n", escape(line));
    }
    let pairs = document.pairs();
    let baselines = document.baselines();
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
    text += "\n\n## Sources and targets\n\n";
    text += &table_of(&matrix::matrix(&document.labels, &pairs, &baselines), document.labels.len() > 1);
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
    if let Some(comparison) = &document.comparison {
        let _ = write!(
            text,
            "\n## Compared with {}\n\n{}\n\n",
            escape(&comparison.base),
            escape(&compare::summary(&comparison.comparison))
        );
        text += "| verdict | cell | metric | base | new | change | 90 % interval |\n|---|---|---|--:|--:|--:|--:|\n";
        for row in compare::rows_by_severity(&comparison.comparison).into_iter().take(MAX_ROWS) {
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
        let _ = write!(text, "\n{}\n", escape(comparison.comparison.method));
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
