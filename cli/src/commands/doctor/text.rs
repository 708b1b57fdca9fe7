//! Findings for people: what fails first, then what may, then what could not be told; what is well in a few lines.

use peerpath_paths::doctor::{Finding, Status};

use crate::terminal::printable;

/// Sentences wider than this are hard to read, however wide the terminal is.
const COMFORTABLE: usize = 100;
/// Under the words of a finding.
const INDENT: usize = 9;

/// The findings in at most `width` columns.
pub(super) fn render(findings: &[Finding], width: usize) -> String {
    let width = width.clamp(40, COMFORTABLE);
    let mut text = String::new();
    for status in [Status::Fail, Status::Warn, Status::Unknown] {
        for group in Group::all(findings, status) {
            text += &group.render(width);
        }
    }
    // The way itself is an answer, not a precondition: it is told in full.
    let way = findings.iter().filter(|finding| finding.check == "path" && finding.status == Status::Pass);
    for finding in way {
        text += &paragraph("path", &format!("{}: {}", finding.subject, finding.detail), width);
    }
    let mut well: Vec<&str> = of(findings, Status::Pass).map(|finding| finding.check).collect();
    well.dedup();
    if !well.is_empty() {
        text += &paragraph("pass", &well.join(", "), width);
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
    if failed { "Put things right from the top: later findings may follow from earlier ones.\n" } else { "" }
}

/// Findings that say the same, told once.
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

    fn render(&self, width: usize) -> String {
        const SHOWN: usize = 3;
        let Finding { status, cause, remedy, detail, .. } = self.first;
        let subjects = match self.subjects.as_slice() {
            ["host"] => String::new(),
            few if few.len() <= SHOWN => format!(" ({})", few.join(", ")),
            many => format!(" ({} and {} more)", many[..SHOWN].join(", "), many.len() - SHOWN),
        };
        let cause = cause.map_or(String::new(), |cause| format!(" [{cause}]"));
        let what = format!("{}{subjects}: {detail}{cause}", self.checks.join(", "));
        let mut text = paragraph(status.as_str(), &what, width);
        if let Some(remedy) = remedy {
            text += &paragraph("     do:", remedy, width);
        }
        text
    }
}

fn push_new<'a>(names: &mut Vec<&'a str>, name: &'a str) {
    if !names.contains(&name) {
        names.push(name);
    }
}

/// Words in lines of `width` columns, the first behind `head`.
fn paragraph(head: &str, words: &str, width: usize) -> String {
    let mut text = String::new();
    let mut line = format!("{head:<INDENT$}");
    let mut columns = INDENT;
    for word in printable(words).split_whitespace() {
        let length = word.chars().count();
        if columns > INDENT && columns + 1 + length > width {
            text += &(line + "\n");
            line = " ".repeat(INDENT);
            columns = INDENT;
        }
        if columns > INDENT {
            line.push(' ');
            columns += 1;
        }
        line += word;
        columns += length;
    }
    text + &line + "\n"
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
    fn the_worst_comes_first_and_what_is_the_same_once() {
        let findings = [
            finding("a", Status::Pass, "host", "Well."),
            finding("b", Status::Unknown, "host", "Nobody knows."),
            finding("c", Status::Unknown, "0000:03:00.0", "Nobody knows."),
            Finding { cause: Some(Cause::NoIommu), ..finding("d", Status::Fail, "host", "Broken.") },
            finding("e", Status::Pass, "host", "Well."),
        ];
        let text = render(&findings, usize::MAX);
        assert_eq!(
            text,
            "fail     d: Broken. [no-iommu]\n     do: Do this.\n\
             unknown  b, c (host, 0000:03:00.0): Nobody knows.\n     do: Do this.\n\
             pass     a, e\n\n1 fail, 2 unknown, 2 pass\n\
             Put things right from the top: later findings may follow from earlier ones.\n"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let long = "word ".repeat(60);
        let text = render(&[finding("check", Status::Warn, "host", &long)], 60);
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert!(!render(&[finding("check", Status::Warn, "h\u{1b}[31m", "x")], 60).contains('\u{1b}'));
    }
}
