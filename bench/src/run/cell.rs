//! One cell: export, register under watch, move and time, verify, give back.

use std::sync::Arc;
use std::time::Duration;

use peerpath_exporter::{Buffer, Exporter, Origin};
use peerpath_importers::{DataPlaneSettings, Device, Direction, Registration, Role};
use peerpath_paths::Explanation;
use peerpath_paths::observe::CallKind;
use quanta::Clock;

use super::Runner;
use super::ended::Ended;
use crate::measure::{self, Limit, MeasureError, Recorder};
use crate::plan::{CellSpec, Mode};
use crate::result::{CellPath, Latency};
use crate::window::{Layout, Window};

/// A cell's figures.
#[derive(Default)]
pub(super) struct Figures {
    pub(super) iterations: u64,
    pub(super) verified_bytes: Option<u64>,
    pub(super) latency: Option<Latency>,
    pub(super) throughput: Option<f64>,
    pub(super) throughput_min_window: Option<f64>,
    pub(super) operations_per_s: Option<f64>,
    pub(super) mechanism: Option<&'static str>,
    pub(super) exported: Option<Origin>,
}

/// Untimed laps after a timed run, each with fresh data.
const VERIFIED_LAPS: u32 = 3;
/// Registrations watched at once: the kernel's buffer has room for so many without losing any.
const ROUNDS_A_WATCH: u64 = 100;

