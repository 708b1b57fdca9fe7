//! The short form, for a pull request or an issue.

use std::fmt::Write as _;

use super::{Document, describe, matrix, trouble};
use crate::compare;

/// Verdicts that are told before the list is cut.
const MOST: usize = 60;

/// GitHub's Markdown.
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
    text += "\n## Which path, how fast\n";
    let verdicts = document.verdicts(&pairs, &baselines);
    let mut run = None;
    for (pair, verdict) in pairs.iter().zip(&verdicts).take(MOST) {
        if document.labels.len() > 1 && run != Some(pair.run) {
            run = Some(pair.run);
            let _ = write!(text, "\n### {}\n", escape(&document.labels[pair.run]));
        }
        let _ = write!(
            text,
            "\n- **{}**: {}",
            escape(&verdict.subject),
            escape(&verdict.sentence()[verdict.subject.len() + 2..])
        );
        for line in verdict.why.iter().chain(&verdict.trouble).chain(&verdict.flags) {
            let _ = write!(text, "\n  - {}", escape(line));
        }
    }
    if verdicts.len() > MOST {
        let _ = write!(text, "\n\nand {}.", describe::plural(verdicts.len() - MOST, "more pair"));
    }
    text += "\n\n## Exporters and importers\n\n";
    text += &table_of(&matrix::matrix(&document.labels, &pairs, &baselines), document.labels.len() > 1);
    let (troubles, _) = trouble::troubles(&document.saved, &document.labels);
    if !troubles.is_empty() {
        text += "\n## Waived or failed\n\n";
        for one in &troubles {
            let cause = one.cause.as_ref().map_or(String::new(), |cause| format!(" [{cause}]"));
            let remedy = one.remedy.as_ref().map_or(String::new(), |remedy| format!(" To do: {remedy}"));
            let line = format!("{}{cause}: {}{remedy} ({})", one.outcome.as_str(), one.reason, one.cells);
            let _ = writeln!(text, "- {}", escape(&line));
        }
    }
    if let Some(comparison) = &document.comparison {
        let _ = write!(
            text,
            "\n## Compared with {}\n\n{}\n\n",
            escape(&comparison.base),
            escape(&compare::summary(&comparison.made))
        );
        text += "| verdict | cell | metric | base | new | change | between |\n|---|---|---|--:|--:|--:|--:|\n";
        for row in compare::by_weight(&comparison.made).into_iter().take(MOST) {
            let fields = [
                row.verdict.as_str().to_owned(),
                row.key.clone(),
                compare::metric(row.metric).to_owned(),
                compare::figure(row.metric, row.base),
                compare::figure(row.metric, row.new),
                compare::change(row),
                compare::bounds(row),
            ];
            text += &line(&fields);
        }
        let _ = write!(text, "\n{}\n", escape(comparison.made.method));
    }
    text
}

fn table_of(matrix: &matrix::Matrix, runs: bool) -> String {
    let first: &[&str] = if runs { &["result", "from"] } else { &["from"] };
    let heads: Vec<String> = first.iter().map(ToString::to_string).chain(matrix.targets.iter().cloned()).collect();
    let mut text = line(&heads);
    text += &format!("|{}\n", "---|".repeat(heads.len()));
    for row in matrix.shown.iter().chain(&matrix.folded) {
        let mut fields = if runs { vec![row.run.clone()] } else { Vec::new() };
        fields.push(row.source.clone());
        fields.extend(row.entries.iter().map(|entries| {
            let told: Vec<_> = entries.iter().map(|entry| format!("{}: {}", entry.path, entry.told)).collect();
            told.join("; ")
        }));
        text += &line(&fields);
    }
    text
}

fn line(fields: &[String]) -> String {
    format!("| {} |\n", fields.iter().map(|field| escape(field)).collect::<Vec<_>>().join(" | "))
}

/// What comes from a result is text: no markup, no links, nobody mentioned.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '@' => escaped += "&#64;",
            '#' => escaped += "&#35;",
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' => escaped.extend(['\\', letter]),
            letter => escaped.push(letter),
        }
    }
    // Bare addresses become links.
    escaped.replace("://", ":&#47;&#47;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup() {
        assert_eq!(escape("mlx5_0 | <b> @you [x](y)"), "mlx5\\_0 \\| &lt;b&gt; &#64;you \\[x\\](y)");
        assert_eq!(escape("https://example.org #1"), "https:&#47;&#47;example.org &#35;1");
    }
}
