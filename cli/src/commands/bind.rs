//! `peerpath bind` and `peerpath restore`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use peerpath_bench::failure::Failure;
use peerpath_host::{Bound, Options, Outcome, Restored, bind, restore};
use peerpath_observe as observe;
use peerpath_paths::Bdf;

use crate::terminal::{self, print};

/// Hand functions to vfio-pci, after writing down what was there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  peerpath bind 0000:03:00.0        give the function to vfio-pci; a function in use is refused
  peerpath restore                  give everything back, also what a killed run left behind")]
pub(super) struct Bind {
    /// Functions, such as 0000:03:00.0
    #[arg(value_name = "BDF", required = true)]
    functions: Vec<Bdf>,
    /// Take a function although something uses it; never one that carries the default route, the login session,
    /// a mounted disk or soft RDMA that another program has open
    #[arg(long)]
    force_in_use: bool,
}

impl Bind {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let options = Options { force_in_use: self.force_in_use, ..Options::default() };
        for Bound { bdf, from_driver, already } in bind(&self.functions, &options)? {
            let from = from_driver.unwrap_or_else(|| "no driver".into());
            print(&if already {
                format!("{bdf}  had a VFIO driver already\n")
            } else {
                format!("{bdf}  {from} -> vfio-pci; `peerpath restore` gives it back\n")
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Give back every function that `bind` has taken, and put back everything that a run which was killed has changed.
#[derive(Debug, Args)]
pub(super) struct Restore {}

impl Restore {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let restored = restore(&Options::default())?;
        // Without tracing there can be no probes either.
        if let Ok(swept) = observe::remove_stale(Path::new("/")) {
            for name in swept.instances.iter().chain(&swept.probes) {
                print(&format!("{name}  left in the kernel's tracing by a killed run, removed\n"))?;
            }
        }
        if restored.is_empty() {
            print("nothing to give back\n")?;
        }
        let mut worst = 0;
        for Restored { subject, outcome } in restored {
            if !outcome.is_settled() {
                worst = worst.max(3);
            }
            match outcome {
                Outcome::Restored { reverted } => print(&format!("{subject}  {reverted}\n"))?,
                Outcome::Obsolete => {
                    print(&format!("{subject}  nothing to give back: gone, or the host was started anew\n"))?
                }
                Outcome::Held { pid } => {
                    let who = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
                    print(&format!("{subject}  left alone: a running peerpath{who} works with it\n"))?;
                }
                Outcome::Open { pids } => {
                    print(&format!(
                        "{subject}  left alone: other programs have it open through VFIO (pids {pids:?})\n"
                    ))?;
                }
                Outcome::Failed { error } => {
                    let failure = Failure::of(&error);
                    worst = worst.max(terminal::exit_code(failure.severity));
                    terminal::report(&failure);
                }
                _ => print(&format!("{subject}  not given back\n"))?,
            }
        }
        Ok(ExitCode::from(worst))
    }
}
