//! The command line: one file per command.

mod bind;
mod compare;
mod doctor;
mod explain;
mod export;
mod inspected_host;
mod list;
mod paths;
mod plan_file;
mod report;
mod run;
mod serve;
mod shared_token;
mod signals;
mod snapshot;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use peerpath_bench::failure::Failure;
use peerpath_bench::result::Tool;

use crate::hints::CommandLine;
use crate::terminal;

/// Move data between PCI BARs and RDMA NICs, GPUs or NVMe drives, and report the path, latency and throughput.
#[derive(Debug, Parser)]
#[command(name = "peerpath", version, max_term_width = 120, arg_required_else_help = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  peerpath list
      functions, BARs and devices of this host
  peerpath doctor --from 0000:03:00.0:2 --to verbs:mlx5_0
      what prevents a transfer, and how to fix it
  peerpath run --from 0000:03:00.0:2 --to verbs:mlx5_0
      measure transfers between BAR 2 of a function and an RDMA NIC";

#[derive(Debug, Subcommand)]
enum Command {
    List(list::List),
    Paths(paths::Paths),
    Doctor(doctor::Doctor),
    Explain(explain::Explain),
    Snapshot(snapshot::Snapshot),
    Bind(bind::Bind),
    Restore(bind::Restore),
    Export(export::Export),
    Run(Box<run::RunCommand>),
    Report(report::Report),
    Compare(compare::Compare),
    Serve(serve::Serve),
}

/// Runs the command line and returns its exit code.
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let expanded = match plan_file::expand(&arguments) {
        Ok(expanded) => expanded,
        Err(failure) => return terminal::report(&failure),
    };
    let parsed = match Arguments::try_parse_from(&expanded) {
        Ok(parsed) => parsed,
        // clap exits with 0 for help and version, and with 2 for wrong usage.
        Err(error) => error.exit(),
    };
    let command_line = CommandLine::new(&expanded);
    let changes_host = matches!(parsed.command, Command::Run(_) | Command::Serve(_) | Command::Export(_));
    let done = match parsed.command {
        Command::List(command) => command.run(),
        Command::Paths(command) => command.run(),
        Command::Doctor(command) => command.run(&command_line),
        Command::Explain(command) => command.run(&command_line),
        Command::Snapshot(command) => command.run(),
        Command::Bind(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Run(command) => command.run(&arguments, &command_line),
        Command::Report(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Serve(command) => command.run(),
    };
    let code = done.unwrap_or_else(|failure: Failure| terminal::report(&command_line.complete(failure)));
    if changes_host {
        signals::report_changes_left();
    }
    code
}

/// Name and version of this program in results.
fn tool() -> Tool {
    Tool {
        name: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        git_revision: option_env!("PEERPATH_GIT_REVISION").map(Into::into),
    }
}
