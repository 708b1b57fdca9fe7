//! Predicts and observes the path of a cell, and collects facts about its PCI functions.

use std::collections::BTreeMap;
use std::error::Error;

use peerpath_exporter::{BarRange, Origin, SourceKind};
use peerpath_importers::DeviceInfo;
use peerpath_observe::{
    DmaBufOp, Expected, FaultWatch, Memory, Observation, ObserveError, Observer, ObserverOptions, ProbeSet, Trace,
};
use peerpath_paths::ceiling::PathHops;
use peerpath_paths::{
    BarIndex, Bdf, Capability, Explained, Explanation, HostChange, Inventory, PathName, Request, Tree,
};
use serde_json::{Value, json};

use crate::failure::{Failure, chain};
use crate::result::{CellPath, DeviceRecord};

/// Predicts paths from the host's sysfs tree, and observes the path that the kernel chooses.
pub struct Routes {
    inventory: Inventory,
    /// Inventory of the host at the start of the run.
    found: Inventory,
    observer: Result<Observer, ObserveError>,
    faults: Result<FaultWatch, ObserveError>,
}

impl Routes {
    /// Reads this host and starts to observe the kernel. If the kernel cannot be observed, the evidence of every cell states
    /// the reason.
    pub fn live() -> Self {
        let options = ObserverOptions::default();
        let faults = FaultWatch::start(&options.root);
        let inventory = Inventory::read(&Tree::live());
        Self { found: inventory.clone(), inventory, observer: Observer::start(&options), faults }
    }

    /// Reads the host again, because drivers and IOMMU domains change when a function is opened.
    pub fn refresh(&mut self) {
        self.inventory = Inventory::read(&Tree::live());
    }

    /// The PCI function of a target. `None` if the target has none or it is unknown.
    pub fn function_under(&self, target: &str) -> Option<Bdf> {
        self.inventory.function_under(target)
    }

    /// The PCI function of a target, and the functions whose ACS settings decide the path from `from` to the target. `None` if
    /// `from` does not exist or the target has no PCI function.
    pub fn acs_functions(&mut self, from: Bdf, target: &str) -> Option<(Bdf, Vec<Bdf>)> {
        self.refresh();
        let to = self.inventory.function_under(target)?;
        self.inventory.topology.function(from)?;
        Some((to, self.inventory.predictor(Request::default()).functions_checked_for_acs(from, to).unwrap_or_default()))
    }

    /// The host changes with which data between two functions takes the path `wanted`. `None` if one of the functions does not
    /// exist. `Err` explains why no change enables the path.
    pub fn changes(
        &self,
        from: Bdf,
        to: Bdf,
        wanted: PathName,
        request: Request,
    ) -> Option<Result<Vec<HostChange>, Explanation>> {
        self.inventory.arrange(from, to, wanted, request)
    }

    /// Predicts the path of a cell, before anything is mapped.
    ///
    /// `ranges` is the number of ranges that the kernel maps at once. If `described_by_peer` is set, another process exports
    /// the source, and its description of the source is not trusted.
    pub fn predicted(
        &self,
        asked: Option<PathName>,
        source: &Origin,
        ranges: usize,
        importer: Option<&DeviceInfo>,
        described_by_peer: bool,
    ) -> CellPath {
        let mut path = CellPath { asked, ..CellPath::unknown() };
        if asked == Some(PathName::Staged) && source.kind == SourceKind::Vfio {
            // The CPU copies the data, so the kernel does not choose a path.
            path.predicted = asked;
            path.evidence.push("no data was copied".to_owned());
            return path;
        }
        if described_by_peer {
            path.evidence.push("the exporting process reported the location of the source".to_owned());
        }
        match source.kind {
            SourceKind::Host | SourceKind::Udmabuf | SourceKind::Heap if !described_by_peer => {
                path.predicted = Some(PathName::HostMemory);
                path.observed = PathName::HostMemory;
                path.evidence.push("the source is ordinary memory of this host".to_owned());
            }
            SourceKind::Cuda => path.evidence.push(gpu_evidence(source, importer).to_owned()),
            _ => {
                path.evidence.push("nothing was mapped".to_owned());
                if let Some(((from, importer), to)) = source.bdf.zip(importer).zip(importer.and_then(|info| info.bdf)) {
                    let own_address_space = importer.own_address_space;
                    let request = Request { bar: source.bar.map(BarIndex::get), ranges, own_address_space };
                    self.predict(request, from, to, &mut path);
                }
            }
        }
        path
    }

