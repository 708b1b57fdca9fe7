//! JUnit XML: one test case per cell, for the reports of CI systems.
//!
//! The elements are those that Jenkins, GitLab and GitHub actions read: `testsuites`, `testsuite`, `testcase`, `failure` and
//! `skipped`. A waived cell is skipped.

use std::fmt::Write as _;

use super::{Document, describe};
use crate::saved::{Outcome, SavedCell};

pub(crate) fn render(document: &Document) -> String {
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
    for (saved, label) in document.saved.iter().zip(&document.labels) {
        let count = |outcome| saved.cells.iter().filter(|cell| cell.outcome == outcome).count();
        let (failed, waived) = (count(Outcome::Failed), count(Outcome::Waived) + count(Outcome::Unknown));
        let host = saved.environment.hostname.as_deref().map_or_else(String::new, |host| attribute("hostname", host));
        let start = saved.run.started_at.as_deref().map_or_else(String::new, |start| attribute("timestamp", start));
        let _ = writeln!(
            text,
            "  <testsuite{}{host}{start} tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"{waived}\">",
            attribute("name", &format!("peerpath {label}")),
            saved.cells.len()
        );
        saved.cells.iter().for_each(|cell| case(cell, &mut text));
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

fn case(cell: &SavedCell, text: &mut String) {
    let pair = format!("{} to {}", describe::source(&cell.source), describe::target(&cell.target));
    let name = format!("{} {} ({})", describe::operation_with_settings(cell), cell.mode, cell.path.best_known());
    let _ = write!(text, "    <testcase{}{}", attribute("classname", &pair), attribute("name", &name));
    let why = |text: &mut String, element: &str| {
        let cause = cell.cause.as_deref().unwrap_or("unknown");
        let reason = cell.reason.as_deref().unwrap_or("the result has no reason");
        let kind = if element == "failure" { attribute("type", cause) } else { String::new() };
        let remedy = escaped(cell.remedy.as_deref().unwrap_or_default());
        let _ = write!(
            text,
            ">\n      <{element}{}{kind}>{remedy}</{element}>\n    </testcase>\n",
            attribute("message", reason)
        );
    };
    match cell.outcome {
        Outcome::Passed => *text += "/>\n",
        Outcome::Failed => why(text, "failure"),
        Outcome::Waived | Outcome::Unknown => why(text, "skipped"),
    }
}

fn attribute(name: &str, value: &str) -> String {
    format!(" {name}=\"{}\"", escaped(value))
}

/// Escapes text for XML 1.0, which excludes most control characters even as references.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_xml_forbids() {
        assert_eq!(escaped("a<b> & \"c\"\u{1b}[31m\u{ffff}"), "a&lt;b&gt; &amp; &quot;c&quot; [31m\u{fffd}");
    }
}
