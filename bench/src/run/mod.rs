//! Runs a plan, cell by cell, and saves the result after each.
//!
//! Every cell exports, registers and creates its data plane anew, so a failed cell leaves no state behind for the next one.
//! Source and target are opened once per leg (a source, a target and a path). Host changes for the path are reverted at the end
//! of the leg.

mod ceiling;
mod cell_error;
mod context;
mod export_spec;
mod held;
mod local;
mod log;
mod path_checks;
mod pinning;
mod record;
mod remote;
mod removed;
mod revocation;
mod rounds;
mod server;
mod threads;
mod transfer;

use std::ops::ControlFlow;
use std::path::Path;

use peerpath_exporter::OpenOptions;
use peerpath_host::{Error as HostError, Hold, left_by_earlier_runs};
use peerpath_importers::Availability;
use peerpath_paths::{Cause, Severity};
use quanta::Clock;

use crate::append::{self, AppendError, Earlier, Planned};
use crate::cpus;
use crate::environment::{Host, utc_now};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::peer::client::Client;
use crate::plan::{CellSpec, Leg, Plan};
use crate::result::{Cell, Environment, Run, RunResult, SCHEMA_VERSION, Tool};
use crate::route::Routes;
use crate::store::{Destination, Existing, Store};
use cell_error::existing;
use context::Context;
use export_spec::unopened;
use log::Log;
use pinning::Pinning;
use removed::Removed;
pub use server::Server;

/// Receives the progress of a run.
pub trait Progress {
    /// Reports the file that the result is saved to, before the first cell.
    fn saving(&mut self, _file: &Path) {}
    /// Reports the number of cells that the run skips, because the result to which it adds its cells contains them.
    fn skipping(&mut self, _cells: usize) {}
    /// Reports that a repeat of a cell begins. `what` describes the cell in one line. `repeat` is the index of the repeat.
    fn begin(&mut self, what: &str, repeat: u32);
    /// Reports that a repeat of a cell ended and that the result is saved. `left` is the number of repeats of this cell that
    /// follow.
    fn end(&mut self, cell: &Cell, left: u32);
    /// Reports a failure that [`Runner::run`] does not return, e.g. of restoring the host after another failure.
    fn failed(&mut self, failure: &Failure);
}

/// Ignores all progress reports.
impl Progress for () {
    fn begin(&mut self, _what: &str, _repeat: u32) {}
    fn end(&mut self, _cell: &Cell, _left: u32) {}
    fn failed(&mut self, _failure: &Failure) {}
}

/// A plan and all other inputs of a run.
pub struct Runner<'a> {
    /// The plan to run.
    pub plan: &'a Plan,
    /// The program that runs the plan, for the result.
    pub tool: Tool,
    /// The command line, for the result.
    pub arguments: Vec<String>,
    /// Options for opening sources.
    pub open: &'a OpenOptions,
    /// Options for host changes, and the folder of locks.
    pub changes: &'a peerpath_host::Options,
    /// Folder of the result.
    pub destination: Destination<'a>,
    /// Flag that ends the run.
    pub interrupt: &'a Interrupt,
    /// The host whose facts the result contains.
    pub host: Host,
    /// Predicts and observes the path of each cell.
    pub routes: Routes,
    /// Connection to the server that exports the sources; `None` if they are on this host.
    pub peer: Option<&'a Client>,
}