impl Runner<'_> {
    /// Measures a cell, and notes in `path` which way its data went.
    pub(super) fn measure(
        &mut self,
        exporter: &dyn Exporter,
        device: &Arc<dyn Device>,
        spec: &CellSpec,
        clock: &Clock,
        path: &mut CellPath,
    ) -> Result<Figures, Ended> {
        let Some(op) = spec.spec else {
            return Err(Ended::waived(
                format!("{} has no operation {}", device.info().name, spec.op),
                Explanation::uncaused("its importer does not offer it", "see `peerpath run --help` for what it offers"),
            ));
        };
        if spec.size_bytes > exporter.length_bytes() {
            return Err(Ended::waived(
                format!("{} bytes do not fit into the source", spec.size_bytes),
                Explanation::uncaused(
                    format!("the source has {} bytes", exporter.length_bytes()),
                    "choose a smaller --size or a larger source",
                ),
            ));
        }
        match op.role {
            Role::Transfer(direction) => self.transfer(exporter, device, spec, direction, clock, path),
            Role::Attach => self.inside(exporter, device, spec, CallKind::Attach, clock, path),
            Role::Map => self.inside(exporter, device, spec, CallKind::Map, clock, path),
            role => self.control(exporter, device, spec, role, clock, path),
        }
    }

    /// Exports and registers once, untimed, and notes which way the kernel chose.
    fn register_watched(
        &mut self,
        exporter: &dyn Exporter,
        device: &Arc<dyn Device>,
        length_bytes: u64,
        path: &mut CellPath,
    ) -> Result<(Arc<Buffer>, Box<dyn Registration>), Ended> {
        let buffer = exporter.export(length_bytes)?;
        let register = || Arc::clone(device).register(Arc::clone(&buffer));
        let registration = self.routes.observed(path, buffer.origin(), device.info().bdf, register)?;
        Ok((buffer, registration))
    }

    /// Times `export`, `register` or `unregister` of a buffer of the cell's size.
    fn control(
        &mut self,
        exporter: &dyn Exporter,
        device: &Arc<dyn Device>,
        spec: &CellSpec,
        role: Role,
        clock: &Clock,
        path: &mut CellPath,
    ) -> Result<Figures, Ended> {
        // A path on which nothing can be registered does not keep anyone from exporting.
        if role != Role::Export {
            self.register_watched(exporter, device, spec.size_bytes, path)?.1.unregister()?;
        }
        let mut mechanism = None;
        let mut exported = None;
        let mut step = |clock: &Clock| {
            let before_export = clock.raw();
            let buffer = exporter.export(spec.size_bytes)?;
            let after_export = clock.raw();
            exported.get_or_insert_with(|| buffer.origin().clone());
            if role == Role::Export {
                return Ok((before_export, after_export));
            }
            let before_register = clock.raw();
            let registration = Arc::clone(device).register(buffer)?;
            let after_register = clock.raw();
            mechanism = Some(registration.mechanism());
            let before_unregister = clock.raw();
            registration.unregister()?;
            let after_unregister = clock.raw();
            Ok(match role {
                Role::Register => (before_register, after_register),
                _ => (before_unregister, after_unregister),
            })
        };
        let mut recorder = Recorder::new(clock.clone());
        measure::control(self.warmup_limit(), &mut Recorder::new(clock.clone()), self.interrupt, &mut step)?;
        let iterations = measure::control(self.plan.limit(), &mut recorder, self.interrupt, &mut step)?;
        Ok(Figures { iterations, latency: recorder.latency(), mechanism, exported, ..Figures::default() })
    }

    /// Times what the kernel does inside a registration, through its own probes.
    fn inside(
        &mut self,
        exporter: &dyn Exporter,
        device: &Arc<dyn Device>,
        spec: &CellSpec,
        kind: CallKind,
        clock: &Clock,
        path: &mut CellPath,
    ) -> Result<Figures, Ended> {
        let (buffer, registration) = self.register_watched(exporter, device, spec.size_bytes, path)?;
        let mut figures = Figures {
            mechanism: Some(registration.mechanism()),
            exported: Some(buffer.origin().clone()),
            ..Figures::default()
        };
        registration.unregister()?;
        if buffer.dma_buf().is_none() {
            return Err(Ended::waived(
                format!("there is no {} to time", spec.op),
                Explanation::uncaused("only dma-bufs are attached and mapped", "time `register` instead"),
            ));
        }
        let (limit, interrupt) = (self.plan.limit(), self.interrupt);
        let mut recorder = Recorder::new(clock.clone());
        let begun = clock.raw();
        while recorder.count() < limit.iterations && clock.delta(begun, clock.raw()) < limit.duration {
            let wanted = ROUNDS_A_WATCH.min(limit.iterations - recorder.count());
            let rounds = || {
                for _ in 0..wanted {
                    if interrupt.is_set() {
                        return Err(MeasureError::Interrupted);
                    }
                    Arc::clone(device).register(exporter.export(spec.size_bytes)?)?.unregister()?;
                }
                Ok(())
            };
            let times = self.routes.timed(kind, rounds)??;
            if times.is_empty() {
                return Err(Ended::waived(
                    format!("no {} was seen", spec.op),
                    Explanation::uncaused(
                        "the kernel's function for it could not be probed",
                        "time `register` instead, which needs no tracing",
                    ),
                ));
            }
            times.into_iter().for_each(|time_ns| recorder.record_ns(time_ns));
        }
        figures.iterations = recorder.count();
        figures.latency = recorder.latency();
        Ok(figures)
    }

    /// Fills, moves, times and verifies.
    fn transfer(
        &mut self,
        exporter: &dyn Exporter,
        device: &Arc<dyn Device>,
        spec: &CellSpec,
        direction: Direction,
        clock: &Clock,
        path: &mut CellPath,
    ) -> Result<Figures, Ended> {
        let (buffer, registration) = self.register_watched(exporter, device, exporter.length_bytes(), path)?;
        let layout = Layout::new(spec.size_bytes, spec.depth, buffer.length_bytes()).ok_or_else(|| {
            Ended::waived(
                "the operation does not fit into the buffer",
                Explanation::uncaused("", "choose a smaller --size"),
            )
        })?;
        let settings = DataPlaneSettings { depth: spec.depth, far_bytes: layout.length_bytes() };
        let mut figures = Figures {
            mechanism: Some(registration.mechanism()),
            exported: Some(buffer.origin().clone()),
            ..Figures::default()
        };
        {
            let mut plane = registration.data_plane(&settings)?;
            let far = plane.far();
            let (plane, interrupt) = (&mut *plane, self.interrupt);
            let mut unused = Recorder::new(clock.clone());
            measure::latency(plane, layout, spec.op, self.warmup_limit(), &mut unused, interrupt)?;
            // Filled after the warm-up, so that what the warm-up moved counts as stale.
            let window = Window::fill(layout, direction, &**buffer.view(), &*far)?;
            match spec.mode {
                Mode::Completion => {
                    let mut recorder = Recorder::new(clock.clone());
                    let limit = self.plan.limit();
                    figures.iterations = measure::latency(plane, layout, spec.op, limit, &mut recorder, interrupt)?;
                    figures.latency = recorder.latency();
                }
                Mode::Bandwidth => {
                    let limit = self.plan.limit();
                    let seen = measure::bandwidth(plane, layout, spec.op, spec.depth, limit, clock, interrupt)?;
                    let seconds = seen.elapsed.as_secs_f64();
                    let size = spec.size_bytes as f64;
                    figures.iterations = seen.operations;
                    if seconds > 0.0 {
                        figures.operations_per_s = Some(seen.operations as f64 / seconds);
                        figures.throughput = Some(seen.operations as f64 * size / seconds);
                    }
                    figures.throughput_min_window = seen.slowest_window_operations_per_s.map(|rate| rate * size);
                }
            }
            let mut verified_bytes = window.verify(figures.iterations)?;
            // In the timed run every operation but the last one of a slot is overwritten unseen. So each slot is used once
            // more, several times over, with data of its own each time.
            let lap = Limit { iterations: layout.slots(), duration: Duration::MAX };
            for _ in 0..VERIFIED_LAPS {
                let window = Window::fill(layout, direction, &**buffer.view(), &*far)?;
                measure::latency(plane, layout, spec.op, lap, &mut unused, interrupt)?;
                verified_bytes += window.verify(layout.slots())?;
            }
            figures.verified_bytes = Some(verified_bytes);
        }
        registration.unregister()?;
        Ok(figures)
    }

    fn warmup_limit(&self) -> Limit {
        Limit { iterations: self.plan.warmup, ..self.plan.limit() }
    }
}
