//! Transfers between a source and a target on this host, directly or through a staging buffer.

use std::sync::Arc;

use peerpath_exporter::{Buffer, Exporter as _, Handle, SourceKind};
use peerpath_importers::{DataPlane, DataPlaneSettings, Direction};
use peerpath_paths::{Cause, Explanation};

use super::super::cell_error::CellError;
use super::super::pinning::pollers;
use super::super::transfer::{Figures, Lane, Transfers, atomics_refused, layouts, streams};
use super::cell::LocalCell;
use super::staged::Staged;
use crate::plan::{Mode, unsupported};
use crate::result::CellPath;
use crate::route::Routes;
use crate::window::Access;

/// Runs, times and verifies the transfers of a cell.
pub(super) fn measure(
    cell: LocalCell<'_>,
    direction: Direction,
    routes: &mut Routes,
    path: &mut CellPath,
) -> Result<Figures, CellError> {
    let (spec, plan) = (cell.spec, cell.context.plan);
    if let Some(explanation) = unsupported(spec) {
        return Err(CellError::waived(format!("cannot run {} ({})", spec.op, spec.mode.as_str()), explanation));
    }
    if let Some(cpus) = cell.context.pinning.too_few_for(spec) {
        return Err(CellError::waived(
            format!("cannot run ping-pong with {} thread(s) on the {cpus} CPU(s) of the plan", spec.threads),
            Explanation::uncaused(
                "Each thread has an initiator and a responder. Both poll without sleeping, so on one CPU they would delay each other.",
                format!("Name at least {} CPUs, or none.", pollers(spec, true)),
            ),
        ));
    }
    log::info!("export {} bytes for {} in mode {}", spec.size_bytes, spec.op, spec.mode.as_str());
    let buffer = cell.export()?;
    let layouts = layouts(spec, &buffer)?;
    let streams = streams(spec);
    let far_bytes = layouts[..streams].iter().map(|layout| layout.far_start() + layout.length_bytes()).max();
    let far_bytes = far_bytes.unwrap_or(0);
    let settings = DataPlaneSettings { depth: spec.depth, queues: spec.qps, both_sides: spec.bidirectional, far_bytes };
    let registered = if cell.is_staged() {
        let staging = cell.staging(far_bytes)?.export(far_bytes)?;
        cell.note_staging(far_bytes, path);
        staging
    } else {
        Arc::clone(&buffer)
    };
    let registration = cell.register_observed(&registered, routes, path)?;
    let figures = Figures {
        mechanism: Some(registration.mechanism()),
        exported: Some(buffer.origin().clone()),
        ..Figures::default()
    };
    let lane = |layouts| -> Result<Lane<'_>, CellError> {
        if spec.mode == Mode::PingPong {
            return Lane::with_both_ends(&*registration, layouts, spec.op);
        }
        let data_plane = registration.data_plane(&settings)?;
        let data_plane: Box<dyn DataPlane + '_> = match registered.handle() {
            Handle::Memory(memory) if cell.is_staged() => {
                let bar = Arc::clone(buffer.view());
                Box::new(Staged::new(data_plane, memory.clone(), bar, direction, spec.depth)?)
            }
            _ => data_plane,
        };
        Ok(Lane::with_data_plane(data_plane, layouts))
    };
    let mut lanes = layouts.chunks(streams).map(lane).collect::<Result<Vec<_>, _>>()?;
    let shared_far = cell.device.info().own_address_space && lanes.iter().any(|lane| lane.far.is_writable());
    if lanes.len() > 1 && shared_far {
        return Err(CellError::waived(
            "cannot use several threads on writable blocks of a drive",
            Explanation::uncaused(
                "All threads use the same blocks, so they would overwrite each other's data.",
                "Use one thread, or do not allow writes to the drive.",
            ),
        ));
    }
    let transfers = Transfers {
        cpus: cell.context.pinning.of_cell(spec, true),
        limit: cell.context.limit,
        plan,
        interrupt: cell.context.interrupt,
        clock: cell.context.clock,
        spec,
        device: &cell.device.info().name,
        direction,
        near: Access::Local(&**buffer.view()),
    };
    let figures = transfers.run(&mut lanes, figures);
    drop(lanes);
    let figures = figures.map_err(|error| refused_atomic(cell, &buffer, error))?;
    registration.unregister()?;
    Ok(figures)
}

/// Returns the outcome of [`atomics_refused`] if the BAR rejected an atomic operation, otherwise `error`. The device reports the
/// same status for revoked memory. To distinguish the two, registers again, which fails for revoked memory.
fn refused_atomic(cell: LocalCell<'_>, buffer: &Arc<Buffer>, error: CellError) -> CellError {
    let CellError::Failure(failure) = &error else { return error };
    let is_refused = failure.explanation.cause == Some(Cause::Revoked)
        && cell.spec.op.is_atomic()
        && buffer.origin().kind == SourceKind::Vfio
        && cell.register(Arc::clone(buffer)).and_then(|again| again.unregister()).is_ok();
    if is_refused { atomics_refused(failure.what.clone()) } else { error }
}
