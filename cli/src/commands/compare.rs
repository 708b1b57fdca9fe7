//! `peerpath compare`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_report::compare::{self, Comparison, Options, Verdict};
use peerpath_report::saved::{self, RESULT_FILE, Saved, Unread};

use crate::table::Table;
use crate::terminal::{self, print, print_json, printable};

/// Set a result against an earlier one, cell by cell, and end with 1 where something got worse.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath compare before/result.json after/result.json
  peerpath compare before after --threshold 10 --json
  peerpath report after --base before              the same as a section of a page

Cells are matched by what they are: memory, device, path, operation, direction, mode, size, depth, threads, queue pairs and \
mechanism. A change counts where it is beyond the threshold and the interval around it leaves out zero. The interval holds \
with 99 % confidence and comes from the ranks of the samples in both histograms, so few samples make it wide; for throughput \
it comes from the slowest windows. It holds what single runs scatter, not what differs from run to run.

Emulated devices are not set against hardware, nor soft RDMA against a NIC; cells that differ in path, size, depth, operation, \
mechanism or in whether their data were verified are named and not compared. --force compares them.

Exit: 0 nothing got worse; 1 a cell got worse, failed, or took a less direct path; 2 bad input, or nothing to compare.")]
pub(super) struct Compare {
    /// The earlier result: a file, or the folder of one
    #[arg(value_name = "BASE.json")]
    base: PathBuf,
    /// The later result
    #[arg(value_name = "NEW.json")]
    new: PathBuf,
    /// Changes of at most so many percent do not count
    #[arg(long, value_name = "PCT", default_value = "5", value_parser = threshold)]
    threshold: f64,
    /// Compare also what cannot be compared
    #[arg(long)]
    force: bool,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub(super) fn threshold(text: &str) -> Result<f64, String> {
    let percent: f64 = text.trim_end_matches('%').parse().map_err(|_| format!("{text:?} is no number of percent"))?;
    if (0.0..=1000.0).contains(&percent) { Ok(percent) } else { Err("a threshold is 0 to 1000 percent".to_owned()) }
}

impl Compare {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let (base, new) = (read(&self.base)?, read(&self.new)?);
        let comparison = compared(&base, &new, Options { threshold_percent: self.threshold, force: self.force })?;
        if self.json {
            print_json(&comparison)?;
        } else {
            print(&text(&comparison, terminal::width()))?;
        }
        Ok(ExitCode::from(match comparison.verdict {
            Verdict::Worse => 1,
            Verdict::Incomparable => 2,
            Verdict::Same | Verdict::Better => 0,
        }))
    }
}

/// Reads the result that is named, or the one of the folder that is.
pub(super) fn read(named: &Path) -> Result<Saved, Failure> {
    let file = if named.is_dir() { named.join(RESULT_FILE) } else { named.to_owned() };
    saved::read(&file).map_err(unread)
}

pub(super) fn unread(Unread { file, why }: Unread) -> Failure {
    let what = format!("{} cannot be read as a result", file.display());
    Failure::bad_input(what, why.to_string(), "name the result.json that `peerpath run` has saved, or its folder")
}

pub(super) fn compared(base: &Saved, new: &Saved, options: Options) -> Result<Comparison, Failure> {
    compare::compare(base, new, options).map_err(|refused| {
        Failure::bad_input(
            format!("{} and {} cannot be compared", base.file.display(), new.file.display()),
            refused.why,
            "compare results of one kind, or --force it and do not trust the figures",
        )
    })
}

/// The table, the sentences behind it, and what it comes to.
fn text(comparison: &Comparison, width: usize) -> String {
    let columns = [
        ("verdict", false, 0),
        ("cell", false, 0),
        ("metric", false, 1),
        ("base", true, 2),
        ("new", true, 2),
        ("change", true, 0),
        ("between", true, 1),
        ("why", false, 3),
    ];
    let mut table = Table::new(&columns);
    for row in compare::by_weight(comparison) {
        table.push(vec![
            row.verdict.as_str().to_owned(),
            row.key.clone(),
            compare::metric(row.metric).to_owned(),
            compare::figure(row.metric, row.base),
            compare::figure(row.metric, row.new),
            compare::change(row),
            compare::bounds(row),
            row.why.clone(),
        ]);
    }
    let notes: String = comparison.notes.iter().map(|note| format!("note: {}\n", printable(note))).collect();
    format!("{}\n{notes}{}\n{}\n", table.render(width), comparison.method, compare::summary(comparison))
}
