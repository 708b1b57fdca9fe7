//! One cell: export, register under watch, move and time, verify, give back.

use std::sync::Arc;
use std::time::Duration;

use peerpath_exporter::{Buffer, Exporter, Handle, HostExporter, OpenOptions, Origin};
use peerpath_importers::{DataPlane, DataPlaneSettings, Device, Direction, Registration, Role};
use peerpath_paths::observe::CallKind;
use peerpath_paths::{Cause, Explanation, PathName};
use quanta::Clock;

use super::Runner;
use super::ended::Ended;
use super::shape::Shape;
use super::staged::Staged;
use crate::measure::{self, Limit, MeasureError, Recorder};
use crate::plan::{CellSpec, Mechanism, Mode};
use crate::result::{CellPath, Latency};
use crate::window::{Layout, Window};

/// What a cell works with.
#[derive(Clone, Copy)]
pub(super) struct Setup<'a> {
    pub(super) exporter: &'a dyn Exporter,
    pub(super) device: &'a Arc<dyn Device>,
    pub(super) spec: &'a CellSpec,
    pub(super) shape: &'a Shape,
    pub(super) clock: &'a Clock,
}

impl Setup<'_> {
    fn export(&self) -> Result<Arc<Buffer>, peerpath_exporter::Error> {
        self.shape.export(self.exporter)
    }

    fn register(&self, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, peerpath_importers::Error> {
        Arc::clone(self.device).register(buffer)
    }

    fn is_staged(&self) -> bool {
        self.spec.asked == Some(PathName::Staged)
    }
}

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
    pub(super) fn measure(&mut self, setup: Setup<'_>, path: &mut CellPath) -> Result<Figures, Ended> {
        let Setup { exporter, device, spec, .. } = setup;
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
            Role::Transfer(direction) => self.transfer(setup, direction, path),
            _ if setup.is_staged() => self.control_staging(setup, op.role, path),
            Role::Attach => self.inside(setup, CallKind::Attach, path),
            Role::Map => self.inside(setup, CallKind::Map, path),
            role => self.control(setup, role, path),
        }
    }

    /// Registers once, untimed, and notes which way the kernel chose.
    fn register_watched(
        &mut self,
        setup: Setup<'_>,
        buffer: &Arc<Buffer>,
        path: &mut CellPath,
    ) -> Result<Box<dyn Registration>, Ended> {
        let register = || setup.register(Arc::clone(buffer));
        Ok(self.routes.observed(path, buffer.origin(), setup.device.info(), register)?)
    }

    /// Times `export`, `register` or `unregister` of a buffer of the cell's size.
    fn control(&mut self, setup: Setup<'_>, role: Role, path: &mut CellPath) -> Result<Figures, Ended> {
        // A path on which nothing can be registered does not keep anyone from exporting.
        if role != Role::Export {
            self.register_watched(setup, &setup.export()?, path)?.unregister()?;
        }
        let mut mechanism = None;
        let mut exported = None;
        let mut step = |clock: &Clock| {
            let before_export = clock.raw();
            let buffer = setup.export()?;
            let after_export = clock.raw();
            exported.get_or_insert_with(|| buffer.origin().clone());
            if role == Role::Export {
                return Ok((before_export, after_export));
            }
            let device = Arc::clone(setup.device);
            let before_register = clock.raw();
            let registration = device.register(buffer)?;
            let after_register = clock.raw();
            mechanism = Some(registration.mechanism());
            let before_unregister = clock.raw();
            let _remains = registration.unregister()?;
            let after_unregister = clock.raw();
            Ok(match role {
                Role::Register => (before_register, after_register),
                _ => (before_unregister, after_unregister),
            })
        };
        let recorder = || Recorder::new(setup.clock.clone());
        measure::control(self.warmup_limit(), &mut recorder(), self.interrupt, &mut step)?;
        let mut recorder = recorder();
        let iterations = measure::control(self.plan.limit(), &mut recorder, self.interrupt, &mut step)?;
        Ok(Figures { iterations, latency: recorder.latency(), mechanism, exported, ..Figures::default() })
    }

    /// Times what of the control ops there is without mapping the BAR: registering the staging buffer.
    fn control_staging(&mut self, setup: Setup<'_>, role: Role, path: &mut CellPath) -> Result<Figures, Ended> {
        if !matches!(role, Role::Register | Role::Unregister) {
            return Err(Ended::waived(
                format!("there is no {} to time", setup.spec.op),
                Explanation::uncaused(
                    "the BAR is copied by the CPU, and no device gets to know it",
                    "time `register`, that of the staging buffer",
                ),
            ));
        }
        let staging = staging(setup, setup.spec.size_bytes)?;
        let shape = Shape::Front(setup.spec.size_bytes);
        note_staging(setup, setup.spec.size_bytes, path);
        // The source stays the BAR; what was registered is only on the way to it.
        let figures = self.control(Setup { exporter: &staging, shape: &shape, ..setup }, role, path)?;
        Ok(Figures { exported: None, ..figures })
    }

    /// Times what the kernel does inside a registration, through its own probes.
    fn inside(&mut self, setup: Setup<'_>, kind: CallKind, path: &mut CellPath) -> Result<Figures, Ended> {
        let buffer = setup.export()?;
        let registration = self.register_watched(setup, &buffer, path)?;
        let mut figures = Figures {
            mechanism: Some(registration.mechanism()),
            exported: Some(buffer.origin().clone()),
            ..Figures::default()
        };
        registration.unregister()?;
        let why_not = match buffer.handle() {
            Handle::DmaBuf(_) => None,
            Handle::DmaBufs(_) => Some("every range has one of its own"),
            Handle::Memory(_) => Some("only dma-bufs are attached and mapped"),
        };
        if let Some(why) = why_not {
            return Err(Ended::waived(
                format!("there is no {} to time", setup.spec.op),
                Explanation::uncaused(why, "time `register` instead"),
            ));
        }
        let (limit, interrupt, clock) = (self.plan.limit(), self.interrupt, setup.clock);
        let mut recorder = Recorder::new(clock.clone());
        let begun = clock.raw();
        while recorder.count() < limit.iterations && clock.delta(begun, clock.raw()) < limit.duration {
            let wanted = ROUNDS_A_WATCH.min(limit.iterations - recorder.count());
            let rounds = || {
                for _ in 0..wanted {
                    if interrupt.is_set() {
                        return Err(MeasureError::Interrupted);
                    }
                    setup.register(setup.export()?)?.unregister()?;
                }
                Ok(())
            };
            let times = self.routes.timed(kind, rounds)??;
            if times.is_empty() {
                return Err(Ended::waived(
                    format!("no {} was seen", setup.spec.op),
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

    /// Moves between the far side and the source, directly or by way of a staging buffer.
    fn transfer(&mut self, setup: Setup<'_>, direction: Direction, path: &mut CellPath) -> Result<Figures, Ended> {
        let spec = setup.spec;
        let buffer = setup.export()?;
        let layout = layout(spec, &buffer)?;
        let settings = DataPlaneSettings { depth: spec.depth, far_bytes: layout.length_bytes() };
        let registered = if setup.is_staged() {
            let staging = staging(setup, layout.length_bytes())?.export(layout.length_bytes())?;
            note_staging(setup, layout.length_bytes(), path);
            staging
        } else {
            Arc::clone(&buffer)
        };
        let registration = self.register_watched(setup, &registered, path)?;
        let figures = Figures {
            mechanism: Some(registration.mechanism()),
            exported: Some(buffer.origin().clone()),
            ..Figures::default()
        };
        let plane = registration.data_plane(&settings)?;
        let mut plane: Box<dyn DataPlane + '_> = match registered.handle() {
            Handle::Memory(memory) if setup.is_staged() => {
                Box::new(Staged::new(plane, memory.clone(), Arc::clone(buffer.view()), direction, spec.depth)?)
            }
            _ => plane,
        };
        let figures = self.moved(setup, direction, &buffer, &layout, &mut *plane, figures)?;
        drop(plane);
        registration.unregister()?;
        Ok(figures)
    }

    /// Fills, moves, times and verifies.
    fn moved(
        &self,
        setup: Setup<'_>,
        direction: Direction,
        buffer: &Buffer,
        layout: &Layout,
        plane: &mut dyn DataPlane,
        mut figures: Figures,
    ) -> Result<Figures, Ended> {
        let (spec, clock, interrupt) = (setup.spec, setup.clock, self.interrupt);
        let far = plane.far();
        if direction == Direction::OutOfSource && !far.is_writable() {
            return Err(Ended::waived(
                format!("{} may not be written", setup.device.info().name),
                Explanation::new(
                    Cause::NoPermission,
                    "its content is precious, and nobody said which part of it may be overwritten",
                    "name it with --allow-write LBA+COUNT; what stands there is lost",
                ),
            ));
        }
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
        Ok(figures)
    }

    fn warmup_limit(&self) -> Limit {
        Limit { iterations: self.plan.warmup, ..self.plan.limit() }
    }
}

/// Where a cell's operations lie in the buffer: anywhere, or each within one of its registrations.
fn layout(spec: &CellSpec, buffer: &Buffer) -> Result<Layout, Ended> {
    let ranges = &buffer.origin().ranges;
    let (layout, into) = match buffer.handle() {
        Handle::DmaBufs(_) => {
            let lengths = ranges.iter().map(|range| range.length_bytes);
            (Layout::within_parts(spec.size_bytes, spec.depth, lengths), "any of its ranges")
        }
        _ => (Layout::new(spec.size_bytes, spec.depth, buffer.length_bytes()), "the buffer"),
    };
    layout.ok_or_else(|| {
        Ended::waived(
            format!("an operation of {} bytes does not fit into {into}", spec.size_bytes),
            Explanation::uncaused("an operation lies within one registration", "choose a smaller --size"),
        )
    })
}

/// Host memory to copy through.
fn staging(setup: Setup<'_>, length_bytes: u64) -> Result<HostExporter, Ended> {
    if setup.spec.mechanism == Mechanism::MrPerRange {
        return Err(Ended::waived(
            "a staging buffer is not registered range by range",
            Explanation::uncaused("it is one piece of host memory", "leave out --mechanism, or --path staged"),
        ));
    }
    Ok(HostExporter::open(length_bytes, &OpenOptions::default())?)
}

fn note_staging(setup: Setup<'_>, length_bytes: u64, path: &mut CellPath) {
    path.observed = PathName::Staged;
    path.evidence = vec![format!(
        "{} was given {length_bytes} bytes of host memory and never the BAR; the CPU copied between the two",
        setup.device.info().name
    )];
}
