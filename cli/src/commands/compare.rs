//! `peerpath compare`.

mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_report::compare::{self, Comparison, Options, Verdict};
use peerpath_report::saved::{self, RESULT_FILE, ReadError, ReadErrorReason, Saved};

use crate::terminal::{self, print, print_json};

/// Compare a result with an earlier one, measurement by measurement.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath compare before/result.json after/result.json
  peerpath compare before after --threshold 10 --json
  peerpath report after --base before       the comparison as an HTML report

A cell is one measurement: one combination of source, target, path, operation, mode, size and the other options of `run`. \
Each cell of the new result is compared with the same cell of the earlier one. Below the table, each difference between \
the two runs is named: program, host, devices and plan.

A cell is better or worse if its change is larger than the threshold and the uncertainty interval of the change excludes \
zero. For a latency this is the 99% confidence interval from the ranks of the samples in both histograms. For a throughput, the interval \
has no confidence level: each run is divided into windows of at least 100 ms. The lower bound is the change from the mean of the earlier run to the lowest window of the new \
run; the upper bound is the change from the lowest window of the earlier run to the mean of the new run. Both intervals cover \
the variation within each run, not the variation between runs.

Without --force, emulated devices are not compared with hardware, nor soft RDMA with a device that moves the data itself. If \
one result lacks a cell but has a similar one (with another path, size, depth, operation or mechanism, or with data verified \
in only one of the two), both cells are listed as incomparable.

Exit status:
  0  nothing got worse
  1  a cell got worse, failed, or has a less direct path
  2  invalid input, or nothing to compare")]
pub(super) struct Compare {
    /// Earlier result, or its directory
    #[arg(value_name = "BASE.json")]
    base: PathBuf,
    /// New result, or its directory
    #[arg(value_name = "NEW.json")]
    new: PathBuf,
    /// Smallest change in percent that counts as better or worse
    #[arg(long, value_name = "PCT", default_value = "5", value_parser = threshold)]
    threshold: f64,
    /// Also compare emulated devices with hardware, and soft RDMA with other devices
    #[arg(long)]
    force: bool,
    /// Also list what did not change
    #[arg(long)]
    all: bool,
    /// Print JSON, with every cell
    #[arg(long)]
    json: bool,
}

pub(super) fn threshold(text: &str) -> Result<f64, String> {
    let percent: f64 = text.trim_end_matches('%').parse().map_err(|_| "use a number of percent such as 5 or 0.5")?;
    if (0.0..=1000.0).contains(&percent) { Ok(percent) } else { Err("use 0 to 1000 percent".to_owned()) }
}

impl Compare {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let (base, new) = (read(&self.base)?, read(&self.new)?);
        let comparison = compared(&base, &new, Options { threshold_percent: self.threshold, force: self.force })?;
        if self.json {
            print_json(&comparison)?;
        } else {
            print(&text::render(&comparison, self.all, terminal::width()))?;
        }
        Ok(ExitCode::from(match comparison.verdict {
            Verdict::Worse => 1,
            Verdict::Incomparable => 2,
            Verdict::Same | Verdict::Better => 0,
        }))
    }
}

/// Reads a result file, or the result in a directory.
pub(super) fn read(named: &Path) -> Result<Saved, Failure> {
    let file = if named.is_dir() { named.join(RESULT_FILE) } else { named.to_owned() };
    saved::read(&file).map_err(|error| unreadable(&error))
}

pub(super) fn unreadable(ReadError { file, reason }: &ReadError) -> Failure {
    let what = format!("cannot read the result {}", file.display());
    let remedy = "name a result.json that `peerpath run` has saved, or its directory";
    match reason {
        ReadErrorReason::Unreadable(error) => Failure::unreadable(what, error, remedy),
        _ => Failure::bad_input(what, reason.to_string(), remedy),
    }
}

pub(super) fn compared(base: &Saved, new: &Saved, options: Options) -> Result<Comparison, Failure> {
    compare::compare(base, new, options).map_err(|error| {
        Failure::bad_input(
            format!("cannot compare {} with {}", base.file.display(), new.file.display()),
            error.to_string(),
            "choose results of the same kind, or use --force and do not rely on the changes",
        )
    })
}
