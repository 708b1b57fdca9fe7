//! What a command tells the user when it could not do its work: what failed, why, and what to do.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use peerpath_paths::{Explained, Explanation, Severity};

/// An error on its way to the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failed, one sentence.
    pub what: String,
    /// Why, and what to do.
    pub explanation: Explanation,
    /// What kind of failure.
    pub severity: Severity,
}

impl Failure {
    /// A failure of ours or of the file system.
    pub fn internal(what: impl Into<String>, error: &dyn std::error::Error, remedy: &str) -> Self {
        Self {
            what: what.into(),
            explanation: Explanation::uncaused(chain(error), remedy),
            severity: Severity::Internal,
        }
    }

    /// Input that cannot be worked with.
    pub fn bad_input(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), explanation: Explanation::uncaused(why, remedy), severity: Severity::BadInput }
    }

    /// The exit code of the contract.
    pub fn exit_code(&self) -> u8 {
        match self.severity {
            Severity::Failed => 1,
            Severity::BadInput => 2,
            Severity::Unavailable => 3,
            Severity::Internal => 4,
        }
    }

    /// Prints it to standard error.
    pub fn report(&self) -> ExitCode {
        // With nobody left to read it, the exit code still tells.
        let _ = std::io::stderr().write_all(self.render().as_bytes());
        ExitCode::from(self.exit_code())
    }

    fn render(&self) -> String {
        let mut text = format!("error: {}\n", printable(&self.what));
        let Explanation { cause, why, remedy, .. } = &self.explanation;
        if !why.is_empty() {
            let cause = cause.map_or(String::new(), |cause| format!(" [{cause}]"));
            let _ = writeln!(text, "  why: {}{cause}", printable(why));
        }
        if !remedy.is_empty() {
            let _ = writeln!(text, "   do: {}", printable(remedy));
        }
        text
    }
}

impl Failure {
    /// What an error says, with everything behind it.
    pub fn of(error: &impl Explained) -> Self {
        Self { what: chain(error), explanation: error.explanation(), severity: error.severity() }
    }
}

impl<E: Explained> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { what: error.to_string(), explanation: error.explanation(), severity: error.severity() }
    }
}

/// An error and what is behind it, in one sentence.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        let next = error.to_string();
        if !text.contains(&next) {
            let _ = write!(text, ": {next}");
        }
        behind = error.source();
    }
    text
}

/// Text from outside (a file name, a device name) must not steer the terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_lines_and_no_escape_sequences() {
        let failure =
            Failure::bad_input("no function \u{1b}[31m here", "it is not in sysfs", "look at `peerpath list`");
        assert_eq!(
            failure.render(),
            "error: no function \u{fffd}[31m here\n  why: it is not in sysfs\n   do: look at `peerpath list`\n"
        );
        assert_eq!(failure.exit_code(), 2);
    }
}
