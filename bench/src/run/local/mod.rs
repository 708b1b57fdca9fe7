//! Legs whose source and target are both on this host.

mod arrangement;
mod cell;
mod control;
mod kernel_calls;
mod revoke;
mod staged;
#[cfg(test)]
mod tests;
mod transfer;

use std::ops::ControlFlow;
use std::sync::Arc;

use peerpath_exporter::{Exporter, Origin, Source};
use peerpath_importers::{Device, DeviceInfo, Role};
use peerpath_paths::{Explanation, Tree};

use super::ceiling;
use super::cell_error::{CellError, per_cell};
use super::context::Context;
use super::export_spec::{ExportSpec, mapped_at_once, unopened};
use super::held::{self, Held};
use super::log::Log;
use super::path_checks::{as_asked, as_predicted, without_faults, without_refusal_of_revoked};
use super::pinning::{Pinning, pollers};
use super::record;
use super::removed::{LegRemovals, attribute};
use super::rounds::{self, Repeat};
use super::transfer::Figures;
use crate::disturbance::Watched;
use crate::failure::Failure;
use crate::plan::Leg;
use crate::result::{Cell, CellPath};
use crate::route::Routes;
use cell::LocalCell;
use revoke::OpenSource;

/// A leg with its source and target, or the errors from opening them.
struct LocalLeg<'a> {
    context: Context<'a>,
    leg: Leg<'a>,
    /// Descriptions of the host changes that were made for the path.
    host_changes: Result<&'a [String], Failure>,
    exporter: Result<Held<Box<dyn Exporter>>, Failure>,
    device: Result<Held<Arc<dyn Device>>, Failure>,
    /// The memory of the source. Known until the end of the leg, even if the source is closed because of a removal.
    origin: Origin,
    /// The device, likewise. `None` if it could not be opened.
    info: Option<DeviceInfo>,
}

/// Runs the cells of a leg. Returns `Break` if the run is interrupted.
///
/// # Errors
/// The input is bad, the result cannot be saved, or the host cannot be restored.
pub(super) fn run_leg(
    context: Context<'_>,
    leg: Leg<'_>,
    routes: &mut Routes,
    log: &mut Log<'_>,
) -> Result<ControlFlow<()>, Failure> {
    // Check before the first change of the host.
    if context.interrupt.ends_run() {
        return Ok(ControlFlow::Break(()));
    }
    let interrupt = context.interrupt.of_part();
    let context = Context { interrupt: &interrupt, ..context };
    let arrangement = match context.removed.failure_of(Some(leg.source), leg.target) {
        None => arrangement::make(context, leg, routes)?,
        Some(failure) => Err(failure),
    };
    let host_changes = match &arrangement {
        Ok(Some(arrangement)) => Ok(arrangement.done()),
        Ok(None) => Ok(&[][..]),
        Err(failure) => Err(failure.clone()),
    };
    let flow = run_cells(context, leg, host_changes, routes, log);
    // At this point, everything that used the changed host is closed.
    let reverted = arrangement.ok().flatten().map_or(Ok(()), arrangement::revert);
    match (flow, reverted) {
        (Err(failure), Err(not_reverted)) => {
            log.progress.failed(&not_reverted);
            Err(failure)
        }
        // A change of the removed function no longer has an effect. `restore` deletes it from the journal.
        (flow, Err(not_reverted)) if context.removed.failure_of(Some(leg.source), leg.target).is_some() => {
            log.progress.failed(&not_reverted);
            flow
        }
        (flow, reverted) => reverted.and(flow),
    }
}

fn run_cells(
    context: Context<'_>,
    leg: Leg<'_>,
    host_changes: Result<&[String], Failure>,
    routes: &mut Routes,
    log: &mut Log<'_>,
) -> Result<ControlFlow<()>, Failure> {
    let Context { plan, open, changes, .. } = context;
    let removed = context.removed.failure_of(Some(leg.source), leg.target);
    let (exporter, device) = match &removed {
        Some(failure) => (Err(failure.clone()), Err(failure.clone())),
        None => (
            per_cell(held::open_source(leg.source, open, changes))?,
            per_cell(held::open_target(leg.target, &plan.connection, Some(leg.source), changes))?,
        ),
    };
    let origin = exporter.as_ref().map_or_else(|_| unopened(leg.source), |exporter| exporter.origin().clone());
    let info = device.as_ref().ok().map(|device| device.info().clone());
    let pinning = Pinning::of_leg(plan, info.as_ref().and_then(|info| info.bdf), context.allowed_cpus);
    let context = Context { pinning: &pinning, ..context };
    let mut local = LocalLeg { context, leg, host_changes, exporter, device, origin, info };
    local.removals().stop(context.interrupt);
    // Drivers and IOMMU domains change when a function is opened.
    routes.refresh();
    if removed.is_none() {
        log.note_functions(context, routes, &local.origin, local.info.as_ref());
        log.warn_of_remote_threads(context, local.info.as_ref());
    }
    rounds::run(plan, leg, log, |repeat, log| {
        if context.interrupt.ends_run() {
            return None;
        }
        local.close_removed();
        let cell = local.run_cell(repeat, routes)?;
        // Close before the result is saved, because the kernel waits until the function is closed.
        local.close_removed();
        log.note_bridges(routes, &cell.path);
        Some(cell)
    })
}

