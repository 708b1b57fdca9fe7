//! Carries a plan out, cell by cell, and saves after each.
//!
//! Every cell exports, registers and sets up its data plane afresh: one that fails leaves nothing behind that could
//! colour the next.

mod cell;
mod ended;

use std::path::Path;
use std::sync::Arc;

use peerpath_exporter::{BarRange, OpenOptions, Origin, Source, SourceKind};
use peerpath_importers::{Availability, Device, DeviceInfo, Direction, Role};
use peerpath_paths::{Bdf, Cause, Explanation};
use quanta::Clock;

use crate::environment::{Host, utc_now};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::plan::{CellSpec, Plan, Target};
use crate::result::{Cell, CellPath, CellTarget, Outcome, Run, RunResult, SCHEMA_VERSION, Tool};
use crate::route::Routes;
use crate::store::Store;
use cell::Figures;
use ended::{Ended, Unusable};

/// Hears how a run goes on.
pub trait Progress {
    /// A cell begins.
    fn begin(&mut self, what: &str);
    /// A cell ended; it is saved.
    fn end(&mut self, cell: &Cell);
}

/// Everything a run needs besides its plan.
pub struct Runner<'a> {
    /// What to run.
    pub plan: &'a Plan,
    /// The command line, for the record.
    pub arguments: Vec<String>,
    /// How sources are opened.
    pub open: &'a OpenOptions,
    /// The folder that the result goes to.
    pub folder: &'a Path,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
    /// The host.
    pub host: Host,
    /// Which way data should go on it.
    pub routes: Routes,
}

/// An opened target, or why it cannot be used.
type Opened = Result<Arc<dyn Device>, Unusable>;

