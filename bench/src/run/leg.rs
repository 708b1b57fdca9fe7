//! A leg of a run: source and target are opened, the cells between them run, and what became of each is saved.

use std::ops::ControlFlow;
use std::sync::Arc;

use peerpath_exporter::{Exporter, Origin, Source, format_bytes};
use peerpath_importers::{Availability, Device, DeviceInfo, Direction, QueuePairOptions, Role};
use peerpath_paths::{Bdf, Cause, Explanation, PathName, Severity, Tree};
use quanta::Clock;

use super::arranged::revert;
use super::cell::{Figures, Setup};
use super::cell_error::{CellError, Unmeasured};
use super::hold::{self, Held};
use super::shape::{Shape, mapped_at_once, named};
use super::{Progress, Runner};
use crate::cpus;
use crate::environment::mark_stand_in;
use crate::failure::Failure;
use crate::plan::{CellSpec, Leg, Mechanism, Target};
use crate::result::{Cell, CellPath, CellTarget, Outcome, RunResult};
use crate::store::Store;

/// The two ends of a leg, as far as they could be opened, and what was arranged between them.
struct Ends<'a> {
    arranged: Result<&'a [String], Unmeasured>,
    exporter: Result<Held<Box<dyn Exporter>>, Unmeasured>,
    device: Result<Held<Arc<dyn Device>>, Unmeasured>,
}

impl Ends<'_> {
    fn info(&self) -> Option<&DeviceInfo> {
        self.device.as_ref().ok().map(|device| device.info())
    }

    fn origin(&self, source: &Source) -> Origin {
        self.exporter.as_ref().map_or_else(|_| named(source), |exporter| exporter.origin().clone())
    }
}

