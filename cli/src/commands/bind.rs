//! `peerpath bind` and `peerpath restore`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_host::{Bound, Options, Outcome, Restored, bind, restore};
use peerpath_observe as observe;
use peerpath_paths::{Bdf, ParseBdfError};

use super::signals::complete_despite_signals;
use crate::terminal::{self, print};

/// Bind functions to vfio-pci and record their drivers for `restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath bind 0000:03:00.0
  peerpath restore              revert this and every other change

Exit status: 0 if every function is bound to a VFIO driver, 2 for a function that does not exist, 3 if a function cannot be \
bound, e.g. because it is in use; in that case no function is bound.")]
pub(super) struct Bind {
    /// Functions, e.g. 0000:03:00.0
    #[arg(value_name = "BDF", required = true, value_parser = function)]
    functions: Vec<Bdf>,
    /// Unbind functions that are in use. A NIC with the default route, the login session or a soft RDMA device in use, a
    /// function with enabled virtual functions, and a drive with a mounted file system, are never unbound
    #[arg(long)]
    force_in_use: bool,
}

/// Parses the address of a function. A BAR after it is an error of its own, because `run` and `export` take one.
fn function(text: &str) -> Result<Bdf, String> {
    if let Some(bdf) = text.rsplit_once(':').and_then(|(bdf, _)| bdf.parse::<Bdf>().ok()) {
        return Err(format!("bind takes a function without a BAR: {bdf}"));
    }
    text.parse().map_err(|error: ParseBdfError| error.why().to_owned())
}

impl Bind {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let interrupt = complete_despite_signals("peerpath bind")?;
        let options = Options { force_in_use: self.force_in_use, ..Options::default() };
        for Bound { bdf, from_driver, already } in bind(&self.functions, &options)? {
            let from = from_driver.unwrap_or_else(|| "no driver".into());
            print(&if already {
                format!("{bdf}  already bound to a VFIO driver\n")
            } else {
                format!("{bdf}  {from} -> vfio-pci; `peerpath restore` reverts this\n")
            })?;
        }
        Ok(interrupt.exit_code().map_or(ExitCode::SUCCESS, ExitCode::from))
    }
}

/// Revert every change to this host by `bind` or by a run that was killed.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  peerpath restore

Changes are recorded in a journal in PEERPATH_STATE_DIR, by default /run/peerpath. Functions that a running peerpath uses, or that a \
program has open through VFIO, are skipped. A NIC whose IOMMU domain was changed is unbound briefly, even if it is in use, and its \
configuration is restored.

Exit status: 0 if every change is reverted or there is none, 3 if a change is skipped, e.g. because a program uses the function, 1 if reverting a \
change fails, 4 after an I/O error.")]
pub(super) struct Restore {}

impl Restore {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let interrupt = complete_despite_signals("peerpath restore")?;
        let restored = restore(&Options::default())?;
        // If tracing is inaccessible, no earlier run can have left probes.
        let swept = observe::remove_stale(Path::new("/")).map(|swept| swept.processes()).unwrap_or_default();
        for pid in &swept {
            print(&format!("PID {pid}  removed the tracing of this killed run\n"))?;
        }
        if restored.is_empty() && swept.is_empty() {
            print("nothing to restore\n")?;
        }
        let mut worst = 0;
        for Restored { subject, outcome } in restored {
            if !outcome.is_settled() {
                worst = worst.max(3);
            }
            match outcome {
                Outcome::Restored { reverted } => print(&format!("{subject}  {reverted}\n"))?,
                Outcome::Obsolete => {
                    print(&format!("{subject}  nothing to restore: the function is gone or the host was rebooted\n"))?
                }
                Outcome::Held { pid } => {
                    let who = pid.map_or_else(String::new, |pid| format!(" (PID {pid})"));
                    print(&format!("{subject}  skipped: a running peerpath{who} uses it\n"))?;
                }
                Outcome::Open { pids } => {
                    print(&format!("{subject}  skipped: other programs have it open through VFIO (PIDs {pids:?})\n"))?;
                }
                Outcome::Failed { error } => {
                    let failure = Failure::of(&error);
                    worst = worst.max(terminal::exit_code(failure.severity));
                    terminal::report(&failure);
                }
                _ => print(&format!("{subject}  not restored\n"))?,
            }
        }
        // A change that was not reverted determines the exit code, even after a signal.
        Ok(ExitCode::from(if worst == 0 { interrupt.exit_code().unwrap_or(0) } else { worst }))
    }
}
