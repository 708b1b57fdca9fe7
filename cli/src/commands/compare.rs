//! `peerpath compare`.

mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_report::compare::{self, CompareError, Comparison, Options, Verdict};
use peerpath_report::saved::{self, RESULT_FILE, ReadError, ReadErrorReason, Saved};

use crate::terminal::{self, print, print_json};

/// Compare results with earlier ones, measurement by measurement.
#[derive(Debug, Args)]
#[command(
    override_usage = "peerpath compare [OPTIONS] <BASE.json> <NEW.json>\n       peerpath compare [OPTIONS] <BASE.json>... -- <NEW.json>...",
    after_help = "\
Examples:
  peerpath compare before/result.json after/result.json
  peerpath compare before after --threshold 10 --json
  peerpath compare --all before1 before2 before3 -- after1 after2 after3
      several runs of each: the comparison includes the variation from run to run
  peerpath report after --base before
      the comparison as an HTML report

A cell is one measurement: one combination of source, target, path, operation, mode, size and the other options of `run`. \
Each cell of the new results is compared with the same cell of the earlier ones. Below the table, each difference between \
the runs is named: program, host, devices and plan. With several results per side, options precede the `--`.

Each figure (median latency, p99 latency, throughput) has a row with its own verdict. The exit status is 1 if any row is worse.

Verdicts follow from the repeats of the cells (`run --repeat`). With two or more results per side, they follow from the medians \
of the results instead:
  better, worse  the change is larger than the threshold, and significant
  same           the 90 % confidence interval lies within the threshold
  inconclusive   neither; the table says how many repeats would decide
  incomparable   the other side lacks the cell

Results without repeats have only the verdicts inconclusive and incomparable, unless a cell failed or took another path. \
Repeats of one run do not show the variation from run to run: for changes that matter, alternate several runs of each side.

Without --force, emulated devices are not compared with hardware, nor soft RDMA with a device that moves the data itself. If \
one side lacks a cell but has a similar one (with another path, size, depth, operation or mechanism, or with data verified \
on only one side), both cells are listed as incomparable.

Exit status:
  0  nothing got worse; also if verdicts are inconclusive
  1  a cell got worse, failed, or has a less direct path
  2  invalid input, or nothing to compare"
)]
pub(super) struct Compare {
    /// Earlier result and new result; earlier results if `--` follows. A directory means the result.json in it
    #[arg(value_name = "BASE.json", required = true)]
    results: Vec<PathBuf>,
    /// New results
    #[arg(value_name = "NEW.json", last = true)]
    new: Vec<PathBuf>,
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
        let (base, new) = self.sides()?;
        let (base, new) = (read_all(base)?, read_all(new)?);
        let options = Options { threshold_percent: self.threshold, force: self.force };
        let comparison = compared(&base.iter().collect::<Vec<_>>(), &new.iter().collect::<Vec<_>>(), options)?;
        if self.json {
            print_json(&comparison)?;
        } else {
            print(&text::render(&comparison, self.all, terminal::width()))?;
        }
        Ok(ExitCode::from(match comparison.verdict {
            Verdict::Worse => 1,
            Verdict::Incomparable => 2,
            Verdict::Same | Verdict::Better | Verdict::Inconclusive => 0,
        }))
    }

    /// The files of both sides.
    fn sides(&self) -> Result<(&[PathBuf], &[PathBuf]), Failure> {
        match (self.results.as_slice(), self.new.as_slice()) {
            (all @ [_, _], []) => Ok(all.split_at(1)),
            (results, []) => Err(Failure::bad_input(
                "cannot tell the earlier results from the new ones",
                format!(
                    "{} given, and no `--`",
                    if results.len() == 1 {
                        "one result is".to_owned()
                    } else {
                        format!("{} results are", results.len())
                    }
                ),
                "use `peerpath compare BASE.json NEW.json`, or `peerpath compare BASE.json... -- NEW.json...`",
            )),
            sides => Ok(sides),
        }
    }
}

/// Reads a result file, or the result in a directory.
pub(super) fn read(named: &Path) -> Result<Saved, Failure> {
    saved::read(&file(named)).map_err(|error| unreadable(&error))
}

fn read_all(named: &[PathBuf]) -> Result<Vec<Saved>, Failure> {
    let files: Vec<PathBuf> = named.iter().map(|named| file(named)).collect();
    saved::read_all(files.iter().map(PathBuf::as_path)).map_err(|error| unreadable(&error))
}

fn file(named: &Path) -> PathBuf {
    if named.is_dir() { named.join(RESULT_FILE) } else { named.to_owned() }
}

pub(super) fn unreadable(ReadError { file, reason }: &ReadError) -> Failure {
    let what = format!("cannot read the result {}", file.display());
    let remedy = "name a result.json that `peerpath run` has saved, or its directory";
    match reason {
        ReadErrorReason::Unreadable(error) => Failure::unreadable(what, error, error.remedy(file, remedy)),
        _ => Failure::bad_input(what, reason.to_string(), remedy),
    }
}

pub(super) fn compared(base: &[&Saved], new: &[&Saved], options: Options) -> Result<Comparison, Failure> {
    compare::compare(base, new, options).map_err(|error| {
        let named = |side: &[&Saved]| {
            let first = side.first().map_or_else(String::new, |saved| saved.file.display().to_string());
            if side.len() > 1 { format!("{first} and {} more", side.len() - 1) } else { first }
        };
        let remedy = match error {
            CompareError::SameRun { .. } => "name each result once",
            _ => "choose results of the same kind, or use --force and do not rely on the changes",
        };
        Failure::bad_input(format!("cannot compare {} with {}", named(base), named(new)), error.to_string(), remedy)
    })
}
