//! Which way a cell's data should go, which way they went, and what is known of the functions that take part.

use std::collections::BTreeMap;
use std::error::Error;

use peerpath_exporter::{BarRange, Origin, SourceKind};
use peerpath_importers::DeviceInfo;
use peerpath_observe::{
    DmaBufOp, Expected, FaultWatch, Memory, Observation, ObserveError, Observer, ObserverOptions, ProbeSet,
};
use peerpath_paths::{Bdf, Capability, Explained, Explanation, HostChange, Inventory, PathName, Request, Tree};
use serde_json::{Value, json};

use crate::failure::{Failure, chain};
use crate::result::{CellPath, DeviceRecord};

/// What the host says about ways between functions, and the watch over the one that is taken.
pub struct Routes {
    inventory: Inventory,
    /// The host as the run found it.
    found: Inventory,
    observer: Result<Observer, ObserveError>,
    faults: Result<FaultWatch, ObserveError>,
}

impl Routes {
    /// Of this host. That nothing can be observed is no error: it stands in the evidence of every cell.
    pub fn live() -> Self {
        let options = ObserverOptions::default();
        let faults = FaultWatch::start(&options.root);
        let inventory = Inventory::read(&Tree::live());
        Self { found: inventory.clone(), inventory, observer: Observer::start(&options), faults }
    }

    /// Reads the host again: drivers and domains change when a function is opened.
    pub fn refresh(&mut self) {
        self.inventory = Inventory::read(&Tree::live());
    }

    /// The function under the target, and the functions whose ACS decides which way the pair takes, as the host is now.
    /// `None` where one of the two stands for no function.
    pub fn way(&mut self, from: Bdf, target: &str) -> Option<(Bdf, Vec<Bdf>)> {
        self.refresh();
        let to = self.inventory.function_under(target)?;
        self.inventory.topology.function(from)?;
        Some((to, self.inventory.predictor(Request::default()).functions_checked_for_acs(from, to).unwrap_or_default()))
    }

    /// What has to be changed on this host so that a pair takes a path. `None` where one of the two does not exist.
    pub fn changes(
        &self,
        from: Bdf,
        to: Bdf,
        wanted: PathName,
        request: Request,
    ) -> Option<Result<Vec<HostChange>, Explanation>> {
        self.inventory.arrange(from, to, wanted, request)
    }

