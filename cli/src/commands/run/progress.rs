//! Progress of a run on standard error: one line per finished cell, and on a terminal a bar with the remaining time below them.
//! Elsewhere, one line per round of repeats, because a cell finishes only in the last round.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use peerpath_bench::failure::Failure;
use peerpath_bench::result::Cell;
use peerpath_bench::run::Progress;
use peerpath_paths::printable;
use peerpath_report::units::RateUnit;

use super::finished;
use crate::hints::CommandLine;
use crate::{steps, terminal};

/// Before a repeat has ended, the remaining time is unknown.
const FIRST: &str = "[{elapsed}] {pos}/{len} {wide_msg}";
const LATER: &str = "[{elapsed}, ETA {eta}] {pos}/{len} {bar:12} {wide_msg}";

pub(super) struct Bar<'a> {
    /// Counts the repeats of all cells.
    bar: ProgressBar,
    /// Number of finished cells.
    done: usize,
    /// Number of cells, without those that are skipped.
    total: usize,
    /// Number of cells that are skipped, because the result contains them.
    skipped: usize,
    repeats: u32,
    /// Index of the repeat that runs.
    round: u32,
    /// Whether finished cells are printed as JSON on standard output.
    json: bool,
    unit: RateUnit,
    file: PathBuf,
    command_line: &'a CommandLine,
}

impl<'a> Bar<'a> {
    /// A bar for `total` cells with `repeats` repeats each. `json`: also prints each finished cell on standard output.
    pub(super) fn new(total: usize, repeats: u32, json: bool, unit: RateUnit, command_line: &'a CommandLine) -> Self {
        // Printed steps would overwrite the progress bar. The library hides the bar on a terminal that cannot move its cursor.
        let is_shown = !steps::is_verbose() && !steps::is_quiet();
        let bar = if is_shown { ProgressBar::new(total as u64 * u64::from(repeats)) } else { ProgressBar::hidden() };
        let bar =
            Self { bar, done: 0, total, skipped: 0, repeats, round: 0, json, unit, file: PathBuf::new(), command_line };
        bar.set_style(FIRST);
        bar
    }

    /// The file that the result is saved to; empty before the run starts.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The number of cells that the result contained already.
    pub(super) fn skipped(&self) -> usize {
        self.skipped
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
        // The first cell may take long, e.g. while the host is reconfigured for its path.
        if self.bar.is_hidden() && !steps::is_quiet() {
            let repeats = if self.repeats > 1 { format!(", {} repeats each", self.repeats) } else { String::new() };
            terminal::note(&format!("{} cells{repeats}; saving to {}", self.total, file.display()));
        }
    }

    fn skipping(&mut self, cells: usize) {
        (self.skipped, self.total) = (cells, self.total.saturating_sub(cells));
        self.bar.set_length(self.total as u64 * u64::from(self.repeats));
    }

    fn begin(&mut self, what: &str, repeat: u32) {
        if repeat > self.round && self.bar.is_hidden() && !steps::is_quiet() {
            terminal::note(&format!("repeat {} of {}", repeat + 1, self.repeats));
        }
        self.round = repeat;
        let number =
            if self.repeats > 1 { format!("repeat {} of {}: ", repeat + 1, self.repeats) } else { String::new() };
        self.bar.set_message(number + &printable(what));
    }

    fn end(&mut self, cell: &Cell, left: u32) {
        self.set_style(LATER);
        self.bar.inc(1);
        if left > 0 {
            return;
        }
        // A cell that did not pass is not repeated.
        let omitted = self.repeats.saturating_sub(self.round + 1);
        self.bar.set_length(self.bar.length().unwrap_or(0).saturating_sub(omitted.into()));
        self.done += 1;
        if self.json {
            // An error of standard output, e.g. a closed pipe, must not end the run: its result is saved.
            let _ = self.bar.suspend(|| terminal::print_json_line(cell));
        }
        if !steps::is_quiet() {
            let line = finished::line(self.done, self.total, cell, self.unit, terminal::error_width());
            self.bar.suspend(|| terminal::note(&line));
        }
    }

    fn failed(&mut self, failure: &Failure) {
        self.bar.suspend(|| terminal::report(&self.command_line.complete(failure.clone())));
    }
}
