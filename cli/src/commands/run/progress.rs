//! Progress of a run on standard error: a bar on a terminal, otherwise one line per cell.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use peerpath_bench::failure::Failure;
use peerpath_bench::run::Progress;
use peerpath_paths::printable;

use crate::hints::CommandLine;
use crate::{steps, terminal};

pub(super) struct Bar<'a> {
    bar: ProgressBar,
    on_terminal: bool,
    done: usize,
    total: usize,
    file: PathBuf,
    command_line: &'a CommandLine,
}

impl<'a> Bar<'a> {
    /// A bar for `total` cells.
    pub(super) fn new(total: usize, command_line: &'a CommandLine) -> Self {
        // Printed steps would overwrite the progress bar.
        let on_terminal = std::io::stderr().is_terminal() && !steps::is_verbose();
        let bar =
            if on_terminal && !steps::is_quiet() { ProgressBar::new(total as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("[{elapsed}] {bar:24} {pos}/{len} {wide_msg}") {
            bar.set_style(style);
        }
        Self { bar, on_terminal, done: 0, total, file: PathBuf::new(), command_line }
    }

    /// The file that the result is saved to; empty before the run starts.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar<'_> {
    fn saving(&mut self, file: &Path) {
        self.file = file.to_owned();
    }

    fn begin(&mut self, what: &str) {
        self.bar.set_message(printable(what));
        if !self.on_terminal && !steps::is_quiet() {
            terminal::note(&format!("[{}/{}] {what}", self.done + 1, self.total));
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
