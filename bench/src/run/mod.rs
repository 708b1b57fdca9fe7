//! Carries a plan out, cell by cell, and saves after each.
//!
//! Every cell exports, registers and sets up its data plane afresh: one that fails leaves nothing behind that could
//! colour the next. Source and target are opened for a leg and closed after it; what was arranged between them for a path
//! that was asked for is in force for as long.

mod arranged;
mod cell;
mod cell_error;
mod hold;
mod lane;
mod leg;
mod ping_pong;
mod remote;
mod server;
mod shape;
mod staged;
mod threads;
mod transfer;

use std::path::Path;

use peerpath_exporter::OpenOptions;
use quanta::Clock;

use crate::environment::{Host, utc_now};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::peer::client::Client;
use crate::plan::Plan;
use crate::result::{Environment, Run, RunResult, SCHEMA_VERSION, Tool};
use crate::route::Routes;
use crate::store::Store;
use cell_error::Unmeasured;
pub use server::Server;

/// Hears how a run goes on.
pub trait Progress {
    /// A cell begins.
    fn begin(&mut self, what: &str);
    /// A cell ended; it is saved.
    fn end(&mut self);
    /// Something failed, and the run ends with another failure.
    fn failed(&mut self, failure: &Failure);
}

/// Everything a run needs besides its plan.
pub struct Runner<'a> {
    /// What to run.
    pub plan: &'a Plan,
    /// The program that runs it, for the record.
    pub tool: Tool,
    /// The command line, for the record.
    pub arguments: Vec<String>,
    /// How sources are opened.
    pub open: &'a OpenOptions,
    /// How the host is changed for the path of a leg.
    pub changes: &'a peerpath_host::Options,
    /// The folder that the result goes to.
    pub folder: &'a Path,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
    /// The host.
    pub host: Host,
    /// Which way data should go on it.
    pub routes: Routes,
    /// The host that the sources are on, where it is another one.
    pub peer: Option<&'a Client>,
}

impl Runner<'_> {
    /// Runs the plan.
    ///
    /// # Errors
    /// Bad input, before anything ran; or the result could not be saved. Cells that fail stand in the result.
    pub fn run(&mut self, progress: &mut dyn Progress) -> Result<RunResult, Failure> {
        self.plan.check()?;
        if !self.plan.cpus.is_empty() {
            // For the memory, which this thread allocates. That a processor is not there, the threads bound to it will say.
            let _ = crate::cpus::keep_this_thread_to(&self.plan.cpus);
        }
        self.check_names()?;
        // Not before everything named has been found: a slip must not cost an earlier result.
        let store = Store::create(self.folder)?;
        let clock = Clock::new();
        let mut result = self.blank();
        store.save(&result)?;
        for leg in self.plan.legs() {
            let flow = match self.peer {
                None => self.leg(leg, &clock, &store, &mut result, progress)?,
                Some(peer) => self.remote_leg(peer, leg, &clock, &store, &mut result, progress)?,
            };
            if flow.is_break() {
                break;
            }
        }
        if self.interrupt.is_set() {
            result.run.interrupted = true;
            store.save(&result)?;
        }
        Ok(result)
    }

    /// A wrong BDF or device is told before anything has run.
    fn check_names(&self) -> Result<(), Failure> {
        let here = if self.peer.is_none() { &self.plan.sources } else { &self.plan.far };
        for source in here {
            if let Err(error) = source.check() {
                Unmeasured::or_bad_input(Failure::of(&error))?;
            }
        }
        for target in &self.plan.targets {
            // What is said of queue pairs only shows when they are to be made.
            let found = if target.importer.capabilities().queue_pairs {
                target.importer.open(&target.address, &self.plan.connection).map(drop)
            } else {
                target.importer.probe(&target.address).map(drop)
            };
            if let Err(error) = found {
                Unmeasured::or_bad_input(Failure::of(&error))?;
            }
        }
        Ok(())
    }

    fn blank(&self) -> RunResult {
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
