//! Runs a plan, cell by cell, and saves the result after each.
//!
//! Every cell exports, registers and sets up its data plane anew, so a failed cell leaves no state behind for the next one.
//! Source and target are opened once per leg. Host changes for the path of a leg last as long as the leg.

mod cell_error;
mod context;
mod export_spec;
mod held;
mod local;
mod log;
mod path_checks;
mod record;
mod remote;
mod server;
mod threads;
mod transfer;

use std::path::Path;

use peerpath_exporter::OpenOptions;
use quanta::Clock;

use crate::cpus;
use crate::environment::{Host, utc_now};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::peer::client::Client;
use crate::plan::Plan;
use crate::result::{Environment, Run, RunResult, SCHEMA_VERSION, Tool};
use crate::route::Routes;
use crate::store::Store;
use cell_error::per_cell;
use context::Context;
use log::Log;
pub use server::Server;

/// Receives the progress of a run.
pub trait Progress {
    /// A cell begins. `what` names it in one line.
    fn begin(&mut self, what: &str);
    /// A cell ended, and the result is saved.
    fn end(&mut self);
    /// Something failed in addition to the failure that ends the run, for example restoring the host.
    fn failed(&mut self, failure: &Failure);
}

/// Reports nothing.
impl Progress for () {
    fn begin(&mut self, _what: &str) {}
    fn end(&mut self) {}
    fn failed(&mut self, _failure: &Failure) {}
}

/// A plan and everything else that a run needs.
pub struct Runner<'a> {
    /// What to run.
    pub plan: &'a Plan,
    /// The program that runs the plan, for the result.
    pub tool: Tool,
    /// The command line, for the result.
    pub arguments: Vec<String>,
    /// How sources are opened.
    pub open: &'a OpenOptions,
    /// How the host is changed for the path of a leg, and where locks are kept.
    pub changes: &'a peerpath_host::Options,
    /// Folder of the result; it is created if it does not exist.
    pub folder: &'a Path,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
    /// The host, for the result.
    pub host: Host,
    /// Predicts and observes the path of each cell.
    pub routes: Routes,
    /// The host that serves the sources; `None` if they are on this host.
    pub peer: Option<&'a Client>,
}

impl Runner<'_> {
    /// Runs the plan.
    ///
    /// # Errors
    /// Bad input, before any cell runs; or the result could not be saved, or the host could not be restored. A cell that fails
    /// is no error: the result contains its outcome and reason.
    pub fn run(&mut self, progress: &mut dyn Progress) -> Result<RunResult, Failure> {
        self.plan.check()?;
        if !self.plan.cpus.is_empty() {
            // This thread allocates the memory. If a CPU is unavailable, the threads bound to it report it.
            let _ = cpus::restrict_this_thread(&self.plan.cpus);
        }
        self.check_names()?;
        // Created only now: a mistyped name must not replace an earlier result.
        let store = Store::create(self.folder)?;
        let mut log = Log { result: self.empty_result(), store, progress };
        log.save()?;
        let clock = Clock::new();
        let Self { plan, open, changes, interrupt, host, routes, peer, .. } = self;
        let context = Context { plan, open, changes, interrupt, host, clock: &clock };
        for leg in context.plan.legs() {
            let flow = match peer {
                None => local::run_leg(context, leg, routes, &mut log)?,
                Some(peer) => remote::run_leg(context, peer, leg, routes, &mut log)?,
            };
            if flow.is_break() {
                break;
            }
        }
        if context.interrupt.is_set() {
            log.result.run.interrupted = true;
            log.save()?;
        }
        Ok(log.result)
    }

    /// Reports a wrong BDF or device name before anything runs.
    fn check_names(&self) -> Result<(), Failure> {
        let on_this_host = if self.peer.is_none() { &self.plan.sources } else { &self.plan.far };
        for source in on_this_host {
            let _ = per_cell(source.check().map_err(|error| Failure::of(&error)))?;
        }
        for target in &self.plan.targets {
            // Queue pair options are checked when the device is opened.
            let found = if target.importer.capabilities().queue_pairs {
                target.importer.open(&target.address, &self.plan.connection).map(drop)
            } else {
                target.importer.probe(&target.address).map(drop)
            };
            let _ = per_cell(found.map_err(|error| Failure::of(&error)))?;
        }
        Ok(())
    }

    fn empty_result(&self) -> RunResult {
        let started_at = utc_now();
        RunResult {
            schema_version: SCHEMA_VERSION,
            tool: self.tool.clone(),
            run: Run {
                id: format!("{started_at}-{}", std::process::id()),
                started_at,
                arguments: self.arguments.clone(),
                plan: serde_json::to_value(self.plan).unwrap_or_default(),
                interrupted: false,
                warnings: Vec::new(),
            },
            environment: Environment {
                peer: self.peer.map(|peer| Box::new(peer.offer().environment.clone())),
                ..self.host.environment()
            },
            cells: Vec::new(),
        }
    }
}
