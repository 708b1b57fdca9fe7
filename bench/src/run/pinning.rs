//! The CPUs that the threads of a leg are bound to.

use peerpath_importers::Role;
use peerpath_paths::{Bdf, Tree};

use crate::cpus;
use crate::plan::{CellSpec, Mode, Plan};

/// The CPUs for the threads of a leg's cells.
#[derive(Debug, Clone, Default)]
pub(super) struct Pinning {
    cpus: Vec<u32>,
    /// Whether the plan names the CPUs.
    named: bool,
}

impl Pinning {
    /// Chooses the CPUs that the plan names, or CPUs near the target's function out of `allowed`. Restricts the calling thread to
    /// them: it allocates the memory, and the kernel then uses memory of their NUMA nodes.
    pub(super) fn of_leg(plan: &Plan, function: Option<Bdf>, allowed: &[u32]) -> Self {
        let named = !plan.cpus.is_empty();
        let cpus = match named {
            true => plan.cpus.clone(),
            false if plan.pin => cpus::near(&Tree::live(), function, allowed),
            false => Vec::new(),
        };
        if !cpus.is_empty() {
            // If a CPU is unavailable, binding a measuring thread to it fails and reports the reason.
            let _ = cpus::restrict_this_thread(&cpus);
        }
        Self { cpus, named }
    }

    /// The CPUs for the polling threads of a cell, in turn. Empty: threads are not bound. If there are more threads than CPUs and
    /// the plan names none, binding would delay threads that wait for each other.
    pub(super) fn of_cell(&self, spec: &CellSpec, has_both_ends: bool) -> &[u32] {
        let threads = pollers(spec, has_both_ends);
        // Registrations of these operations run in the calling thread, or in threads of their own that are not bound.
        let is_unbound = spec.spec.is_some_and(|spec| spec.role.is_traced() || matches!(spec.role, Role::Revoke(_)));
        if is_unbound && !self.named {
            return &[];
        }
        if self.named { &self.cpus } else { self.cpus.get(..threads).unwrap_or_default() }
    }

    /// Returns the number of CPUs that the plan names, if that is fewer than a local ping-pong has threads.
    pub(super) fn too_few_for(&self, spec: &CellSpec) -> Option<usize> {
        (self.named && spec.mode == Mode::PingPong && self.cpus.len() < pollers(spec, true)).then_some(self.cpus.len())
    }

    /// All CPUs of the leg. Empty: threads are not bound.
    pub(super) fn cpus(&self) -> &[u32] {
        &self.cpus
    }
}

/// Number of threads of a cell that poll. With both ends on this host, initiator and responder of a ping-pong each have their own.
pub(super) fn pollers(spec: &CellSpec, has_both_ends: bool) -> usize {
    let ends = if has_both_ends && spec.mode == Mode::PingPong { 2 } else { 1 };
    ends * spec.threads as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;

    #[test]
    fn binds_no_thread_if_there_are_fewer_cpus_than_threads() {
        let near = Pinning { cpus: vec![1, 0], named: false };
        let named = Pinning { cpus: vec![3], named: true };
        let cell = |threads, mode| CellSpec { threads, mode, ..spec() };
        assert_eq!(near.of_cell(&cell(1, Mode::Bandwidth), true), [1]);
        assert_eq!(near.of_cell(&cell(2, Mode::Bandwidth), true), [1, 0]);
        assert!(near.of_cell(&cell(3, Mode::Bandwidth), true).is_empty());
        assert_eq!(near.of_cell(&cell(1, Mode::PingPong), true), [1, 0]);
        assert!(near.of_cell(&cell(2, Mode::PingPong), true).is_empty());
        assert_eq!(near.of_cell(&cell(2, Mode::PingPong), false), [1, 0], "the responders run on the other host");
        assert_eq!(named.of_cell(&cell(4, Mode::Bandwidth), true), [3]);
        assert_eq!(named.too_few_for(&cell(1, Mode::PingPong)), Some(1));
        assert_eq!(near.too_few_for(&cell(9, Mode::PingPong)), None);
    }
}