impl LocalLeg<'_> {
    fn removals(&self) -> LegRemovals<'_> {
        LegRemovals {
            source: self.exporter.as_ref().ok().and_then(|exporter| exporter.removal()),
            target: self.device.as_ref().ok().and_then(|device| device.removal()),
        }
    }

    /// Returns the failure of the cells if the kernel requests the release of a function of the leg.
    fn removed(&self) -> Option<Failure> {
        let Leg { source, target, .. } = self.leg;
        self.removals().failure(Some(source), target, self.context.removed)
    }

    /// Closes source and target if the kernel requests the release of a function of the leg, so that the removal can proceed.
    /// The remaining cells fail.
    fn close_removed(&mut self) {
        if let Some(failure) = self.removed() {
            // Close the target first: it may have mapped memory of the source's function.
            self.device = Err(failure.clone());
            self.exporter = Err(failure);
        }
    }

    /// Runs a repeat of a cell; `None` if it was interrupted.
    fn run_cell(&mut self, Repeat { spec, index }: Repeat<'_>, routes: &mut Routes) -> Option<Cell> {
        let (origin, info) = (&self.origin, self.info.as_ref());
        let export = ExportSpec::of(origin, spec);
        let described_by_peer = matches!(self.leg.source, Source::Socket { .. });
        let ranges = mapped_at_once(origin, spec);
        let mut path = routes.predicted(self.leg.asked, origin, ranges, info, described_by_peer);
        path.evidence.extend(self.host_changes.iter().copied().flatten().cloned());
        let origin = export.as_ref().map_or_else(|_| origin.clone(), |export| export.origin(origin));
        let watched = Watched {
            tree: &Tree::live(),
            cpus: self.context.pinning.of_cell(spec, true),
            rdma_device: info.filter(|_| self.leg.target.importer.kind() == "verbs").map(|info| &info.name[..]),
            threads: pollers(spec, true),
            soft_rdma: info.is_some_and(|info| info.soft_rdma),
        };
        let before = watched.read();
        let exporter = self.exporter.as_mut().map_err(|failure| &*failure);
        let figures = match (exporter, self.device.as_ref(), self.host_changes.as_ref(), export) {
            (Err(failure), ..) | (_, Err(failure), ..) | (_, _, Err(failure), _) => Err(failure.clone().into()),
            (.., Err(error)) => Err(error.into()),
            (Ok(exporter), Ok(device), Ok(_), Ok(export)) => {
                let context = Context { limit: self.context.plan.limit(index), ..self.context };
                let cell = LocalCell { context, exporter: &***exporter, device, spec, export: &export };
                let figures = as_predicted(&path)
                    .and_then(|()| measure(cell, routes, &mut path))
                    .and_then(|figures| as_asked(&path, spec, figures));
                match spec.spec.map(|spec| spec.role) {
                    Some(Role::Revoke(kind)) => figures.and_then(|figures| {
                        let (source, open, interrupt) = (self.leg.source, context.open, context.interrupt);
                        let mut source = OpenSource { kind, exporter: &mut *exporter, source, open, interrupt };
                        revoke::measure(context, device, spec, &mut source, figures)
                    }),
                    _ => figures,
                }
            }
        };
        let after = watched.read();
        let functions = origin.bdf.into_iter().chain(info.and_then(|info| info.bdf));
        let figures = without_faults(routes, &mut path, functions, figures);
        let figures = match attribute(figures, self.context.interrupt, || self.removed()) {
            Ok(figures) => Ok(figures),
            Err(CellError::Interrupted) => return None,
            Err(CellError::Failure(failure)) => Err(failure),
        };
        if let Err(failure) = &figures {
            without_refusal_of_revoked(&mut path, failure);
        }
        let has_throughput = figures.as_ref().is_ok_and(|figures| figures.throughput.is_some());
        let ceiling = info
            .filter(|_| has_throughput)
            .and_then(|info| ceiling::of(self.context, routes, spec, &origin, ranges, info, &path));
        let failure = figures.as_ref().err().cloned();
        let mut cell = Cell { ceiling, ..record::cell(self.leg, spec, origin, info, path, figures) };
        cell.note_conditions(|repeat| watched.note(&before, &after, repeat));
        self.close_for_good(failure);
        Some(cell)
    }

    /// Fails the remaining cells if a cell closed the function and could not make it usable again.
    fn close_for_good(&mut self, failure: Option<Failure>) {
        let is_closed = |exporter: &Held<Box<dyn Exporter>>| {
            matches!(self.leg.source, Source::Vfio { .. }) && exporter.function().is_none()
        };
        if let (Some(failure), Ok(true)) = (failure, self.exporter.as_ref().map(is_closed)) {
            self.exporter = Err(failure);
        }
    }
}

/// Measures a cell, and records the observed path in `path`.
fn measure(cell: LocalCell<'_>, routes: &mut Routes, path: &mut CellPath) -> Result<Figures, CellError> {
    let LocalCell { exporter, device, spec, .. } = cell;
    let Some(op) = spec.spec else {
        return Err(CellError::waived(
            format!("{} does not support operation {}", device.info().name, spec.op),
            Explanation::uncaused(
                "The importer of this device does not implement it.",
                "Choose an operation of this importer.",
            ),
        ));
    };
    if spec.size_bytes > exporter.length_bytes() {
        return Err(CellError::waived(
            format!("{} bytes do not fit into the source", spec.size_bytes),
            Explanation::uncaused(
                format!("The length of the source is {} bytes.", exporter.length_bytes()),
                "Choose a smaller size or a larger source.",
            ),
        ));
    }
    match op.role {
        Role::Transfer(direction) => transfer::measure(cell, direction, routes, path),
        Role::Revoke(kind) => {
            revoke::check(cell, kind)?;
            revoke::observe(cell, routes, path)
        }
        role if cell.is_staged() => control::measure_staging(cell, role, routes, path),
        role if role.is_traced() => kernel_calls::measure(cell, role, routes, path),
        role => control::measure(cell, role, routes, path),
    }
}
