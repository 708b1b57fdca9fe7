//! The meaning of an errno at a step, or at every step.

use std::process::ExitCode;

use peerpath_bench::failure::Failure;
use peerpath_paths::{
    Cause, ErrnoMeaning, Explanation, Facts, Step, errno_meanings, errno_name, explain as meaning_at,
};
use serde::Serialize;

use crate::hints::CommandLine;
use crate::terminal::{self, print, print_json};
use crate::text_layout::hanging;

/// A meaning in JSON output.
#[derive(Serialize)]
struct Row<'a> {
    /// Step that returned the errno; `None` for every step without a documented meaning of its own for this errno.
    step: Option<&'static str>,
    errno: String,
    number: i32,
    cause: Option<Cause>,
    severity: Option<&'static str>,
    why: &'a str,
    remedy: &'a str,
}

pub(super) fn explain(
    errno: i32,
    step: Option<Step>,
    facts: &Facts,
    json: bool,
    command_line: &CommandLine,
) -> Result<ExitCode, Failure> {
    let meanings = match step {
        Some(step) => vec![ErrnoMeaning { step: Some(step), explanation: meaning_at(step, errno, facts) }],
        None => errno_meanings(errno, facts),
    };
    if json {
        let rows: Vec<_> = meanings.iter().map(|meaning| row(errno, meaning)).collect();
        print_json(&rows)?;
    } else {
        print(&text(errno, &meanings, command_line, terminal::width()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(errno: i32, meaning: &ErrnoMeaning) -> Row<'_> {
    let Explanation { cause, severity, why, remedy } = &meaning.explanation;
    Row {
        step: meaning.step.map(Step::name),
        errno: name(errno),
        number: errno,
        cause: *cause,
        severity: severity.map(|severity| severity.as_str()),
        why,
        remedy,
    }
}

fn name(errno: i32) -> String {
    errno_name(errno).unwrap_or_else(|| errno.to_string())
}

fn text(errno: i32, meanings: &[ErrnoMeaning], command_line: &CommandLine, width: usize) -> String {
    let name = name(errno);
    if meanings.is_empty() {
        return format!("{name} ({errno}) has no documented meaning at any step. Check the kernel log (dmesg).\n");
    }
    let mut blocks = Vec::new();
    for ErrnoMeaning { step, explanation } in meanings {
        let place = step.map_or("any other step".to_owned(), |step| format!("{} ({})", step.name(), step.as_str()));
        let severity = explanation.severity.map_or(String::new(), |severity| format!("  {}", severity.as_str()));
        let cause = explanation.cause.map_or(String::new(), |cause| format!(" [{cause}]"));
        let remedy = command_line.remedy(explanation.cause, &explanation.remedy);
        blocks.push(format!(
            "{name} ({errno}) at {place}{severity}\n{}{}",
            hanging("  why: ", 7, &format!("{}{cause}", explanation.why), width),
            hanging("   do: ", 7, &remedy, width),
        ));
    }
    blocks.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_a_block_per_step() {
        let meanings = errno_meanings(22, &Facts::default());
        let text = text(22, &meanings, &CommandLine::default(), usize::MAX);
        assert!(
            text.contains(
                "EINVAL (22) at register-dma-buf (registering the dma-buf)  failed\n  why: P2PDMA permits no path"
            ),
            "{text}"
        );
        assert!(text.contains("[no-iommu]\n   do: If the function has no IOMMU group"), "{text}");
    }

    #[test]
    fn reports_an_errno_without_a_meaning() {
        assert!(text(18, &[], &CommandLine::default(), 80).starts_with("EXDEV (18) has no documented meaning"));
    }
}