    fn predict(&self, request: Request, from: Bdf, to: Bdf, path: &mut CellPath) {
        let Some(report) = self.inventory.predictor(request).explain(from, to) else { return };
        path.predicted = Some(report.predicted);
        path.blockers = report.blockers;
        path.evidence.push(format!("predicted from: {}", report.deciding.fact));
        path.deciding = Some(report.deciding);
        path.turns_at = report.turns_at;
        path.up_to = report.up_to;
        path.through_root_complex = report.through_root_complex;
        let on_path = [from, to].into_iter().chain(report.hops.iter().copied());
        let payloads: Option<Vec<u16>> = on_path
            .map(|bdf| match self.inventory.topology.function(bdf)?.pcie {
                Capability::Present(pcie) => Some(pcie.max_payload_bytes),
                // Conventional PCI functions have no maximum payload size, so they do not limit it.
                Capability::Absent => Some(u16::MAX),
                Capability::Unknown => None,
            })
            .collect();
        path.max_payload_bytes =
            payloads.and_then(|payloads| payloads.into_iter().min()).filter(|bytes| *bytes < u16::MAX).map(u32::from);
        path.hops = report.hops;
    }

    /// The hops of the predicted path between two functions, for its ceiling, and the functions on it.
    pub(crate) fn hops(&self, request: Request, from: Bdf, to: Bdf) -> Option<(PathHops, Vec<Bdf>)> {
        let report = self.inventory.predictor(request).explain(from, to)?;
        Some((PathHops::read(&self.inventory.topology, &report), report.hops))
    }

