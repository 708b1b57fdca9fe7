//! The command line: one file per command.

mod bind;
mod compare;
mod doctor;
mod export;
mod gpus;
mod host;
mod list;
mod paths;
mod plan_file;
mod report;
mod run;
mod serve;
mod snapshot;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use peerpath_bench::failure::Failure;
use peerpath_bench::result::Tool;

use crate::terminal;

/// Moves data between PCI BARs and RDMA NICs, GPUs and other functions, and says which path it took.
#[derive(Debug, Parser)]
#[command(name = "peerpath", version, max_term_width = 120, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::List),
    Paths(paths::Paths),
    Doctor(doctor::Doctor),
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
        // Help and version are no errors; everything else is wrong usage, which clap ends with 2 as the contract does.
        Err(error) => error.exit(),
    };
    let done = match parsed.command {
        Command::List(command) => command.run(),
        Command::Paths(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Snapshot(command) => command.run(),
        Command::Bind(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Run(command) => command.run(&arguments),
        Command::Report(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Serve(command) => command.run(),
    };
    done.unwrap_or_else(|failure: Failure| terminal::report(&failure))
}

/// This program, as results name it.
fn tool() -> Tool {
    Tool {
        name: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        git_revision: option_env!("PEERPATH_GIT_REVISION").map(Into::into),
    }
}
