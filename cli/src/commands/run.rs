//! `peerpath run`.

mod baselines;
mod cells;
mod conclusion;
mod expectations;
mod finished;
mod help;
mod mechanism;
mod options;
mod plan;
mod progress;
mod queue_pairs;
mod revocations;
mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use peerpath_bench::environment::{Host, utc_now};
use peerpath_bench::failure::Failure;
use peerpath_bench::interrupt::Interrupt;
use peerpath_bench::peer::client::Client;
use peerpath_bench::peer::token;
use peerpath_bench::plan::Plan;
use peerpath_bench::result::{Cell, Outcome, RunResult};
use peerpath_bench::route::Routes;
use peerpath_bench::run::Runner;
use peerpath_bench::store::{Destination, Existing, RESULT_FILE};
use peerpath_exporter::OpenOptions;
use peerpath_importers::{Op, Revocation};
use peerpath_paths::{PathName, Tree};
use peerpath_report::document::Document;

use super::signals::{catch_signals, warn_of_earlier_changes};
use super::{shared_token, tool};
use crate::hints::CommandLine;
use crate::terminal::{self, print};
use expectations::Expectations;
pub(super) use options::RunCommand;
use progress::Bar;
pub(super) use values::{parse_size_u32, whole, words};

impl RunCommand {
    /// `has_read_plan`: whether the plan file was read, which requires that it is the first argument after `run`. `arguments`:
    /// the command line as the user wrote it, for the result.
    pub(super) fn run(
        &self,
        has_read_plan: bool,
        arguments: &[OsString],
        command_line: &CommandLine,
    ) -> Result<ExitCode, Failure> {
        if let Some(file) = self.plan.as_ref().filter(|_| !has_read_plan) {
            return Err(Failure::bad_input(
                format!("cannot use the plan {}", file.display()),
                "options precede it on the command line",
                "name the plan directly after `run`",
            ));
        }
        if let Some(file) = self.token_file.as_ref().filter(|_| self.peer.is_none()) {
            return Err(Failure::bad_input(
                format!("cannot use --token-file {} without --peer", file.display()),
                "the token authenticates this host to the server that --peer names",
                "add --peer HOST, or omit --token-file",
            ));
        }
        warn_of_earlier_changes();
        let expectations = self.expect.as_deref().map(Expectations::read).transpose()?;
        let interrupt = catch_signals()?;
        let peer = match self.peer.as_ref().map(|at| self.connect(at, &interrupt)).transpose() {
            Ok(peer) => peer,
            // A signal interrupts the connection, which then fails. The exit code reports the signal.
            Err(failure) => return interrupt.exit_code().map(ExitCode::from).ok_or(failure),
        };
        let plan = self.plan(peer.as_ref().map(|peer| &peer.offer().sources[..]))?;
        plan.check()?;
        let host = Host::new(Tree::live());
        let open = OpenOptions { vfio: self.vfio, huge_pages: self.queue_pairs.hugepages };
        let changes = peerpath_host::Options { force_in_use: self.force_in_use, ..peerpath_host::Options::default() };
        let folder = self.out.clone().unwrap_or_else(|| default_folder(&host));
        let destination = if self.dry_run { Destination::New(&folder) } else { self.destination(&folder)? };
        let mut runner = Runner {
            plan: &plan,
            tool: tool(),
            arguments: arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect(),
            open: &open,
            changes: &changes,
            destination,
            interrupt: &interrupt,
            host,
            routes: Routes::live(),
            peer: peer.as_ref(),
        };
        if self.dry_run {
            runner.check()?;
            print(&dry_run(&plan))?;
            return Ok(ExitCode::SUCCESS);
        }
        let total = plan.cell_count();
        let mut bar = Bar::new(total, plan.repeats(), self.json, self.units, command_line);
        let result = runner.run(&mut bar);
        bar.finish();
        let result = result?;
        // With --json, standard output contains only the cells.
        let show = |text: &str| {
            if !self.json {
                return print(text);
            }
            text.lines().for_each(terminal::note);
            Ok(())
        };
        if !self.json {
            print(&cells::render(result.last_cells(), command_line, self.units, terminal::width()))?;
        }
        show(&summary(&result, &plan, interrupt.exit_code().is_some(), &bar))?;
        let document = Document::read(&[bar.file().to_owned()]);
        show(&conclusion::render(&document, terminal::width()))?;
        let broken = match (expectations, document.saved().first(), document.unreadable().first()) {
            (Some(_), _, Some(error)) => return Err(super::compare::unreadable(error)),
            (Some(expectations), Some(saved), None) => expectations.broken(saved),
            _ => String::new(),
        };
        show(&broken)?;
        let is_kept = broken.is_empty() && !(self.fail_on_waived && count(&result, Outcome::Waived) > 0);
        Ok(exit_code(&result, &interrupt, is_kept, bar.skipped()))
    }

