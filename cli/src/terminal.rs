//! Standard output and standard error: text, JSON, failures and exit codes.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::builder::Styles;
use peerpath_bench::failure::Failure;
use peerpath_paths::{Explanation, Severity, printable, printable_lines};
use serde::{Serialize, Serializer as _};

/// Writes text of several lines to standard output. A closed pipe (`| head`) is not an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    stream(|out| out.write_all(text.as_bytes()))
}

/// Writes the output of `write` to standard output as it is produced, with control characters replaced. A closed pipe ends
/// `write` and is not an error.
pub(crate) fn stream(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = Printable(BufWriter::new(io::stdout().lock()));
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::internal(
            "cannot write to standard output",
            &error,
            "check the file or pipe that it is redirected to",
        )),
        _ => Ok(()),
    }
}

/// Writes a line of text to standard error. A closed standard error is not an error.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{}", printable(line));
}

/// Writes text through [`printable_lines`]. Each write has to contain whole characters.
struct Printable<W>(W);

impl<W: Write> Write for Printable<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.write_all(printable_lines(&String::from_utf8_lossy(text)).as_bytes())?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Prints a JSON array, one element at a time.
pub(crate) fn print_json_array(elements: impl Iterator<Item = impl Serialize>) -> Result<(), Failure> {
    stream(|out| {
        serde_json::Serializer::pretty(&mut *out).collect_seq(elements)?;
        out.write_all(b"\n")
    })
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => Err(Failure::internal("cannot write the output as JSON", &error, "report this as a bug")),
    }
}

/// Prints a value as one line of JSON.
pub(crate) fn print_json_line(value: &impl Serialize) -> Result<(), Failure> {
    match serde_json::to_string(value) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => Err(Failure::internal("cannot write the output as JSON", &error, "report this as a bug")),
    }
}

/// Prints a failure to standard error and returns its exit code.
pub(crate) fn report(failure: &Failure) -> ExitCode {
    // If standard error is closed, the exit code still reports the failure.
    let _ = anstream::stderr().write_all(styled(&render(failure)).as_bytes());
    ExitCode::from(exit_code(failure.severity))
}

/// Exit code of a severity, as documented in the README.
pub(crate) fn exit_code(severity: Severity) -> u8 {
    match severity {
        Severity::Failed => 1,
        Severity::BadInput => 2,
        Severity::Unavailable => 3,
        Severity::Internal => 4,
    }
}

/// Prints a note about what was done to standard output, except with `--quiet`.
pub(crate) fn notice(text: &str) -> Result<(), Failure> {
    if crate::steps::is_quiet() { Ok(()) } else { print(text) }
}

/// Colours the label of an error as clap does. The stream removes the colours where they are not wanted.
fn styled(text: &str) -> String {
    let style = Styles::styled();
    let style = style.get_error();
    text.replacen("error:", &format!("{style}error:{style:#}"), 1)
}

fn render(failure: &Failure) -> String {
    let mut text = format!("error: {}\n", printable(&failure.what));
    let Explanation { cause, why, remedy, .. } = &failure.explanation;
    if !why.is_empty() {
        let cause = cause.map_or(String::new(), |cause| format!(" [{cause}]"));
        let _ = writeln!(text, "  why: {}{cause}", printable(why));
    }
    if !remedy.is_empty() {
        let _ = writeln!(text, "   do: {}", printable(remedy));
    }
    text
}

/// Width of the terminal in columns; unlimited if standard output is a pipe or a file.
pub(crate) fn width() -> usize {
    width_of(io::stdout())
}

/// Width of the terminal that shows standard error, in columns; unlimited if it is a pipe or a file.
pub(crate) fn error_width() -> usize {
    width_of(io::stderr())
}

fn width_of(stream: impl io::IsTerminal + AsFd) -> usize {
    if !stream.is_terminal() {
        return usize::MAX;
    }
    match terminal_size::terminal_size_of(stream) {
        Some((terminal_size::Width(width), _)) if width > 0 => width.into(),
        _ => 80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_has_no_characters_that_control_a_terminal() {
        let mut out = Printable(Vec::new());
        let (colour, reversed) = ("\u{1b}[31m", "\u{202e}");
        write!(out, "a{colour}\n{reversed}c\n").unwrap();
        assert_eq!(String::from_utf8(out.0).unwrap(), "a\u{fffd}[31m\n\u{fffd}c\n");
    }

    #[test]
    fn prints_three_lines_without_escape_sequences() {
        let failure = Failure::bad_input("no function \u{1b}[31m here", "it is not in sysfs", "see `peerpath list`");
        assert_eq!(
            render(&failure),
            "error: no function \u{fffd}[31m here\n  why: it is not in sysfs\n   do: see `peerpath list`\n"
        );
        assert_eq!(exit_code(failure.severity), 2);
    }
}
