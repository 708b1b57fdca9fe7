//! Times control operations that are one call: export, register and unregister.

use std::sync::Arc;

use peerpath_exporter::Origin;
use peerpath_importers::Role;
use peerpath_paths::Explanation;
use quanta::Clock;

use super::super::cell_error::CellError;
use super::super::context::Context;
use super::super::export_spec::ExportSpec;
use super::super::threads;
use super::super::transfer::Figures;
use super::cell::LocalCell;
use crate::measure::{self, MeasureError, Recorder, WarmUp};
use crate::result::CellPath;
use crate::route::Routes;

/// Times `export`, `register` or `unregister` for a buffer of the cell's size.
pub(super) fn measure(
    cell: LocalCell<'_>,
    role: Role,
    routes: &mut Routes,
    path: &mut CellPath,
) -> Result<Figures, CellError> {
    // An export works even on paths on which a registration fails, so observe the path only for the other operations.
    if role != Role::Export {
        cell.register_observed(&cell.export()?, routes, path)?.unregister()?;
    }
    // Each thread has its own buffers and registrations.
    let Context { plan, interrupt, clock, limit, pinning, .. } = cell.context;
    let threads = vec![(); cell.spec.threads as usize];
    let cpus = pinning.of_cell(cell.spec, true);
    let timed = threads::run_together(threads, threads::round_robin(cpus), |()| {
        let mut timed = Timed::default();
        let mut run = |limit, recorder: &mut Recorder| {
            measure::control(limit, recorder, interrupt, |clock| timed.step(cell, role, clock))
        };
        let warm_up = measure::warm_up(plan.warmup, limit, clock, &mut run)?;
        let mut recorder = Recorder::new(clock.clone());
        run(limit, &mut recorder)?;
        Ok((recorder, warm_up, timed))
    })?;
    let recorder = Recorder::all(timed.iter().map(|(recorder, ..)| recorder));
    let warm_up = timed.iter().map(|(_, warm_up, _)| *warm_up).reduce(WarmUp::and);
    let Timed { mechanism, exported } = timed.into_iter().next().map(|(.., timed)| timed).unwrap_or_default();
    let (iterations, latency) = (recorder.count(), recorder.latency());
    Ok(Figures { iterations, latency, warm_up, mechanism, exported, ..Figures::default() })
}

/// Times the registration of the staging buffer, or the reverse. A staged path supports no other control operation.
pub(super) fn measure_staging(
    cell: LocalCell<'_>,
    role: Role,
    routes: &mut Routes,
    path: &mut CellPath,
) -> Result<Figures, CellError> {
    let spec = cell.spec;
    if !matches!(role, Role::Register | Role::Unregister) {
        return Err(CellError::waived(
            format!("cannot time {} on a staged path", spec.op),
            Explanation::uncaused(
                "The CPU copies the BAR; no device registers it.",
                "Time `register`: it registers the staging buffer.",
            ),
        ));
    }
    let staging = cell.staging(spec.size_bytes)?;
    let export = ExportSpec::Front(spec.size_bytes);
    cell.note_staging(spec.size_bytes, path);
    // The result reports the BAR as the source of the cell. The staging memory that is registered here is only a step on the
    // path to the BAR.
    let figures = measure(LocalCell { exporter: &staging, export: &export, ..cell }, role, routes, path)?;
    Ok(Figures { exported: None, ..figures })
}

/// The mechanism of a thread's registrations, and the origin of its exported buffers.
#[derive(Default)]
struct Timed {
    mechanism: Option<&'static str>,
    exported: Option<Origin>,
}

impl Timed {
    /// Exports, registers and unregisters once. Returns the raw time stamps before and after the operation of `role`.
    fn step(&mut self, cell: LocalCell<'_>, role: Role, clock: &Clock) -> Result<(u64, u64), MeasureError> {
        let before_export = clock.raw();
        let buffer = cell.export()?;
        let after_export = clock.raw();
        if role == Role::Export {
            buffer.handle().required()?;
        }
        self.exported.get_or_insert_with(|| buffer.origin().clone());
        if role == Role::Export {
            return Ok((before_export, after_export));
        }
        let device = Arc::clone(cell.device);
        let before_register = clock.raw();
        let registration = device.register(buffer)?;
        let after_register = clock.raw();
        self.mechanism = Some(registration.mechanism());
        let before_unregister = clock.raw();
        let _release = registration.unregister()?;
        let after_unregister = clock.raw();
        Ok(match role {
            Role::Register => (before_register, after_register),
            _ => (before_unregister, after_unregister),
        })
    }
}