    /// Where the result is saved. `folder`: `--out`, or the default.
    fn destination<'a>(&self, folder: &'a Path) -> Result<Destination<'a>, Failure> {
        let existing = match (self.force, self.append) {
            (true, _) => Existing::Replace,
            (_, true) => {
                let file = folder.join(RESULT_FILE);
                // The run reads the earlier result without a limit of memory. Read it first with the limit of `compare`, which
                // rejects a result that is too large.
                if std::fs::symlink_metadata(&file).is_ok() {
                    super::compare::read(&file)?;
                }
                Existing::Append
            }
            _ => Existing::Refuse,
        };
        Ok(if self.out.is_some() { Destination::Folder(folder, existing) } else { Destination::New(folder) })
    }

    /// Connects to the peer, after the options are checked as far as possible without it.
    fn connect(&self, at: &str, interrupt: &Interrupt) -> Result<Client, Failure> {
        if self.path.contains(&PathName::Staged) {
            return Err(Failure::bad_input(
                "cannot use --path staged with --peer",
                "the copy through host memory needs source and target on one host",
                "omit --path staged, or run it on the other host without --peer",
            ));
        }
        let on_one_host = [
            Op::Export,
            Op::Attach,
            Op::Map,
            Op::Allocate,
            Op::Link,
            Op::Sync,
            Op::Register,
            Op::Unregister,
            Op::Unmap,
            Op::Detach,
        ];
        let is_on_one_host = |op: &Op| on_one_host.contains(op) || Revocation::of(*op).is_some();
        if let Some(op) = self.op.iter().find(|op| is_on_one_host(op)) {
            return Err(Failure::bad_input(
                format!("cannot run {op} with --peer"),
                "it involves only the host that exports the memory",
                format!("omit --op {op}, or run it on the other host without --peer"),
            ));
        }
        // The peer's sources are unknown before the connection. These checks accept any source, so use a placeholder.
        self.plan(Some(&["host:1".to_owned()]))?.check()?;
        let token = shared_token::find(self.token_file.as_deref())?;
        let token = token.ok_or_else(|| {
            Failure::bad_input(
                format!("cannot authenticate to {at}"),
                format!("neither --token-file nor {} is given", token::VARIABLE),
                format!(
                    "set {} to the token of `peerpath serve`, or save the token in a file and name it with --token-file",
                    token::VARIABLE
                ),
            )
        })?;
        Client::connect(at, &token, interrupt)
    }
}

fn count(result: &RunResult, outcome: Outcome) -> usize {
    result.last_cells().iter().filter(|cell| cell.outcome == outcome).count()
}

/// The lines below the table. `is_interrupted`: whether a signal ended the run.
fn summary(result: &RunResult, plan: &Plan, is_interrupted: bool, bar: &Bar<'_>) -> String {
    let earlier = result.cells.len() - result.last_cells().len();
    let verb = if result.appended.is_empty() {
        "saved".to_owned()
    } else {
        format!("added to {earlier} earlier cells and saved")
    };
    let (done, total) = (result.last_cells().len(), plan.cell_count() - bar.skipped());
    let lacks_repeats = |cell: &&Cell| cell.outcome == Outcome::Passed && cell.repeats.len() < plan.repeats() as usize;
    let partial = result.last_cells().iter().filter(lacks_repeats).count();
    let partial = match partial {
        0 => String::new(),
        _ => format!(", {partial} of them with fewer than {} repeats", plan.repeats()),
    };
    let ended = match is_interrupted {
        true => format!("interrupted after {done} of {total} cells{partial}: "),
        // The connection to the peer is lost.
        false if done < total => format!("stopped after {done} of {total} cells{partial}: "),
        false => String::new(),
    };
    let mut text = format!(
        "\n{ended}{} passed, {} waived, {} failed; {verb} to {}\n",
        count(result, Outcome::Passed),
        count(result, Outcome::Waived),
        count(result, Outcome::Failed),
        bar.file().display()
    );
    text += &match bar.skipped() {
        0 => String::new(),
        1 => "1 cell was skipped: the result contains it with all repeats.\n".to_owned(),
        skipped => format!("{skipped} cells were skipped: the result contains them with all repeats.\n"),
    };
    if result.environment.emulated {
        text += "The devices are emulated: the figures do not describe hardware.\n";
    }
    if result.environment.soft_rdma {
        text += "The CPU performs the RDMA operations: the latencies do not rank the paths.\n";
    }
    text.extend(result.last_run().warnings.iter().map(|warning| format!("Warning: {warning}.\n")));
    text
}

/// The number of cells, and the time that their measurements take at most.
fn dry_run(plan: &Plan) -> String {
    let (cells, repeats) = (plan.cell_count(), plan.repeats());
    let mut text = format!("{cells} cells, {repeats} repeat{} each", if repeats == 1 { "" } else { "s" });
    text += &match plan.duration {
        Some(duration) => {
            let seconds = (duration.as_secs_f64() * cells as f64).ceil() as u64;
            let longest = humantime::format_duration(Duration::from_secs(seconds));
            format!(": at most {longest} of measurements, and the time to set up and verify each repeat\n")
        }
        None => ": no time limit, because the plan limits only the number of operations (see --duration)\n".to_owned(),
    };
    for leg in plan.legs() {
        let asked = leg.asked.map_or_else(String::new, |asked| format!("  path {asked}"));
        text += &format!("  {} -> {}{asked}: {} cells\n", leg.source, leg.target, plan.cells(leg).len());
    }
    text.extend(plan.notes().iter().map(|note| format!("Note: {note}.\n")));
    text
}

/// `is_kept`: whether the result satisfies `--expect` and `--fail-on-waived`. `skipped`: the number of cells that
/// passed in an earlier run.
fn exit_code(result: &RunResult, interrupt: &Interrupt, is_kept: bool, skipped: usize) -> ExitCode {
    match interrupt.exit_code() {
        Some(code) => ExitCode::from(code),
        None if count(result, Outcome::Failed) > 0 || !is_kept => ExitCode::from(1),
        None if count(result, Outcome::Passed) + skipped == 0 => ExitCode::from(3),
        None => ExitCode::SUCCESS,
    }
}

fn default_folder(host: &Host) -> PathBuf {
    let hostname = host.name().unwrap_or_else(|| "unknown".into());
    // Some file systems do not allow colons in a name, and rsync and scp interpret them as HOST:PATH.
    PathBuf::from("results").join(format!("{}-{hostname}", utc_now().replace(':', "")))
}