    /// The path of a cell before anything is mapped.
    ///
    /// `ranges`: how many of them are mapped at once. `hearsay`: what the source is stands only in the word of another process, so it has to be seen.
    pub fn predicted(
        &self,
        asked: Option<PathName>,
        source: &Origin,
        ranges: usize,
        importer: Option<&DeviceInfo>,
        hearsay: bool,
    ) -> CellPath {
        let mut path = CellPath { asked, ..CellPath::unseen() };
        if asked == Some(PathName::Staged) && source.kind == SourceKind::Vfio {
            // Ours to do, and nothing for the kernel to decide.
            path.predicted = asked;
            path.evidence.push("nothing was copied".to_owned());
            return path;
        }
        if hearsay {
            path.evidence.push("what the source is, the process that exported it says".to_owned());
        }
        match source.kind {
            SourceKind::Host | SourceKind::Udmabuf | SourceKind::Heap if !hearsay => {
                path.predicted = Some(PathName::HostMemory);
                path.observed = PathName::HostMemory;
                path.evidence.push("the source is ordinary memory of this host".to_owned());
            }
            SourceKind::Cuda => path.evidence.push(of_gpu(source, importer).to_owned()),
            _ => {
                path.evidence.push("nothing was mapped".to_owned());
                if let Some(((from, importer), to)) = source.bdf.zip(importer).zip(importer.and_then(|info| info.bdf)) {
                    let own_address_space = importer.own_address_space;
                    let request = Request { bar: source.bar, ranges, own_address_space };
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
        let along = [from, to].into_iter().chain(report.hops.iter().copied());
        let payloads: Option<Vec<u16>> = along
            .map(|bdf| match self.inventory.topology.function(bdf)?.pcie {
                Capability::Present(pcie) => Some(pcie.max_payload_bytes),
                // Conventional functions inside the root complex have no payload size to limit.
                Capability::Absent => Some(u16::MAX),
                Capability::Unknown => None,
            })
            .collect();
        path.max_payload_bytes =
            payloads.and_then(|payloads| payloads.into_iter().min()).filter(|bytes| *bytes < u16::MAX).map(u32::from);
        path.hops = report.hops;
    }

    /// Carries out `step`, which registers a buffer of `source`, and notes in `path` which way the kernel chose for it.
    ///
    /// # Errors
    /// Those of the step: that a path cannot be observed is no error.
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
            path.evidence.push("not observed: what the driver of a GPU maps for others, it maps by itself".to_owned());
            return step();
        }
        let watching = match &mut self.observer {
            Ok(observer) => observer.begin(ProbeSet::Path),
            Err(unobservable) => {
                unseen(path, unobservable);
                return step();
            }
        };
        let watching = match watching {
            Ok(watching) => watching,
            Err(unobservable) => {
                unseen(path, &unobservable);
                return step();
            }
        };
        let done = step();
        let trace = watching.end();
        let Some(expected) = expected(&self.inventory, source, importer) else { return done };
        let expected = match &done {
            Ok(_) => expected,
            Err(error) => expected.failed(error),
        };
        match trace {
            Ok(trace) => note(path, trace.classify(&expected)),
            Err(unobservable) => unseen(path, &unobservable),
        }
        done
    }

    /// Carries out `rounds`, which registers buffers, and gives the times of the kernel's calls of one kind within them.
    ///
    /// # Errors
    /// Those of the rounds; `Ok(Err)` where the calls cannot be seen.
    pub fn timed<E>(
        &mut self,
        kind: DmaBufOp,
        rounds: impl FnOnce() -> Result<(), E>,
    ) -> Result<Result<Vec<u64>, Failure>, E> {
        let watching = match &mut self.observer {
            Ok(observer) => observer.begin(ProbeSet::Calls),
            Err(unobservable) => return Ok(Err(Failure::of(unobservable))),
        };
        let watching = match watching {
            Ok(watching) => watching,
            Err(unobservable) => return Ok(Err(Failure::of(&unobservable))),
        };
        rounds()?;
        Ok(watching.end().map(|trace| trace.durations_ns(kind)).map_err(|unobservable| Failure::of(&unobservable)))
    }

    /// IOMMU faults logged since the last call that may concern these functions. The first is noted in `path`, or that they
    /// cannot be told.
    pub fn faults(&mut self, path: &mut CellPath, functions: &[Bdf]) -> Vec<String> {
        let faults = match &mut self.faults {
            Ok(watch) => {
                if watch.missed_messages() {
                    path.evidence
                        .push("messages of the kernel were lost, and IOMMU faults may be among them".to_owned());
                }
                watch.faults().map_err(|error| chain(&error))
            }
            Err(unobservable) => Err(chain(unobservable)),
        };
        let faults = faults.unwrap_or_else(|why| {
            path.evidence.push(format!("IOMMU faults were not watched for: {why}"));
            Vec::new()
        });
        let faults: Vec<_> =
            faults.into_iter().filter(|fault| fault.may_concern(functions)).map(|fault| fault.text).collect();
        if let Some(first) = faults.first() {
            path.evidence.push(format!("the IOMMU reported {} fault(s), the first: {first}", faults.len()));
        }
        faults
    }

    /// What is known of a function, as the run found it: what was changed for a path stands in the evidence of its cells.
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
                note("max_payload_bytes", Some(pcie.max_payload_bytes.into()));
                note("max_read_request_bytes", Some(pcie.max_read_request_bytes.into()));
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

/// What can be said of the way to a GPU's memory before anything is mapped.
fn of_gpu(source: &Origin, importer: Option<&DeviceInfo>) -> &'static str {
    if source.bdf.is_some() && source.bdf == importer.and_then(|info| info.bdf) {
        return "source and target are one GPU: the bytes stay in its memory";
    }
    "not predicted: the driver of a GPU decides by itself for whom it maps its memory, and by which way"
}

fn expected(inventory: &Inventory, source: &Origin, importer: &DeviceInfo) -> Option<Expected> {
    let (Some(from), Some(bar)) = (source.bdf, source.bar) else { return Some(Expected::new(Memory::Ordinary)) };
    let span = |range: &BarRange| (range.offset_bytes, range.length_bytes);
    let ranges: Vec<(u64, u64)> = source.ranges.iter().map(span).collect();
    let expected = Expected::of_bar(&inventory.topology, from, bar, &ranges, importer.bdf)?;
    Some(if importer.own_address_space { expected.in_own_address_space() } else { expected })
}

fn note(path: &mut CellPath, seen: Observation) {
    path.evidence.retain(|line| line != "nothing was mapped");
    path.observed = seen.path;
    path.attribute = seen.attribute;
    path.dma_address_equals_physical = seen.dma_address_equals_physical;
    path.evidence.extend(seen.evidence);
}

fn unseen(path: &mut CellPath, unobservable: &ObserveError) {
    path.evidence.retain(|line| line != "nothing was mapped");
    let explanation = unobservable.explanation();
    path.evidence.push(format!("not observed: {}: {} {}", chain(unobservable), explanation.why, explanation.remedy));
}
