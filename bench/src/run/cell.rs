//! One cell: export, register under watch, move and time, verify, give back.

use std::sync::Arc;

use peerpath_exporter::{Buffer, Exporter, Handle, HostExporter, OpenOptions, Origin};
use peerpath_importers::{Device, Registration, Role};
use peerpath_observe::DmaBufOp;
use peerpath_paths::{Explanation, PathName};
use quanta::Clock;

use super::Runner;
use super::cell_error::CellError;
use super::shape::Shape;
use super::threads;
use crate::measure::{self, Limit, MeasureError, Recorder};
use crate::plan::{CellSpec, Mechanism};
use crate::result::{CellPath, Latency};

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
    pub(super) fn export(&self) -> Result<Arc<Buffer>, peerpath_exporter::Error> {
        self.shape.export(self.exporter)
    }

    pub(super) fn register(&self, buffer: Arc<Buffer>) -> Result<Box<dyn Registration>, peerpath_importers::Error> {
        Arc::clone(self.device).register(buffer)
    }

    pub(super) fn is_staged(&self) -> bool {
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
    pub(super) each_way: Option<[f64; 2]>,
    pub(super) throughput_min_window: Option<f64>,
    pub(super) operations_per_s: Option<f64>,
    pub(super) mechanism: Option<&'static str>,
    pub(super) exported: Option<Origin>,
    /// The device's own clock was read, and not this host's.
    pub(super) by_device: bool,
}

/// Registrations watched at once: the kernel's buffer has room for so many without losing any.
const ROUNDS_A_WATCH: u64 = 100;

impl Runner<'_> {
    /// Measures a cell, and notes in `path` which way its data went.
    pub(super) fn measure(&mut self, setup: Setup<'_>, path: &mut CellPath) -> Result<Figures, CellError> {
        let Setup { exporter, device, spec, .. } = setup;
        let Some(op) = spec.spec else {
            return Err(CellError::waived(
                format!("{} has no operation {}", device.info().name, spec.op),
                Explanation::uncaused("its importer does not offer it", "choose an operation of this importer"),
            ));
        };
        if spec.size_bytes > exporter.length_bytes() {
            return Err(CellError::waived(
                format!("{} bytes do not fit into the source", spec.size_bytes),
                Explanation::uncaused(
                    format!("the source has {} bytes", exporter.length_bytes()),
                    "choose a smaller size or a larger source",
                ),
            ));
        }
        match op.role {
            Role::Transfer(direction) => self.transfer(setup, direction, path),
            _ if setup.is_staged() => self.control_staging(setup, op.role, path),
            Role::Attach => self.inside(setup, DmaBufOp::Attach, path),
            Role::Map => self.inside(setup, DmaBufOp::Map, path),
            role => self.control(setup, role, path),
        }
    }

    /// Registers once, untimed, and notes which way the kernel chose.
    pub(super) fn register_watched(
        &mut self,
        setup: Setup<'_>,
        buffer: &Arc<Buffer>,
        path: &mut CellPath,
    ) -> Result<Box<dyn Registration>, CellError> {
        let register = || setup.register(Arc::clone(buffer));
        Ok(self.routes.observed(path, buffer.origin(), setup.device.info(), register)?)
    }

    /// Times `export`, `register` or `unregister` of a buffer of the cell's size.
    fn control(&mut self, setup: Setup<'_>, role: Role, path: &mut CellPath) -> Result<Figures, CellError> {
        // A path on which nothing can be registered does not keep anyone from exporting.
        if role != Role::Export {
            self.register_watched(setup, &setup.export()?, path)?.unregister()?;
        }
        // Each thread has buffers and registrations of its own.
        let (warmup, limit, interrupt) = (self.warmup_limit(), self.plan.limit(), self.interrupt);
        let seen = threads::together(vec![(); setup.spec.threads as usize], threads::in_turn(&self.plan.cpus), |()| {
            let mut seen = Control { recorder: Recorder::new(setup.clock.clone()), mechanism: None, exported: None };
            let mut unused = Recorder::new(setup.clock.clone());
            measure::control(warmup, &mut unused, interrupt, |clock| seen.step(setup, role, clock))?;
            let mut recorder = Recorder::new(setup.clock.clone());
            measure::control(limit, &mut recorder, interrupt, |clock| seen.step(setup, role, clock))?;
            Ok(Control { recorder, ..seen })
        })?;
        let recorder = Recorder::all(seen.iter().map(|seen| &seen.recorder));
        let (mechanism, exported) =
            seen.into_iter().next().map_or((None, None), |seen| (seen.mechanism, seen.exported));
        Ok(Figures {
            iterations: recorder.count(),
            latency: recorder.latency(),
            mechanism,
            exported,
            ..Figures::default()
        })
    }

    /// Times what of the control ops there is without mapping the BAR: registering the staging buffer.
    fn control_staging(&mut self, setup: Setup<'_>, role: Role, path: &mut CellPath) -> Result<Figures, CellError> {
        if !matches!(role, Role::Register | Role::Unregister) {
            return Err(CellError::waived(
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
    fn inside(&mut self, setup: Setup<'_>, kind: DmaBufOp, path: &mut CellPath) -> Result<Figures, CellError> {
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
            Handle::Memory(_) | Handle::GpuNotExported(_) => Some("only dma-bufs are attached and mapped"),
        };
        if let Some(why) = why_not {
            return Err(CellError::waived(
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
                return Err(CellError::waived(
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

    pub(super) fn warmup_limit(&self) -> Limit {
        Limit { iterations: self.plan.warmup, ..self.plan.limit() }
    }
}

/// What a thread saw of a control op.
struct Control {
    recorder: Recorder,
    mechanism: Option<&'static str>,
    exported: Option<Origin>,
}

impl Control {
    /// Exports, registers and takes back; returns the time stamps around the one that is asked for.
    fn step(&mut self, setup: Setup<'_>, role: Role, clock: &Clock) -> Result<(u64, u64), MeasureError> {
        let before_export = clock.raw();
        let buffer = setup.export()?;
        let after_export = clock.raw();
        if role == Role::Export {
            buffer.handle().required()?;
        }
        self.exported.get_or_insert_with(|| buffer.origin().clone());
        if role == Role::Export {
            return Ok((before_export, after_export));
        }
        let device = Arc::clone(setup.device);
        let before_register = clock.raw();
        let registration = device.register(buffer)?;
        let after_register = clock.raw();
        self.mechanism = Some(registration.mechanism());
        let before_unregister = clock.raw();
        let _remains = registration.unregister()?;
        let after_unregister = clock.raw();
        Ok(match role {
            Role::Register => (before_register, after_register),
            _ => (before_unregister, after_unregister),
        })
    }
}

/// Host memory to copy through.
pub(super) fn staging(setup: Setup<'_>, length_bytes: u64) -> Result<HostExporter, CellError> {
    if setup.spec.mechanism == Mechanism::MrPerRange {
        return Err(CellError::waived(
            "a staging buffer is not registered range by range",
            Explanation::uncaused("it is one piece of host memory", "leave out the mechanism, or path staged"),
        ));
    }
    Ok(HostExporter::open(length_bytes, &OpenOptions::default())?)
}

pub(super) fn note_staging(setup: Setup<'_>, length_bytes: u64, path: &mut CellPath) {
    path.observed = PathName::Staged;
    path.evidence = vec![format!(
        "{} was given {length_bytes} bytes of host memory and never the BAR; the CPU copied between the two",
        setup.device.info().name
    )];
}