    /// Runs `step`, which registers a buffer of `source`, and records in `path` the path that the kernel chose.
    ///
    /// # Errors
    /// `step` fails. If the path cannot be observed, the evidence reports it.
    pub fn observed<T, E: Error + 'static>(
        &mut self,
        path: &mut CellPath,
        source: &Origin,
        importer: &DeviceInfo,
        step: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        if matches!(path.observed, PathName::HostMemory | PathName::Staged) {
            return step();
        }
        if source.kind == SourceKind::Cuda {
            path.evidence.push("not observed: the GPU driver maps its memory without the kernel's DMA API".to_owned());
            return step();
        }
        let trace_session = match &mut self.observer {
            Ok(observer) => observer.begin(ProbeSet::Path),
            Err(unobservable) => {
                not_observed(path, unobservable);
                return step();
            }
        };
        let trace_session = match trace_session {
            Ok(session) => session,
            Err(unobservable) => {
                not_observed(path, &unobservable);
                return step();
            }
        };
        let done = step();
        let trace = trace_session.end();
        let Some(expected) = expected(&self.inventory, source, importer) else { return done };
        let expected = match &done {
            Ok(_) => expected,
            Err(error) => expected.failed(error),
        };
        match trace {
            Ok(trace) => note(path, trace.classify(&expected)),
            Err(unobservable) => not_observed(path, &unobservable),
        }
        done
    }

    /// Runs `registration` `count` times and traces one kind of kernel call. Each registration is one step of the trace.
    ///
    /// # Errors
    /// `registration` fails. `Ok(Err)` if the kernel calls cannot be traced.
    pub fn traced<E>(
        &mut self,
        kind: DmaBufOp,
        count: u64,
        mut registration: impl FnMut() -> Result<(), E>,
    ) -> Result<Result<Trace, Failure>, E> {
        let trace_session = match &mut self.observer {
            Ok(observer) => observer.begin(ProbeSet::Call(kind)),
            Err(unobservable) => return Ok(Err(Failure::of(unobservable))),
        };
        let trace_session = match trace_session {
            Ok(session) => session,
            Err(unobservable) => return Ok(Err(Failure::of(&unobservable))),
        };
        for _ in 0..count {
            if let Err(unobservable) = trace_session.begin_step() {
                return Ok(Err(Failure::of(&unobservable)));
            }
            registration()?;
        }
        Ok(trace_session.end().map_err(|unobservable| Failure::of(&unobservable)))
    }

    /// Returns the IOMMU faults that may concern these functions and that the kernel logged since the last call. Adds their
    /// number and the first fault to the evidence of `path`, or the reason why the log cannot be read.
    pub fn faults(&mut self, path: &mut CellPath, functions: &[Bdf]) -> Vec<String> {
        let faults = match &mut self.faults {
            Ok(watch) => {
                if watch.missed_messages() {
                    path.evidence.push("kernel messages were lost and may have included IOMMU faults".to_owned());
                }
                watch.faults().map_err(|error| chain(&error))
            }
            Err(unobservable) => Err(chain(unobservable)),
        };
        let faults = faults.unwrap_or_else(|why| {
            path.evidence.push(format!("IOMMU faults were not read: {why}"));
            Vec::new()
        });
        let faults: Vec<_> =
            faults.into_iter().filter(|fault| fault.may_concern(functions)).map(|fault| fault.text).collect();
        if let Some(first) = faults.first() {
            path.evidence.push(format!("the IOMMU reported {} fault(s), the first: {first}", faults.len()));
        }
        faults
    }

    /// Facts about a function at the start of the run. The evidence of a cell lists the host changes that were made for it.
    pub fn device(&self, bdf: Bdf, target: Option<&DeviceInfo>) -> DeviceRecord {
        let target = target.filter(|info| info.bdf == Some(bdf));
        let mut facts = BTreeMap::new();
        let mut note = |name: &str, value: Option<Value>| {
            if let Some(value) = value.filter(|value| !value.is_null()) {
                facts.insert(name.to_owned(), value);
            }
        };
        note("name", target.and_then(|info| info.model.clone()).map(Value::from));
        note("driver", target.and_then(|info| info.driver.clone()).map(Value::from));
        note("firmware", target.and_then(|info| info.firmware.clone()).map(Value::from));
        if let Some(function) = self.found.topology.function(bdf) {
            let entry = self.found.entry(function);
            note("name", Some(entry.name.into()));
            note("driver", entry.driver.map(Value::from));
            note("numa_node", entry.numa_node.map(Value::from));
            note("iommu_group", entry.iommu_group.map(Value::from));
            note("domain_type", entry.domain_type.map(Value::from));
            if let Capability::Present(pcie) = function.pcie {
                note("link", pcie.link.map(|link| json!(link)));
                note("link_limit", pcie.link_limit.map(|link| json!(link)));
                note("max_payload_bytes", Some(pcie.max_payload_bytes.into()));
                note("max_read_request_bytes", Some(pcie.max_read_request_bytes.into()));
                note("relaxed_ordering", Some(pcie.relaxed_ordering.into()));
                note("tags", pcie.tags.map(Value::from));
            }
            if let Capability::Present(acs) = function.acs {
                note("acs", Some(acs.names().into()));
            }
            if let Capability::Present(ats) = function.ats {
                note("ats", Some(ats.enabled.into()));
            }
        }
        DeviceRecord { bdf, facts }
    }
}

/// Evidence about the path to the memory of a GPU, before anything is mapped.
fn gpu_evidence(source: &Origin, importer: Option<&DeviceInfo>) -> &'static str {
    if source.bdf.is_some() && source.bdf == importer.and_then(|info| info.bdf) {
        return "source and target are the same GPU: the data stays in its memory";
    }
    "not predicted: the GPU driver decides which devices may map its memory, and by which path"
}

fn expected(inventory: &Inventory, source: &Origin, importer: &DeviceInfo) -> Option<Expected> {
    let (Some(from), Some(bar)) = (source.bdf, source.bar) else { return Some(Expected::new(Memory::Ordinary)) };
    let span = |range: &BarRange| (range.offset_bytes, range.length_bytes);
    let ranges: Vec<(u64, u64)> = source.ranges.iter().map(span).collect();
    let expected = Expected::of_bar(&inventory.topology, from, bar.get(), &ranges, importer.bdf)?;
    Some(if importer.own_address_space { expected.in_own_address_space() } else { expected })
}

fn note(path: &mut CellPath, observation: Observation) {
    path.evidence.retain(|line| line != "nothing was mapped");
    path.observed = observation.path;
    path.attribute = observation.attribute;
    path.dma_address_equals_physical = observation.dma_address_equals_physical;
    path.evidence.extend(observation.evidence);
}

fn not_observed(path: &mut CellPath, unobservable: &ObserveError) {
    path.evidence.retain(|line| line != "nothing was mapped");
    let explanation = unobservable.explanation();
    path.evidence.push(format!("not observed: {}: {} {}", chain(unobservable), explanation.why, explanation.remedy));
}
