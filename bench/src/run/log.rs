//! The result of a run, saved after every cell.

use peerpath_exporter::Origin;
use peerpath_importers::DeviceInfo;
use peerpath_paths::Tree;

use super::Progress;
use super::context::Context;
use crate::append::Earlier;
use crate::cpus;
use crate::environment::mark_stand_in;
use crate::failure::Failure;
use crate::plan::{CellSpec, Leg, Plan};
use crate::result::{Cell, CellPath, RunResult};
use crate::route::Routes;
use crate::store::Store;

/// The result so far, the file to save it to, and the receiver of progress reports.
pub(super) struct Log<'a> {
    pub(super) result: RunResult,
    pub(super) store: Store,
    pub(super) progress: &'a mut dyn Progress,
    /// Cells of the plan that the result contained before this run.
    pub(super) earlier: Earlier,
    /// Returns the identifier of a cell.
    pub(super) id: fn(Leg<'_>, &CellSpec) -> String,
}

impl Log<'_> {
    /// Saves the current result.
    pub(super) fn save(&self) -> Result<(), Failure> {
        Ok(self.store.save(&self.result)?)
    }

    /// The cells of a leg that this run measures, in the order of the plan.
    pub(super) fn cells(&self, plan: &Plan, leg: Leg<'_>) -> Vec<CellSpec> {
        let mut cells = plan.cells(leg);
        if !self.earlier.complete.is_empty() {
            cells.retain(|spec| !self.earlier.complete.contains(&(self.id)(leg, spec)));
        }
        cells
    }

    /// Removes the earlier record of a cell, which `cell` replaces. Returns whether there was one.
    pub(super) fn remove_earlier(&mut self, cell: &Cell) -> bool {
        self.earlier.incomplete.remove(&cell.id) && self.result.remove_earlier(&cell.id)
    }

    /// Adds the PCI functions of source and target to the result.
    pub(super) fn note_functions(
        &mut self,
        context: Context<'_>,
        routes: &Routes,
        source: &Origin,
        info: Option<&DeviceInfo>,
    ) {
        let environment = &mut self.result.environment;
        mark_stand_in(environment);
        environment.soft_rdma |= info.is_some_and(|info| info.soft_rdma);
        for bdf in source.bdf.into_iter().chain(info.and_then(|info| info.bdf)) {
            environment.emulated |= context.host.is_emulated(bdf);
            environment.devices.retain(|device| device.bdf != bdf);
            environment.devices.push(routes.device(bdf, info));
        }
        environment.devices.sort_by_key(|device| device.bdf);
    }

    /// Adds the functions between source and target to the result, because their ACS settings decide the path.
    pub(super) fn note_bridges(&mut self, routes: &Routes, path: &CellPath) {
        let devices = &mut self.result.environment.devices;
        for &bdf in &path.hops {
            if !devices.iter().any(|device| device.bdf == bdf) {
                devices.push(routes.device(bdf, None));
            }
        }
        devices.sort_by_key(|device| device.bdf);
    }

    /// Adds a warning if threads may run on another NUMA node than that of the device: their accesses would cross the
    /// interconnect.
    pub(super) fn warn_of_remote_threads(&mut self, context: Context<'_>, info: Option<&DeviceInfo>) {
        let Some(function) = info.and_then(|info| info.bdf) else { return };
        let warnings = &mut self.result.last_run_mut().warnings;
        let warning = cpus::remote_from(&Tree::live(), function, context.pinning.cpus());
        if let Some(warning) = warning.filter(|warning| !warnings.contains(warning)) {
            warnings.push(warning);
        }
    }
}