impl Runner<'_> {
    /// Checks the plan, and that its devices exist. Changes nothing.
    ///
    /// # Errors
    /// The plan cannot run on any host, or a device does not exist.
    pub fn check(&self) -> Result<(), Failure> {
        self.plan.check()?;
        self.check_names()
    }

    /// Runs the plan and returns its result. If the run is appended to an earlier result, the returned result also contains the
    /// earlier cells.
    ///
    /// # Errors
    /// Returns an error for bad input before any cell runs, or if the result cannot be saved, or if the host cannot be
    /// restored. A cell that fails is not an error: the result contains its outcome and reason.
    pub fn run(&mut self, progress: &mut dyn Progress) -> Result<RunResult, Failure> {
        self.check()?;
        // Create the folder only after all checks: a run with a mistyped name must not replace an earlier result.
        let store = Store::create(self.destination)?;
        let id = if self.peer.is_some() { record::id_with_peer } else { record::id };
        let (result, earlier) = self.start(&store, id)?;
        progress.skipping(earlier.complete.len());
        progress.saving(&store.path());
        let mut log = Log { result, store, progress, earlier, id };
        log.save()?;
        let clock = Clock::new();
        let Self { plan, open, changes, interrupt, host, routes, peer, .. } = self;
        let removed = Removed::default();
        let limit = plan.limit(0);
        let (allowed_cpus, pinning) = (&cpus::of_this_thread()[..], &Pinning::default());
        let clock = &clock;
        let removed = &removed;
        let context = Context { plan, allowed_cpus, pinning, open, changes, interrupt, host, clock, limit, removed };
        let legs = context.plan.legs().try_for_each(|leg| {
            if log.cells(plan, leg).is_empty() {
                return ControlFlow::Continue(());
            }
            let flow = match peer {
                None => local::run_leg(context, leg, routes, &mut log),
                Some(peer) => remote::run_leg(context, peer, leg, routes, &mut log),
            };
            match flow {
                Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
                Ok(ControlFlow::Break(())) => ControlFlow::Break(Ok(())),
                Err(failure) => ControlFlow::Break(Err(failure)),
            }
        });
        // Legs restrict this thread to their CPUs.
        let _ = cpus::restrict_this_thread(allowed_cpus);
        legs.break_value().unwrap_or(Ok(()))?;
        if context.interrupt.is_set() {
            log.result.last_run_mut().interrupted = true;
            log.save()?;
        }
        Ok(log.result)
    }

    /// Reports a device that does not exist, whose library is missing, or that is bound to another driver than VFIO needs, before
    /// any cell runs.
    fn check_names(&self) -> Result<(), Failure> {
        let on_this_host = if self.peer.is_none() { &self.plan.sources } else { &self.plan.far };
        for source in on_this_host {
            let checked = source.check().map_err(|error| Failure::of(&error));
            let _ = existing(checked.map_err(absent_is_bad_input))?;
        }
        for target in &self.plan.targets {
            // Opening the device checks the queue pair options.
            let found = if target.importer.capabilities().queue_pairs {
                let opened = target.importer.open(&target.address, &self.plan.connection);
                opened.map(drop).map_err(|error| Failure::of(&error))
            } else {
                match target.importer.probe(&target.address) {
                    Ok(Availability::Waived(why)) => {
                        let what = format!("cannot use {target}");
                        Err(Failure::new(what, why, Severity::Unavailable))
                    }
                    probed => probed.map(drop).map_err(|error| Failure::of(&error)),
                }
            };
            let _ = existing(found.map_err(absent_is_bad_input))?;
            // A run never unbinds the driver of a function, so every cell would report it.
            if let Some(bdf) = target.importer.vfio_function(&target.address)
                && let Err(error @ HostError::NotVfioDriver { .. }) = Hold::probe(bdf, self.changes)
            {
                return Err(Failure::of(&error));
            }
        }
        Ok(())
    }

    /// The result before the first cell of this run.
    fn start(&self, store: &Store, id: fn(Leg<'_>, &CellSpec) -> String) -> Result<(RunResult, Earlier), AppendError> {
        let result = self.empty_result();
        if !matches!(self.destination, Destination::Folder(_, Existing::Append)) || !store.has_result() {
            return Ok((result, Earlier::default()));
        }
        let of_leg = |leg| self.plan.cells(leg).into_iter().map(move |spec| id(leg, &spec));
        let ids: Vec<String> = self.plan.legs().flat_map(of_leg).collect();
        let planned = Planned { ids: &ids, repeats: self.plan.repeats() };
        append::continued(&store.path(), result, &planned, |device| self.routes.device(device.bdf, None))
    }

    /// Whether a function of the plan on this host is emulated, as far as that is known before the functions are opened.
    fn is_emulated(&self) -> bool {
        let on_this_host = if self.peer.is_none() { &self.plan.sources } else { &self.plan.far };
        let sources = on_this_host.iter().filter_map(|source| unopened(source).bdf);
        let targets = self.plan.targets.iter().filter_map(|target| {
            let held = target.importer.vfio_function(&target.address);
            held.or_else(|| self.routes.function_under(&target.to_string()))
        });
        sources.chain(targets).any(|bdf| self.host.is_emulated(bdf))
    }

    fn empty_result(&self) -> RunResult {
        let started_at = utc_now();
        let environment = self.host.environment();
        RunResult {
            schema_version: SCHEMA_VERSION,
            tool: self.tool.clone(),
            run: Run {
                id: format!("{started_at}-{}", std::process::id()),
                started_at,
                arguments: self.arguments.clone(),
                plan: serde_json::to_value(self.plan).unwrap_or_default(),
                interrupted: false,
                warnings: self.plan.notes().into_iter().chain(left_changed(self.changes)).collect(),
            },
            appended: Vec::new(),
            environment: Environment {
                peer: self.peer.map(|peer| Box::new(peer.offer().environment.clone())),
                emulated: environment.emulated || self.is_emulated(),
                ..environment
            },
            cells: Vec::new(),
        }
    }
}

/// A warning if an earlier run was killed before it reverted its changes of the host. A host whose journal cannot be read gets none.
fn left_changed(changes: &peerpath_host::Options) -> Option<String> {
    let left: Vec<_> = left_by_earlier_runs(changes).unwrap_or_default().iter().map(ToString::to_string).collect();
    (!left.is_empty()).then(|| {
        let left = left.join(", ");
        format!("an earlier run did not revert its changes of {left}, which can determine the path of this run")
    })
}

/// Reports a device of the plan that does not exist as bad input, even if its importer reports another severity.
fn absent_is_bad_input(failure: Failure) -> Failure {
    if failure.explanation.cause == Some(Cause::NoDevice) { failure.with_severity(Severity::BadInput) } else { failure }
}
