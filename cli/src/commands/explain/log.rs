//! A filter for kernel logs: every line passes through, and an explanation follows each recognized line.

use std::collections::HashSet;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write};
use std::process::ExitCode;

use peerpath_bench::failure::Failure;
use peerpath_paths::kernel_log::{self, LogExplanation};
use peerpath_paths::{Cause, Severity, printable};
use serde::Serialize;

use super::host_names::HostNames;
use crate::steps::is_quiet;
use crate::terminal;
use crate::text_layout::hanging;

/// Length of the first part of a line, in bytes; the rest is not searched for a message. Lines of the kernel have at most 1
/// KiB, lines of journald at most 48 KiB.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// Maximum number of explanations that are remembered, so that each is printed only once.
const MAX_REMEMBERED: usize = 4096;

/// What to print.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    /// Omit lines without an explanation.
    pub(super) only: bool,
    /// Explain lines about normal operation, too.
    pub(super) routine: bool,
    pub(super) json: bool,
}

/// Explains a log until its end. A closed output pipe (`| head`) ends the explanation without an error.
pub(super) fn explain(input: impl Read, options: Options, names: HostNames) -> Result<ExitCode, Failure> {
    let output = BufWriter::new(io::stdout().lock());
    let mut filter =
        Filter { options, names, width: terminal::width(), explained: HashSet::new(), recognized: false, output };
    match filter.run(BufReader::new(input)) {
        Ok(()) => {
            if options.only && !filter.recognized && !is_quiet() {
                terminal::note("no line of the log is recognized");
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(End::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(End::Write(error)) => Err(Failure::internal(
            "cannot write to standard output",
            &error,
            "check the file or pipe that it is redirected to",
        )),
        Err(End::Read(error)) => {
            Err(Failure::bad_input("cannot read the log", error.to_string(), "name a readable file"))
        }
    }
}

/// Why the explanation stopped before the end of the log.
#[derive(Debug)]
enum End {
    Read(io::Error),
    Write(io::Error),
}

struct Filter<W> {
    options: Options,
    names: HostNames,
    width: usize,
    explained: HashSet<String>,
    /// Whether the log has a recognized line.
    recognized: bool,
    output: W,
}

/// A recognized line in JSON output.
#[derive(Serialize)]
struct Record<'a> {
    line: &'a str,
    family: &'static str,
    functions: Vec<FunctionRecord<'a>>,
    cause: Option<Cause>,
    severity: Option<&'static str>,
    why: &'a str,
    remedy: &'a str,
    routine: bool,
    /// BAR that contains the address of a blocked access, taken as a physical address: `0000:03:00.0:2`.
    bar: Option<String>,
}

#[derive(Serialize)]
struct FunctionRecord<'a> {
    bdf: String,
    name: Option<&'a str>,
    driver: Option<&'a str>,
}

impl<W: Write> Filter<W> {
    fn run(&mut self, mut input: BufReader<impl Read>) -> Result<(), End> {
        let mut part = Vec::new();
        // The meaning of the current line, and whether its last part ended the line.
        let mut meaning: Option<(String, LogExplanation)> = None;
        let mut ended = true;
        loop {
            part.clear();
            input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut part).map_err(End::Read)?;
            if part.is_empty() {
                break;
            }
            if ended {
                meaning = self.meaning(&part);
            }
            ended = part.ends_with(b"\n");
            self.pass(&part, meaning.is_some()).map_err(End::Write)?;
            if ended {
                self.explain(meaning.take()).map_err(End::Write)?;
            }
            // No more input is buffered: flush, so that lines of `dmesg -w` appear immediately.
            if input.buffer().is_empty() {
                self.output.flush().map_err(End::Write)?;
            }
        }
        if !ended && meaning.is_some() && !self.options.json {
            self.output.write_all(b"\n").map_err(End::Write)?;
        }
        self.explain(meaning).and_then(|()| self.output.flush()).map_err(End::Write)
    }

    fn meaning(&self, part: &[u8]) -> Option<(String, LogExplanation)> {
        let line = String::from_utf8_lossy(part);
        let line = line.trim_end_matches(['\n', '\r']);
        let meaning = kernel_log::explain(line)?;
        (!meaning.routine || self.options.routine).then(|| (line.to_owned(), meaning))
    }

    /// Writes a part of a line unchanged.
    fn pass(&mut self, part: &[u8], recognized: bool) -> io::Result<()> {
        let wanted = !self.options.json && (recognized || !self.options.only);
        if wanted { self.output.write_all(part) } else { Ok(()) }
    }

    fn explain(&mut self, meaning: Option<(String, LogExplanation)>) -> io::Result<()> {
        let Some((line, meaning)) = meaning else { return Ok(()) };
        self.recognized = true;
        if self.options.json { self.write_record(&line, &meaning) } else { self.write_text(&line, &meaning) }
    }

    fn write_record(&mut self, line: &str, meaning: &LogExplanation) -> io::Result<()> {
        let functions = meaning.functions.iter().map(|bdf| {
            let known = self.names.function(*bdf);
            FunctionRecord {
                bdf: bdf.to_string(),
                name: known.map(|function| function.name.as_str()),
                driver: known.and_then(|function| function.driver.as_deref()),
            }
        });
        let record = Record {
            line,
            family: meaning.family.as_str(),
            functions: functions.collect(),
            cause: meaning.explanation.cause,
            severity: meaning.explanation.severity.map(Severity::as_str),
            why: &meaning.explanation.why,
            remedy: &meaning.explanation.remedy,
            routine: meaning.routine,
            bar: self.bar(line).map(|(bdf, bar)| format!("{bdf}:{bar}")),
        };
        let text = serde_json::to_string(&record)?;
        writeln!(self.output, "{text}")
    }

    fn write_text(&mut self, line: &str, meaning: &LogExplanation) -> io::Result<()> {
        let cause = meaning.explanation.cause.map_or(String::new(), |cause| format!(" [{cause}]"));
        let mut facts = String::new();
        for bdf in &meaning.functions {
            let Some(function) = self.names.function(*bdf) else { continue };
            let driver =
                function.driver.as_ref().map_or(", no driver".to_owned(), |driver| format!(", driver {driver}"));
            let text = format!("{bdf}{} is {}{driver}", self.names.place(), function.name);
            facts += &hanging("   on: ", 7, &printable(&text), self.width);
        }
        if let Some((bdf, bar)) = self.bar(line) {
            let text = format!("as a physical address, the address lies in BAR {bar} of {bdf}{}", self.names.place());
            facts += &hanging("   at: ", 7, &text, self.width);
        }
        let remedy = &meaning.explanation.remedy;
        let mut text = hanging("  why: ", 7, &format!("{}{cause}", meaning.explanation.why), self.width);
        if !remedy.is_empty() {
            text += &hanging("   do: ", 7, remedy, self.width);
        }
        text += &facts;
        // A log can repeat a message thousands of times.
        if self.explained.contains(&text) {
            text = format!("  why: explained above{cause}\n");
        } else {
            if self.explained.len() == MAX_REMEMBERED {
                self.explained.clear();
            }
            self.explained.insert(text.clone());
        }
        self.output.write_all(text.as_bytes())
    }

    fn bar(&self, line: &str) -> Option<(peerpath_paths::Bdf, u8)> {
        kernel_log::blocked_address(line).and_then(|address| self.names.bar_at(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FAULT: &str = "[   12.3] DMAR: [DMA Write NO_PASID] Request device [0000:03:00.0] fault addr 0x1000 [fault reason 0x05] \
                         PTE Write access is not set";

    fn filtered(input: &[u8], options: Options) -> Vec<u8> {
        let mut filter = Filter {
            options,
            names: HostNames::none(),
            width: usize::MAX,
            explained: HashSet::new(),
            recognized: false,
            output: Vec::new(),
        };
        filter.run(BufReader::new(input)).unwrap();
        filter.output
    }

    const TEXT: Options = Options { only: false, routine: false, json: false };

    fn text(input: &str, options: Options) -> String {
        String::from_utf8(filtered(input.as_bytes(), options)).unwrap()
    }

    #[test]
    fn an_explanation_follows_its_line() {
        let found = text(&format!("before\n{FAULT}\r\nafter"), TEXT);
        assert!(
            found.starts_with(&format!("before\n{FAULT}\r\n  why: The IOMMU blocked a write by 0000:03:00.0")),
            "{found}"
        );
        assert!(found.contains("[iommu-fault]\n   do: Check") && found.ends_with(".\nafter"), "{found}");
    }

    #[test]
    fn an_unfinished_line_is_explained_on_its_own_line() {
        let found = text(FAULT, TEXT);
        assert!(found.starts_with(&format!("{FAULT}\n  why: ")), "{found}");
    }

    #[test]
    fn a_repeated_explanation_is_printed_once() {
        let found = text(&format!("{FAULT}\n{FAULT}\n"), TEXT);
        assert_eq!(found.matches("   do: ").count(), 1, "{found}");
        assert!(found.ends_with("  why: explained above [iommu-fault]\n"), "{found}");
    }

    #[test]
    fn only_omits_other_lines_and_all_adds_routine_ones() {
        let log = format!("before\n{FAULT}\nDMAR: IOMMU enabled\n");
        let only = text(&log, Options { only: true, ..TEXT });
        assert!(only.starts_with("[   12.3] DMAR") && !only.contains("enabled"), "{only}");
        let all = text(&log, Options { only: true, routine: true, ..TEXT });
        assert!(all.contains("DMAR: IOMMU enabled\n  why: "), "{all}");
    }

    #[test]
    fn json_has_one_line_per_recognized_line() {
        let found = text(&format!("before\n{FAULT}\nafter\n{FAULT}"), Options { json: true, ..TEXT });
        let records: Vec<serde_json::Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records.len(), 2);
        assert_eq!((&records[0]["line"], &records[0]["cause"]), (&FAULT.into(), &"iommu-fault".into()));
        assert_eq!(records[0]["functions"][0]["bdf"], "0000:03:00.0");
    }

    #[test]
    fn a_line_of_any_length_passes_in_parts_and_is_explained_once() {
        let log = format!("{FAULT}{}\nafter\n", " ".repeat(3 * MAX_LINE_BYTES as usize));
        let found = text(&log, TEXT);
        assert_eq!(found.matches("  why: ").count(), 1);
        assert!(found.starts_with(log.strip_suffix("after\n").unwrap()) && found.ends_with("\nafter\n"));
        // The message is beyond the part of the line that is searched.
        let hidden = format!("{}{FAULT}\n", " ".repeat(3 * MAX_LINE_BYTES as usize));
        assert_eq!(text(&hidden, TEXT), hidden);
    }

    proptest! {
        #[test]
        fn unknown_lines_pass_byte_for_byte(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assume!(!bytes.split(|byte| *byte == b'\n').any(|line| {
                kernel_log::explain(&String::from_utf8_lossy(line)).is_some()
            }));
            prop_assert_eq!(filtered(&bytes, TEXT), bytes);
        }

        #[test]
        fn every_byte_of_the_input_is_in_the_output(lines in prop::collection::vec(prop_oneof![
            Just(FAULT.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..100),
        ], 0..20)) {
            let input = lines.join(&b'\n');
            let output = filtered(&input, TEXT);
            // The input is a subsequence of the output.
            let mut rest = output.iter();
            prop_assert!(input.iter().all(|byte| rest.any(|other| other == byte)));
        }
    }
}
