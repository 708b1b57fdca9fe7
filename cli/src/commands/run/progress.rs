//! Progress of a run on standard error: one line per finished cell, and on a terminal a bar with the remaining time below them.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use peerpath_bench::failure::Failure;
use peerpath_bench::result::Cell;
use peerpath_bench::run::Progress;
use peerpath_paths::printable;

use super::finished;
use crate::hints::CommandLine;
use crate::{steps, terminal};

/// Before a cell has finished, the remaining time is unknown.
const FIRST_CELL: &str = "[{elapsed}] {pos}/{len} {wide_msg}";
const LATER_CELLS: &str = "[{elapsed}, ETA {eta}] {pos}/{len} {bar:12} {wide_msg}";

pub(super) struct Bar<'a> {
    bar: ProgressBar,
    done: usize,
    total: usize,
    file: PathBuf,
    command_line: &'a CommandLine,
}

impl<'a> Bar<'a> {
    /// A bar for `total` cells.
    pub(super) fn new(total: usize, command_line: &'a CommandLine) -> Self {
        // Printed steps would overwrite the progress bar. The library hides the bar on a terminal that cannot move its cursor.
        let is_shown = !steps::is_verbose() && !steps::is_quiet();
        let bar = if is_shown { ProgressBar::new(total as u64) } else { ProgressBar::hidden() };
        let bar = Self { bar, done: 0, total, file: PathBuf::new(), command_line };
        bar.set_style(FIRST_CELL);
        bar
    }

    /// The file that the result is saved to; empty before the run starts.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn set_style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }
}

impl Progress for Bar<'_> {
    fn saving(&mut self, file: &Path) {
        self.file = file.to_owned();
    }

    fn begin(&mut self, what: &str) {
        self.bar.set_message(printable(what));
    }

    fn end(&mut self, cell: &Cell) {
        self.done += 1;
        if !steps::is_quiet() {
            let line = finished::line(self.done, self.total, cell, terminal::error_width());
            self.bar.suspend(|| terminal::note(&line));
        }
        if self.done == 1 {
            self.set_style(LATER_CELLS);
        }
        self.bar.inc(1);
    }

    fn failed(&mut self, failure: &Failure) {
        self.bar.suspend(|| terminal::report(&self.command_line.complete(failure.clone())));
    }
}
