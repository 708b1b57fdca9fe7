//! The command line: one file per command.

mod bind;
mod compare;
mod completions;
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
mod usage_error;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::{ArgAction, Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use peerpath_bench::failure::Failure;
use peerpath_bench::result::Tool;

use crate::hints::CommandLine;
use crate::{steps, terminal};

/// Move data between PCI BARs and RDMA NICs, GPUs or NVMe drives, and report the path, latency and throughput.
#[derive(Debug, Parser)]
#[command(name = "peerpath", version = VERSION, max_term_width = 120, arg_required_else_help = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    output: OutputOptions,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
struct OutputOptions {
    /// Print only results and errors, no progress and no notes
    #[arg(long, short, global = true, help_heading = MESSAGES)]
    quiet: bool,
    /// Print what is opened, registered and changed on the host, to standard error; -vv prints more
    #[arg(long, short, global = true, action = ArgAction::Count, conflicts_with = "quiet", help_heading = MESSAGES)]
    verbose: u8,
    /// Colours: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true, help_heading = MESSAGES)]
    color: ColorChoice,
}

const MESSAGES: &str = "Messages";

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (revision ",
    env!("PEERPATH_GIT_REVISION"),
    ", features: ",
    env!("PEERPATH_FEATURES"),
    ")"
);

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
    Completions(completions::Completions),
}

/// Runs the command line and returns its exit code.
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Set the colours before anything can fail, because errors are coloured.
    color_of(&arguments).write_global();
    let command = command_index(&arguments);
    let arguments = without_help_of_help(arguments, command);
    let expanded = match plan_file::expand(&arguments, command) {
        Ok(expanded) => expanded,
        Err(failure) => return terminal::report(&failure),
    };
    let matched = Arguments::command().try_get_matches_from(&expanded.arguments);
    let parsed = match matched.and_then(|mut matches| Arguments::from_arg_matches_mut(&mut matches)) {
        Ok(parsed) => parsed,
        Err(error) => return usage_error::report(error, expanded.plan.as_ref()),
    };
    steps::install(parsed.output.quiet, parsed.output.verbose);
    let command_line = CommandLine::new(&expanded.arguments[command.min(expanded.arguments.len())..]);
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
        Command::Run(command) => command.run(expanded.plan.is_some(), &arguments, &command_line),
        Command::Report(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::Completions(command) => command.run(Arguments::command()),
    };
    let code = done.unwrap_or_else(|failure: Failure| terminal::report(&command_line.complete(failure)));
    if changes_host {
        signals::report_changes_left();
    }
    code
}

/// Omits `--help` after `help`: that command does not have the option.
fn without_help_of_help(mut arguments: Vec<OsString>, command: usize) -> Vec<OsString> {
    if arguments.get(command).is_some_and(|name| name == "help") {
        arguments.retain(|argument| argument != "--help" && argument != "-h");
    }
    arguments
}

/// Position of the command: the first argument that is neither an option nor the value of one.
fn command_index(arguments: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(argument) = arguments.get(at).filter(|argument| argument.as_encoded_bytes().starts_with(b"-")) {
        at += if argument == "--color" { 2 } else { 1 };
    }
    at
}

/// The value of `--color`, read before the arguments are parsed. clap reports an invalid one.
fn color_of(arguments: &[OsString]) -> anstream::ColorChoice {
    let value =
        arguments.iter().enumerate().find_map(|(at, argument)| match argument.to_str()?.strip_prefix("--color")? {
            "" => arguments.get(at + 1).map(OsString::as_os_str),
            rest => rest.strip_prefix('=').map(OsStr::new),
        });
    match value.and_then(OsStr::to_str) {
        Some("always") => anstream::ColorChoice::Always,
        Some("never") => anstream::ColorChoice::Never,
        _ => anstream::ColorChoice::Auto,
    }
}

/// Name and version of this program in results.
fn tool() -> Tool {
    Tool {
        name: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        git_revision: Some(env!("PEERPATH_GIT_REVISION")).filter(|revision| *revision != "unknown").map(Into::into),
    }
}
