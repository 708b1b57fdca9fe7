//! Findings as text: failures first, then warnings and unknowns in full, and one line for all passed checks.

use peerpath_paths::doctor::{Finding, Status};

use crate::hints::CommandLine;
use crate::terminal::printable;
use crate::text_layout::hanging;

/// Maximum width: longer lines are hard to read even on a wide terminal.
const MAX_WIDTH: usize = 100;
/// Column at which the text of a finding starts.
const INDENT: usize = 9;

/// Formats the findings in at most `width` columns.
pub(super) fn render(findings: &[Finding], command_line: &CommandLine, width: usize) -> String {
    let width = width.clamp(40, MAX_WIDTH);
    let mut text = String::new();
    for status in [Status::Fail, Status::Warn, Status::Unknown] {
        for group in Group::all(findings, status) {
            text += &group.render(command_line, width);
        }
    }
    // The user asks for the predicted path, and for the rule that decides it, so both are printed in full even if the checks passed.
    for (check, head) in [("exporter-rule", "rule"), ("path", "path")] {
        for finding in findings.iter().filter(|finding| finding.check == check && finding.status == Status::Pass) {
            text += &paragraph(head, &format!("{}: {}", finding.subject, finding.detail), width);
        }
    }
    let mut passed: Vec<&str> = of(findings, Status::Pass).map(|finding| finding.check).collect();
    passed.dedup();
    if !passed.is_empty() {
        text += &paragraph("pass", &passed.join(", "), width);
    }
    let counts: Vec<_> = Status::ALL
        .iter()
        .map(|status| (of(findings, *status).count(), status))
        .filter(|(count, _)| *count > 0)
        .map(|(count, status)| format!("{count} {status}"))
        .collect();
    format!("{text}\n{}\n{}", counts.join(", "), hint(findings))
}

fn of(findings: &[Finding], status: Status) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(move |finding| finding.status == status)
}

fn hint(findings: &[Finding]) -> &'static str {
    let failed = findings.iter().any(|finding| finding.status == Status::Fail);
    if failed { "Start at the top: a failure can cause the ones below it.\n" } else { "" }
}

/// Findings with the same text, which is printed once.
struct Group<'a> {
    first: &'a Finding,
    checks: Vec<&'a str>,
    subjects: Vec<&'a str>,
}

impl<'a> Group<'a> {
    fn all(findings: &'a [Finding], status: Status) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for finding in of(findings, status) {
            let same = |group: &&mut Self| {
                let first = group.first;
                (&first.detail, &first.remedy, first.cause) == (&finding.detail, &finding.remedy, finding.cause)
            };
            match groups.iter_mut().find(same) {
                Some(group) => {
                    push_new(&mut group.checks, finding.check);
                    push_new(&mut group.subjects, &finding.subject);
                }
                None => {
                    groups.push(Self { first: finding, checks: vec![finding.check], subjects: vec![&finding.subject] })
                }
            }
        }
        groups
    }

    fn render(&self, command_line: &CommandLine, width: usize) -> String {
        const SHOWN: usize = 3;
        let Finding { status, cause, remedy, detail, .. } = self.first;
        let subjects = match self.subjects.as_slice() {
            ["host"] => String::new(),
            few if few.len() <= SHOWN => format!(" ({})", few.join(", ")),
            many => format!(" ({} and {} more)", many[..SHOWN].join(", "), many.len() - SHOWN),
        };
        let word = cause.map_or(String::new(), |cause| format!(" [{cause}]"));
        let what = format!("{}{subjects}: {detail}{word}", self.checks.join(", "));
        let mut text = paragraph(status.as_str(), &what, width);
        if let Some(remedy) = remedy {
            text += &paragraph("     do:", &command_line.remedy(*cause, remedy), width);
        }
        text
    }
}

fn push_new<'a>(names: &mut Vec<&'a str>, name: &'a str) {
    if !names.contains(&name) {
        names.push(name);
    }
}

fn paragraph(head: &str, words: &str, width: usize) -> String {
    hanging(head, INDENT, &printable(words), width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerpath_paths::Cause;

    fn finding(check: &'static str, status: Status, subject: &str, detail: &str) -> Finding {
        let remedy = (status != Status::Pass).then(|| "Do this.".to_owned());
        Finding { check, status, subject: subject.into(), cause: None, remedy, detail: detail.into() }
    }

    #[test]
    fn prints_the_worst_first_and_equal_findings_once() {
        let findings = [
            finding("a", Status::Pass, "host", "Good."),
            finding("b", Status::Unknown, "host", "Not readable."),
            finding("c", Status::Unknown, "0000:03:00.0", "Not readable."),
            Finding { cause: Some(Cause::NoIommu), ..finding("d", Status::Fail, "host", "Broken.") },
            finding("e", Status::Pass, "host", "Good."),
        ];
        let text = render(&findings, &CommandLine::default(), usize::MAX);
        assert_eq!(
            text,
            "fail     d: Broken. [no-iommu]\n     do: Do this.\n\
             unknown  b, c (host, 0000:03:00.0): Not readable.\n     do: Do this.\n\
             pass     a, e\n\n1 fail, 2 unknown, 2 pass\n\
             Start at the top: a failure can cause the ones below it.\n"
        );
    }

    #[test]
    fn lines_fit_the_terminal_and_have_no_escape_sequences() {
        let long = "word ".repeat(60);
        let text = render(&[finding("check", Status::Warn, "host", &long)], &CommandLine::default(), 60);
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert!(
            !render(&[finding("check", Status::Warn, "h\u{1b}[31m", "x")], &CommandLine::default(), 60)
                .contains('\u{1b}')
        );
    }
}