impl Runner<'_> {
    /// Runs the cells of a leg; breaks when the run is to end.
    ///
    /// # Errors
    /// Something named is not there any more, or the result could not be saved.
    pub(super) fn leg(
        &mut self,
        leg: Leg<'_>,
        clock: &Clock,
        store: &Store,
        result: &mut RunResult,
        progress: &mut dyn Progress,
    ) -> Result<ControlFlow<()>, Failure> {
        let arrangement = self.arrange(leg)?;
        let arranged = match &arrangement {
            Ok(Some(arrangement)) => Ok(arrangement.done()),
            Ok(None) => Ok(&[][..]),
            Err(unmeasured) => Err(unmeasured.clone()),
        };
        let flow = self.cells(leg, arranged, clock, store, result, progress);
        // Everything that used the host as it was arranged is closed by now.
        let reverted = arrangement.ok().flatten().map_or(Ok(()), revert);
        match (flow, reverted) {
            (Err(failure), Err(behind)) => {
                progress.failed(&behind);
                Err(failure)
            }
            (flow, reverted) => reverted.and(flow),
        }
    }

    fn cells(
        &mut self,
        leg: Leg<'_>,
        arranged: Result<&[String], Unmeasured>,
        clock: &Clock,
        store: &Store,
        result: &mut RunResult,
        progress: &mut dyn Progress,
    ) -> Result<ControlFlow<()>, Failure> {
        let exporter = or_unmeasured(hold::source(leg.source, self.open, self.changes))?;
        let device = self.open_target(leg)?;
        let ends = Ends { arranged, exporter, device };
        // Drivers and domains change when a function is opened.
        self.routes.refresh();
        self.note_functions(result, &ends.origin(leg.source), ends.info());
        self.warn_of_far_threads(result, ends.info());
        for spec in self.plan.cells(leg) {
            if self.interrupt.is_set() {
                return Ok(ControlFlow::Break(()));
            }
            progress.begin(&describe(leg, &spec));
            let Some(cell) = self.cell(leg, &ends, &spec, clock) else { return Ok(ControlFlow::Break(())) };
            self.note_bridges(result, &cell.path);
            result.cells.push(cell);
            store.save(result)?;
            progress.end();
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Opens the target of a leg.
    ///
    /// # Errors
    /// Bad input. `Ok(Err)`: the target cannot be used, which each cell of the leg reports.
    pub(super) fn open_target(&self, leg: Leg<'_>) -> Result<Result<Held<Arc<dyn Device>>, Unmeasured>, Failure> {
        let Leg { source, target, .. } = leg;
        // With a peer, the sources of the plan are on the other host.
        let source = if self.peer.is_none() { Some(source) } else { leg.far };
        let function = target.importer.vfio_function(&target.address);
        let open = || open_usable(target, &self.plan.connection);
        or_unmeasured(hold::target(function, source, self.changes, open))
    }

    /// A thread on another node than the device works through the interconnect.
    fn warn_of_far_threads(&self, result: &mut RunResult, info: Option<&DeviceInfo>) {
        let Some(function) = info.and_then(|info| info.bdf) else { return };
        let warning = cpus::far_from(&Tree::live(), function, &self.plan.cpus);
        if let Some(warning) = warning.filter(|warning| !result.run.warnings.contains(warning)) {
            result.run.warnings.push(warning);
        }
    }

    /// Writes down the functions of both ends.
    pub(super) fn note_functions(&self, result: &mut RunResult, source: &Origin, info: Option<&DeviceInfo>) {
        let environment = &mut result.environment;
        mark_stand_in(environment);
        environment.soft_rdma |= info.is_some_and(|info| info.soft_rdma);
        for bdf in source.bdf.into_iter().chain(info.and_then(|info| info.bdf)) {
            environment.emulated |= self.host.is_emulated(bdf);
            environment.devices.retain(|device| device.bdf != bdf);
            environment.devices.push(self.routes.device(bdf, info));
        }
        environment.devices.sort_by_key(|device| device.bdf);
    }

    /// Writes down the functions on the way: their ACS settings decide about it.
    fn note_bridges(&self, result: &mut RunResult, path: &CellPath) {
        let devices = &mut result.environment.devices;
        for &bdf in &path.hops {
            if !devices.iter().any(|device| device.bdf == bdf) {
                devices.push(self.routes.device(bdf, None));
            }
        }
        devices.sort_by_key(|device| device.bdf);
    }

    /// Runs a cell; none where it was interrupted.
    fn cell(&mut self, leg: Leg<'_>, ends: &Ends<'_>, spec: &CellSpec, clock: &Clock) -> Option<Cell> {
        let (origin, info) = (ends.origin(leg.source), ends.info());
        let shape = Shape::of(&origin, spec);
        let hearsay = matches!(leg.source, Source::Socket { .. });
        let ranges = mapped_at_once(&origin, spec);
        let mut path = self.routes.predicted(leg.asked, &origin, ranges, info, hearsay);
        path.evidence.extend(ends.arranged.iter().copied().flatten().cloned());
        let origin = shape.as_ref().map_or_else(|_| origin.clone(), |shape| shape.exported(&origin));
        let figures = match (&ends.exporter, &ends.device, &ends.arranged, shape) {
            (Err(unmeasured), ..) | (_, Err(unmeasured), ..) | (_, _, Err(unmeasured), _) => {
                Err(unmeasured.clone().into())
            }
            (.., Err(error)) => Err(error.into()),
            (Ok(exporter), Ok(device), Ok(_), Ok(shape)) => {
                let setup = Setup { exporter: &***exporter, device, spec, shape: &shape, clock };
                as_predicted(&path)
                    .and_then(|()| self.measure(setup, &mut path))
                    .and_then(|figures| as_asked(&path, spec, figures))
            }
        };
        let figures = self.without_faults(figures, &origin, info, &mut path);
        let figures = match figures {
            Ok(figures) => Ok(figures),
            Err(CellError::Interrupted) => return None,
            Err(CellError::Unmeasured(unmeasured)) => Err(unmeasured),
        };
        Some(self.record(leg, spec, origin, info, path, figures))
    }

    pub(super) fn record(
        &self,
        leg: Leg<'_>,
        spec: &CellSpec,
        origin: Origin,
        info: Option<&DeviceInfo>,
        path: CellPath,
        figures: Result<Figures, Unmeasured>,
    ) -> Cell {
        let direction = spec.spec.and_then(|spec| match spec.role {
            Role::Transfer(Direction::IntoSource) => Some("into_source"),
            Role::Transfer(Direction::OutOfSource) => Some("out_of_source"),
            Role::Export | Role::Attach | Role::Map | Role::Register | Role::Unregister => None,
        });
        let (figures, outcome, cause, reason, remedy) = match figures {
            Ok(figures) => (figures, Outcome::Passed, None, None, None),
            Err(Unmeasured { outcome, reason, explanation }) => {
                let Explanation { cause, why, remedy, .. } = explanation;
                // A refusal that was asked for is what should happen.
                let refused = (path.asked, path.observed) == (Some(PathName::Refused), PathName::Refused);
                let outcome = if refused { Outcome::Passed } else { outcome };
                (Figures::default(), outcome, cause, Some(format!("{reason}: {why}")), Some(remedy))
            }
        };
        let source = figures.exported.unwrap_or(origin);
        // The last hop to the BAR, or the first one from it, is the CPU's.
        let staged = path.asked == Some(PathName::Staged);
        Cell {
            id: id(leg, spec),
            path,
            source,
            target: target_of(leg, info),
            far: None,
            op: spec.op.as_str().into(),
            mode: spec.mode.as_str().into(),
            direction: direction.map(Into::into),
            engine: direction.and(info).map(|info| if info.soft_rdma || staged { "cpu" } else { "device" }.into()),
            mechanism: figures.mechanism.map(Into::into),
            timed_by: figures.by_device.then(|| "device".into()),
            size_bytes: spec.size_bytes,
            depth: spec.depth,
            threads: spec.threads,
            qps: spec.qps,
            bidirectional: spec.bidirectional,
            iterations: (figures.iterations > 0).then_some(figures.iterations),
            warmup: (figures.iterations > 0).then_some(self.plan.warmup),
            outcome,
            cause,
            reason,
            remedy,
            verified_bytes: figures.verified_bytes,
            latency_ns: figures.latency,
            throughput_bytes_per_s: figures.throughput,
            throughput_each_way_bytes_per_s: figures.each_way,
            throughput_min_window_bytes_per_s: figures.throughput_min_window,
            operations_per_s: figures.operations_per_s,
        }
    }

    /// A fault of the IOMMU while a cell ran fails it, whatever the device said.
    fn without_faults(
        &mut self,
        figures: Result<Figures, CellError>,
        source: &Origin,
        info: Option<&DeviceInfo>,
        path: &mut CellPath,
    ) -> Result<Figures, CellError> {
        let functions: Vec<Bdf> = source.bdf.into_iter().chain(info.and_then(|info| info.bdf)).collect();
        let faults = self.routes.faults(path, &functions);
        match (figures, faults.first()) {
            (Ok(_), Some(fault)) => Err(iommu_fault(faults.len(), fault)),
            (figures, _) => figures,
        }
    }
}

/// How a cell ends during which the IOMMU has reported faults.
pub(super) fn iommu_fault(count: usize, first: &str) -> CellError {
    CellError::failed(
        format!("the IOMMU reported {count} fault(s) meanwhile, the first: {first}"),
        Explanation::new(
            Cause::IommuFault,
            "an access was blocked, so not all data can have arrived",
            "look into the kernel log for the address and compare it with the BAR's",
        ),
    )
}

/// The device of a leg's target, by its own name where it could be opened.
pub(super) fn target_of(leg: Leg<'_>, info: Option<&DeviceInfo>) -> CellTarget {
    CellTarget {
        kind: leg.target.importer.kind().into(),
        device: info.map_or_else(|| leg.target.address.clone(), |info| info.name.clone()),
        bdf: info.and_then(|info| info.bdf),
    }
}

/// Opens a target that can be used.
fn open_usable(target: &Target, connection: &QueuePairOptions) -> Result<Arc<dyn Device>, Failure> {
    match target.importer.probe(&target.address) {
        Ok(Availability::Waived(explanation)) => {
            return Err(Failure { what: format!("cannot use {target}"), explanation, severity: Severity::Unavailable });
        }
        // Without dma-bufs, the target still serves the host-memory baseline; it rejects other sources at registration.
        Ok(Availability::Ready | Availability::HostMemoryOnly(_)) => target.importer.open(&target.address, connection),
        Err(error) => Err(error),
    }
    .map_err(|error| Failure::of(&error))
}

/// Bad input ends the run; any other failure is reported by each cell of the leg.
pub(super) fn or_unmeasured<T>(opened: Result<T, Failure>) -> Result<Result<T, Unmeasured>, Failure> {
    opened.map_or_else(|failure| Unmeasured::or_bad_input(failure).map(Err), |opened| Ok(Ok(opened)))
}

/// Nothing is moved over a path that is known to be another than the one asked for.
fn as_predicted(path: &CellPath) -> Result<(), CellError> {
    let (Some(asked), Some(predicted)) = (path.asked, path.predicted) else { return Ok(()) };
    if predicted == asked || predicted == PathName::Unknown {
        return Ok(());
    }
    Err(CellError::waived(
        format!("{asked} was asked for, and the kernel would choose {predicted}"),
        Explanation::new(
            Cause::PathMismatch,
            "the way follows from where the two functions sit and how the host is set up",
            "see the prediction for this pair for what decides it",
        ),
    ))
}

/// The one unforgivable mistake would be to report a path that the data did not take.
pub(super) fn as_asked(path: &CellPath, spec: &CellSpec, figures: Figures) -> Result<Figures, CellError> {
    let maps = spec.spec.is_some_and(|spec| spec.role != Role::Export);
    match path.asked {
        Some(asked) if maps && path.observed != asked => Err(CellError::failed(
            format!("{asked} was asked for, and {} was seen", path.observed),
            Explanation::new(
                Cause::PathMismatch,
                "the cell says nothing about the path that was asked for",
                "see its evidence in the result for what was seen",
            ),
        )),
        _ => Ok(figures),
    }
}

pub(super) fn describe(leg: Leg<'_>, spec: &CellSpec) -> String {
    let Leg { source, target, asked, far } = leg;
    let CellSpec { op, mode, size_bytes, depth, .. } = spec;
    let (size, asked) = (format_bytes(*size_bytes), suffix("  ", asked));
    let far = far.map_or_else(String::new, |far| format!(" <- {far}"));
    let (mode, rest) = (mode.as_str(), division(" ", spec));
    format!("{source} -> {target}{far}{asked}  {op} {mode} {size} depth {depth}{rest}")
}

/// Names the combination as it was asked for, so that the same one in another run has the same name, however it ends.
fn id(leg: Leg<'_>, spec: &CellSpec) -> String {
    let Leg { source, target, asked, .. } = leg;
    let CellSpec { op, mode, size_bytes, depth, .. } = spec;
    format!(
        "{source}/{target}/{op}/{}/{size_bytes}/{depth}{}{}",
        mode.as_str(),
        suffix("/", asked),
        division("/", spec)
    )
}

/// How the source is cut and registered and how it is posted, where that is out of the ordinary.
fn division(separator: &str, spec: &CellSpec) -> String {
    let ranges = spec.ranges.map_or_else(String::new, |count| format!("{separator}{count}-ranges"));
    let many = |count: u32, what: &str| if count > 1 { format!("{separator}{count}-{what}") } else { String::new() };
    let apart =
        if spec.mechanism == Mechanism::MrPerRange { format!("{separator}mr-per-range") } else { String::new() };
    let both = if spec.bidirectional { format!("{separator}bidirectional") } else { String::new() };
    format!("{ranges}{apart}{}{}{both}", many(spec.qps, "qps"), many(spec.threads, "threads"))
}

fn suffix(separator: &str, asked: Option<PathName>) -> String {
    asked.map_or_else(String::new, |asked| format!("{separator}{asked}"))
}