impl Runner<'_> {
    /// Runs the plan.
    ///
    /// # Errors
    /// Bad input, before anything ran; or the result could not be saved. Cells that fail stand in the result.
    pub fn run(&mut self, progress: &mut dyn Progress) -> Result<RunResult, Failure> {
        self.plan.check()?;
        self.check_sources()?;
        let targets = self.open_targets()?;
        // Not before everything named has been found: a slip must not cost an earlier result.
        let store = Store::create(self.folder)?;
        let clock = Clock::new();
        let mut result = self.blank(&targets);
        store.save(&result)?;
        'run: for source in &self.plan.sources {
            // Opened for all of its cells and closed after them, so that another source may name the same function.
            let exporter = match source.open(self.open) {
                Ok(exporter) => Ok(exporter),
                Err(error) => Err(Unusable::or_bad_input(&error)?),
            };
            self.routes.refresh();
            self.note_functions(
                &mut result,
                exporter.as_ref().map_or_else(|_| named(source), |open| open.origin().clone()),
                &targets,
            );
            for (target, device) in self.plan.targets.iter().zip(&targets) {
                for spec in self.plan.cells(target) {
                    if self.interrupt.is_set() {
                        break 'run;
                    }
                    progress.begin(&describe(&source.to_string(), target, &spec));
                    let origin = exporter.as_ref().map_or_else(|_| named(source), |exporter| exporter.origin().clone());
                    let info = device.as_ref().ok().map(|device| device.info());
                    let mut path = self.routes.predicted(
                        &origin,
                        info.and_then(|info| info.bdf),
                        matches!(source, Source::Socket { .. }),
                    );
                    let figures = match (&exporter, device) {
                        (Err(unusable), _) | (_, Err(unusable)) => Err(unusable.clone().into()),
                        (Ok(exporter), Ok(device)) => {
                            let figures = self.measure(&**exporter, device, &spec, &clock, &mut path);
                            self.without_faults(figures, &origin, info, &mut path)
                        }
                    };
                    if matches!(figures, Err(Ended::Interrupted)) {
                        break 'run;
                    }
                    let cell = self.cell(source, origin, target, info, &spec, path, figures);
                    result.cells.push(cell);
                    store.save(&result)?;
                    progress.end(&result.cells[result.cells.len() - 1]);
                }
            }
        }
        if self.interrupt.is_set() {
            result.run.interrupted = true;
            store.save(&result)?;
        }
        Ok(result)
    }

    /// A wrong BDF is told before anything has run.
    fn check_sources(&self) -> Result<(), Failure> {
        for source in &self.plan.sources {
            if let Err(error) = source.open(self.open) {
                Unusable::or_bad_input(&error)?;
            }
        }
        Ok(())
    }

    fn open_targets(&self) -> Result<Vec<Opened>, Failure> {
        let open = |target: &Target| {
            let opened = match target.importer.probe(&target.address) {
                Ok(Availability::Waived(explanation)) => {
                    let reason = format!("{target} cannot be used");
                    return Ok(Err(Unusable { outcome: Outcome::Waived, reason, explanation }));
                }
                // Without dma-bufs it still serves the host-memory baseline; other sources are refused at registration.
                Ok(Availability::Ready | Availability::HostMemoryOnly(_)) => target.importer.open(&target.address),
                Err(error) => Err(error),
            };
            match opened {
                Ok(device) => Ok(Ok(device)),
                Err(error) => Unusable::or_bad_input(&error).map(Err),
            }
        };
        self.plan.targets.iter().map(open).collect()
    }

    fn blank(&self, targets: &[Opened]) -> RunResult {
        let started_at = utc_now();
        let mut environment = self.host.environment();
        let infos: Vec<&DeviceInfo> = targets.iter().flatten().map(|device| device.info()).collect();
        environment.soft_rdma = infos.iter().any(|info| info.soft_rdma);
        RunResult {
            schema_version: SCHEMA_VERSION,
            tool: Tool {
                name: env!("CARGO_PKG_NAME").into(),
                version: env!("CARGO_PKG_VERSION").into(),
                git_revision: option_env!("PEERPATH_GIT_REVISION").map(Into::into),
            },
            run: Run {
                id: format!("{started_at}-{}", std::process::id()),
                started_at,
                arguments: self.arguments.clone(),
                plan: serde_json::to_value(self.plan).unwrap_or_default(),
                interrupted: false,
            },
            environment,
            cells: Vec::new(),
        }
    }

    /// Writes down the functions of a source and of the targets as they are now that it is open.
    fn note_functions(&self, result: &mut RunResult, source: Origin, targets: &[Opened]) {
        let infos: Vec<&DeviceInfo> = targets.iter().flatten().map(|device| device.info()).collect();
        let environment = &mut result.environment;
        for bdf in source.bdf.into_iter().chain(infos.iter().filter_map(|info| info.bdf)) {
            environment.emulated |= self.host.is_emulated(bdf);
            environment.devices.retain(|device| device.bdf != bdf);
            environment.devices.push(self.routes.device(bdf, &infos));
        }
        environment.devices.sort_by_key(|device| device.bdf);
    }

    #[expect(clippy::too_many_arguments, reason = "a cell has as many parts")]
    fn cell(
        &self,
        named: &Source,
        origin: Origin,
        target: &Target,
        info: Option<&DeviceInfo>,
        spec: &CellSpec,
        path: CellPath,
        figures: Result<Figures, Ended>,
    ) -> Cell {
        let bdf = info.and_then(|info| info.bdf);
        let direction = spec.spec.and_then(|spec| match spec.role {
            Role::Transfer(Direction::IntoSource) => Some("into_source"),
            Role::Transfer(Direction::OutOfSource) => Some("out_of_source"),
            Role::Export | Role::Attach | Role::Map | Role::Register | Role::Unregister => None,
        });
        let (figures, outcome, cause, reason, remedy) = match figures {
            Ok(figures) => (figures, Outcome::Passed, None, None, None),
            Err(Ended::Interrupted) => (Figures::default(), Outcome::Waived, Some(Cause::Interrupted), None, None),
            Err(Ended::Without { outcome, reason, explanation }) => {
                let Explanation { cause, why, remedy } = explanation;
                (Figures::default(), outcome, cause, Some(format!("{reason}: {why}")), Some(remedy))
            }
        };
        let source = figures.exported.unwrap_or(origin);
        Cell {
            id: id(named, target, spec),
            path,
            source,
            target: CellTarget {
                kind: target.importer.kind().into(),
                device: info.map_or_else(|| target.address.clone(), |info| info.name.clone()),
                bdf,
            },
            op: spec.op.as_str().into(),
            mode: spec.mode.as_str().into(),
            direction: direction.map(Into::into),
            engine: direction.and(info).map(|info| if info.soft_rdma { "cpu" } else { "device" }.into()),
            mechanism: figures.mechanism.map(Into::into),
            size_bytes: spec.size_bytes,
            depth: spec.depth,
            threads: 1,
            qps: 1,
            iterations: (outcome == Outcome::Passed).then_some(figures.iterations),
            warmup: (outcome == Outcome::Passed).then_some(self.plan.warmup),
            outcome,
            cause,
            reason,
            remedy,
            verified_bytes: figures.verified_bytes,
            latency_ns: figures.latency,
            throughput_bytes_per_s: figures.throughput,
            throughput_min_window_bytes_per_s: figures.throughput_min_window,
            operations_per_s: figures.operations_per_s,
        }
    }

    /// A fault of the IOMMU while a cell ran fails it, whatever the device said.
    fn without_faults(
        &mut self,
        figures: Result<Figures, Ended>,
        source: &Origin,
        info: Option<&DeviceInfo>,
        path: &mut CellPath,
    ) -> Result<Figures, Ended> {
        let functions: Vec<Bdf> = source.bdf.into_iter().chain(info.and_then(|info| info.bdf)).collect();
        let faults = self.routes.faults(path, &functions);
        match (figures, faults.first()) {
            (Ok(_), Some(fault)) => Err(Ended::failed(
                format!("the IOMMU reported {} fault(s) meanwhile, the first: {fault}", faults.len()),
                Explanation::new(
                    Cause::IommuFault,
                    "an access was blocked, so not all data can have arrived",
                    "look into the kernel log for the address and compare it with the BAR's",
                ),
            )),
            (figures, _) => figures,
        }
    }
}

