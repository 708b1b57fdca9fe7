//! Progress of a run on standard error: a bar on a terminal, otherwise one line per cell.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use peerpath_bench::failure::Failure;
use peerpath_bench::run::Progress;

use crate::hints::CommandLine;
use crate::{steps, terminal};

pub(super) struct Bar<'a> {
    bar: ProgressBar,
    on_terminal: bool,
    done: usize,
    total: usize,
    command_line: &'a CommandLine,
}

impl<'a> Bar<'a> {
    /// A bar for `total` cells.
    pub(super) fn new(total: usize, command_line: &'a CommandLine) -> Self {
        // Steps would be printed into the bar.
        let on_terminal = std::io::stderr().is_terminal() && !steps::is_verbose();
        let bar =
            if on_terminal && !steps::is_quiet() { ProgressBar::new(total as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("[{elapsed}] {bar:24} {pos}/{len} {wide_msg}") {
            bar.set_style(style);
        }
        Self { bar, on_terminal, done: 0, total, command_line }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar<'_> {
    fn begin(&mut self, what: &str) {
        self.bar.set_message(what.to_owned());
        if !self.on_terminal && !steps::is_quiet() {
            // A closed standard error does not stop the run.
            let _ = writeln!(std::io::stderr(), "[{}/{}] {what}", self.done + 1, self.total);
        }
    }

    fn end(&mut self) {
        self.done += 1;
        self.bar.inc(1);
    }

    fn failed(&mut self, failure: &Failure) {
        terminal::report(&self.command_line.complete(failure.clone()));
    }
}
