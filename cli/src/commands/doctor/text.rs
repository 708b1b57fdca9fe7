//! Findings as text: failures first, then warnings and unknowns in full, and one line for all passed checks.

use std::collections::{HashMap, HashSet};

use peerpath_paths::doctor::{Finding, Status};
use peerpath_paths::{Cause, printable};

use crate::hints::CommandLine;
use crate::text_layout::hanging;

/// Maximum width: longer lines are hard to read even on a wide terminal.
const MAX_WIDTH: usize = 100;
/// Maximum number of findings of one check with the same remedy.
const ALIKE_SHOWN: usize = 4;
const ALIKE_ABOVE: usize = ALIKE_SHOWN + 1;
/// Column at which the text of a finding starts.
const INDENT: usize = 9;

/// Formats the findings in at most `width` columns.
pub(super) fn render(findings: &[Finding], command_line: &CommandLine, width: usize) -> String {
    let width = width.clamp(40, MAX_WIDTH);
    let mut text = String::new();
    for status in [Status::Fail, Status::Warn, Status::Unknown] {
        // A large host has hundreds of findings that differ in their text only, e.g. one per IOMMU group. Print only some.
        let mut alike: HashMap<(&str, Option<Cause>, Option<&str>), usize> = HashMap::new();
        let groups = Group::all(findings, status);
        for group in &groups {
            let count = alike.entry(group.kind()).or_default();
            *count += 1;
            if *count <= ALIKE_SHOWN {
                text += &group.render(command_line, width);
            }
        }
        for group in groups {
            if let Some(count @ ALIKE_ABOVE..) = alike.remove(&group.kind()) {
                let more = format!(
                    "{}: {} more findings with this remedy; --json lists them.",
                    group.checks.join(", "),
                    count - ALIKE_SHOWN
                );
                text += &paragraph(status.as_str(), &more, width);
            }
        }
    }
    // The user asks for the predicted path, and for the rule that decides it, so both are printed in full even if the checks
    // passed.
    for (check, head) in [("exporter-rule", "rule"), ("path", "path")] {
        for finding in findings.iter().filter(|finding| finding.check == check && finding.status == Status::Pass) {
            text += &paragraph(head, &format!("{}: {}", finding.subject, finding.detail), width);
        }
    }
    let passed: Vec<&str> = of(findings, Status::Pass).map(|finding| finding.check).collect();
    let name = |alike: &[&str]| match alike.len() {
        1 => alike[0].to_owned(),
        count => format!("{} ({count})", alike[0]),
    };
    let passed: Vec<String> = passed.chunk_by(|one, next| one == next).map(name).collect();
    if !passed.is_empty() {
        text += &paragraph("pass", &passed.join(", "), width);
    }
    let counts: Vec<_> = Status::ALL
        .iter()
        .map(|status| (of(findings, *status).count(), status))
        .filter(|(count, _)| *count > 0)
        .map(|(count, status)| format!("{count} {status}"))
        .collect();
    format!("{text}\nChecks, once per object: {}\n{}", counts.join(", "), hint(findings))
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
        let mut position: HashMap<(&str, Option<&str>, Option<Cause>), usize> = HashMap::new();
        let mut seen: HashSet<(usize, &str)> = HashSet::new();
        for finding in of(findings, status) {
            let at =
                *position.entry((&finding.detail, finding.remedy.as_deref(), finding.cause)).or_insert(groups.len());
            if at == groups.len() {
                groups.push(Self { first: finding, checks: Vec::new(), subjects: Vec::new() });
            }
            let group = &mut groups[at];
            if !group.checks.contains(&finding.check) {
                group.checks.push(finding.check);
            }
            if seen.insert((at, &finding.subject)) {
                group.subjects.push(&finding.subject);
            }
        }
        groups
    }

    fn kind(&self) -> (&'a str, Option<Cause>, Option<&'a str>) {
        (self.first.check, self.first.cause, self.first.remedy.as_deref())
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

fn paragraph(head: &str, words: &str, width: usize) -> String {
    hanging(head, INDENT, &printable(words), width)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            finding("e", Status::Pass, "0000:03:00.0", "Good."),
            finding("e", Status::Pass, "0000:04:00.0", "Good."),
        ];
        let text = render(&findings, &CommandLine::default(), usize::MAX);
        assert_eq!(
            text,
            "fail     d: Broken. [no-iommu]\n     do: Do this.\n\
             unknown  b, c (host, 0000:03:00.0): Not readable.\n     do: Do this.\n\
             pass     a, e (2)\n\nChecks, once per object: 1 fail, 2 unknown, 3 pass\n\
             Start at the top: a failure can cause the ones below it.\n"
        );
    }

    #[test]
    fn counts_similar_findings_of_a_large_host() {
        let findings: Vec<_> =
            (0..100).map(|group| finding("iommu-group", Status::Fail, "x", &format!("Group {group}."))).collect();
        let text = render(&findings, &CommandLine::default(), usize::MAX);
        assert!(text.contains("Group 3.") && !text.contains("Group 4."), "{text}");
        assert!(text.contains("iommu-group: 96 more findings") && text.contains("100 fail"), "{text}");
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