/// What can be said of a source that could not be opened.
fn named(source: &Source) -> Origin {
    let whole = |length_bytes: &u64| vec![BarRange { offset_bytes: 0, length_bytes: *length_bytes }];
    let memory = |kind, size_bytes| Origin { kind, bdf: None, bar: None, ranges: whole(size_bytes) };
    match source {
        Source::Vfio { bdf, bar, ranges } => {
            Origin { kind: SourceKind::Vfio, bdf: Some(*bdf), bar: Some(*bar), ranges: ranges.clone() }
        }
        Source::Socket { .. } => Origin { kind: SourceKind::Vfio, bdf: None, bar: None, ranges: Vec::new() },
        Source::Udmabuf { size_bytes } => memory(SourceKind::Udmabuf, size_bytes),
        Source::Heap { size_bytes } => memory(SourceKind::Heap, size_bytes),
        Source::Host { size_bytes } => memory(SourceKind::Host, size_bytes),
    }
}

fn describe(source: &str, target: &Target, spec: &CellSpec) -> String {
    let CellSpec { op, mode, size_bytes, depth, .. } = spec;
    let size = crate::units::bytes(*size_bytes);
    format!("{source} -> {target}  {op} {} {size} depth {depth}", mode.as_str())
}

/// Names the combination as it was asked for, so that the same one in another run has the same name, however it ends.
fn id(source: &Source, target: &Target, spec: &CellSpec) -> String {
    let CellSpec { op, mode, size_bytes, depth, .. } = spec;
    format!("{source}/{target}/{op}/{}/{size_bytes}/{depth}", mode.as_str())
}
