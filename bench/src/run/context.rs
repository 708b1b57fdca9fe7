//! Data that all legs and cells of a run share.

use peerpath_exporter::OpenOptions;
use peerpath_host::Options;
use quanta::Clock;

use super::pinning::Pinning;
use super::removed::Removed;
use crate::environment::Host;
use crate::interrupt::Interrupt;
use crate::measure::Limit;
use crate::plan::Plan;

/// The plan, and the settings with which it runs on this host.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) plan: &'a Plan,
    /// CPUs that the program may use.
    pub(super) allowed_cpus: &'a [u32],
    /// CPUs for the threads of the current leg.
    pub(super) pinning: &'a Pinning,
    pub(super) open: &'a OpenOptions,
    /// Options for host changes, and the folder of locks.
    pub(super) changes: &'a Options,
    pub(super) interrupt: &'a Interrupt,
    pub(super) host: &'a Host,
    pub(super) clock: &'a Clock,
    /// Limit of the current repeat.
    pub(super) limit: Limit,
    /// Functions that were removed during the run.
    pub(super) removed: &'a Removed,
}
