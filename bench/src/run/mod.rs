//! Carries a plan out, cell by cell, and saves after each.
//!
//! Every cell exports, registers and sets up its data plane afresh: one that fails leaves nothing behind that could
//! colour the next.

mod cell;
mod ended;

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
    /// Where the result goes.
    pub store: &'a Store,
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
        let clock = Clock::new();
        let mut result = self.blank(&targets);
        self.save(&result)?;
        'run: for source in &self.plan.sources {
            // Opened for all of its cells and closed after them, so that another source may name the same function.
            let exporter = match source.open(self.open) {
                Ok(exporter) => Ok(exporter),
                Err(error) => Err(Unusable::or_bad_input(&error)?),
            };
            self.routes.refresh();
            for (target, device) in self.plan.targets.iter().zip(&targets) {
                for spec in self.plan.cells(target) {
                    if self.interrupt.is_set() {
                        break 'run;
                    }
                    progress.begin(&describe(&source.to_string(), target, &spec));
                    let origin = exporter.as_ref().map_or_else(|_| named(source), |exporter| exporter.origin().clone());
                    let info = device.as_ref().ok().map(|device| device.info());
                    let mut path = self.routes.predicted(&origin, info.and_then(|info| info.bdf));
                    let figures = match (&exporter, device) {
                        (Err(unusable), _) | (_, Err(unusable)) => Err(unusable.clone().into()),
                        (Ok(exporter), Ok(device)) => {
                            let figures = self.measure(&**exporter, device, &spec, &clock, &mut path);
                            self.without_faults(figures, &origin, info)
                        }
                    };
                    if matches!(figures, Err(Ended::Interrupted)) {
                        break 'run;
                    }
                    let cell = self.cell(origin, target, info, &spec, path, figures);
                    result.cells.push(cell);
                    self.save(&result)?;
                    progress.end(&result.cells[result.cells.len() - 1]);
                }
            }
        }
        if self.interrupt.is_set() {
            result.run.interrupted = true;
            self.save(&result)?;
        }
        Ok(result)
    }

    /// A wrong BDF in the last source is told before the first one has run. (The first is opened first anyway.)
    fn check_sources(&self) -> Result<(), Failure> {
        for source in self.plan.sources.iter().skip(1) {
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
        let mut functions: Vec<Bdf> = self
            .plan
            .sources
            .iter()
            .filter_map(|source| named(source).bdf)
            .chain(infos.iter().filter_map(|info| info.bdf))
            .collect();
        functions.sort_unstable();
        functions.dedup();
        environment.emulated = functions.iter().any(|bdf| self.host.is_emulated(*bdf));
        environment.soft_rdma = infos.iter().any(|info| info.soft_rdma);
        environment.devices = functions.iter().map(|bdf| self.routes.device(*bdf, &infos)).collect();
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

    fn save(&self, result: &RunResult) -> Result<(), Failure> {
        self.store.save(result).map_err(|error| {
            let remedy = "free space there, or choose another folder with --out; cells saved before are kept";
            Failure::internal(error.to_string(), error.io(), remedy)
        })
    }

    fn cell(
        &self,
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
            id: id(&source, target, spec),
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
            iterations: figures.iterations,
            warmup: self.plan.warmup,
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
    ) -> Result<Figures, Ended> {
        let functions: Vec<Bdf> = source.bdf.into_iter().chain(info.and_then(|info| info.bdf)).collect();
        let faults = self.routes.faults(&functions);
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

/// Names the combination, so that the same one in another run has the same name.
fn id(source: &Origin, target: &Target, spec: &CellSpec) -> String {
    let kind = source.kind.as_str();
    let place = source.bdf.map_or(String::new(), |bdf| format!(":{bdf}:{}", source.bar.unwrap_or_default()));
    let ranges: Vec<_> =
        source.ranges.iter().map(|range| format!("{:#x}+{:#x}", range.offset_bytes, range.length_bytes)).collect();
    let CellSpec { op, mode, size_bytes, depth, .. } = spec;
    format!("{kind}{place}@{}/{target}/{op}/{}/{size_bytes}/{depth}", ranges.join(","), mode.as_str())
}
