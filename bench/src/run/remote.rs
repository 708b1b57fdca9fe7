//! A leg of a run between two hosts: the source belongs to the peer, and so does the device that it is registered with. This
//! side posts the transfers, from and to memory of its own, and times them.

use std::ops::ControlFlow;
use std::sync::Arc;

use peerpath_exporter::{Buffer, Exporter, HostExporter, OpenOptions, Origin, Source, SourceKind, page_bytes};
use peerpath_importers::{Device, DeviceInfo, Direction, EndSettings, Endpoint, Op, Role, Transport};
use peerpath_paths::{Bdf, Cause, Explanation};
use quanta::Clock;

use super::cell::Figures;
use super::cell_error::{CellError, Unmeasured};
use super::hold::{self, Held};
use super::lane::{Lane, Posts, back_place, receives};
use super::leg::{as_asked, describe, iommu_fault, or_unmeasured, target_of};
use super::shape::named;
use super::transfer::{Moving, streams};
use super::{Progress, Runner, transfer};
use crate::failure::Failure;
use crate::layout::Layout;
use crate::measure::PING_PONG_DEPTH;
use crate::peer::connection::ConnectionError;
use crate::peer::message::{Open, Opened, Pairs, WindowAt};
use crate::peer::{client::Client, error::PeerError};
use crate::plan::{CellSpec, Leg, Mechanism, Mode, Plan};
use crate::result::{CellPath, FarSide, Outcome, RunResult};
use crate::store::Store;
use crate::window::Place;

/// This side's memory and device, as far as they could be opened.
struct Ends {
    /// None where the memory is made to fit each cell.
    far: Result<Option<Held<Box<dyn Exporter>>>, Unmeasured>,
    device: Result<Held<Arc<dyn Device>>, Unmeasured>,
}

/// Both sides of a cell, as far as they are known.
struct Sides {
    source: Origin,
    path: CellPath,
    mechanism: Option<String>,
    far: FarSide,
}

/// What a cell works with.
#[derive(Clone, Copy)]
struct Setup<'a> {
    peer: &'a Client,
    leg: Leg<'a>,
    spec: &'a CellSpec,
    far: Option<&'a dyn Exporter>,
    device: &'a Arc<dyn Device>,
    clock: &'a Clock,
}

impl Ends {
    fn info(&self) -> Option<&DeviceInfo> {
        self.device.as_ref().ok().map(|device| device.info())
    }
}

impl Runner<'_> {
    /// Runs the cells of a leg with a peer; breaks when the run is to end.
    ///
    /// # Errors
    /// Something named is not there any more, or the result could not be saved.
    pub(super) fn remote_leg(
        &mut self,
        peer: &Client,
        leg: Leg<'_>,
        clock: &Clock,
        store: &Store,
        result: &mut RunResult,
        progress: &mut dyn Progress,
    ) -> Result<ControlFlow<()>, Failure> {
        let far = match leg.far {
            Some(source) => or_unmeasured(hold::source(source, self.open, self.changes))?.map(Some),
            None => Ok(None),
        };
        let ends = Ends { far, device: self.open_target(leg)? };
        // Drivers and domains change when a function is opened.
        self.routes.refresh();
        self.note_functions(result, &self.far_side(leg, &ends).source, ends.info());
        for spec in self.plan.cells(leg) {
            if self.interrupt.is_signalled() {
                return Ok(ControlFlow::Break(()));
            }
            progress.begin(&describe(leg, &spec));
            let mut sides = Sides {
                source: named(leg.source),
                path: CellPath { asked: leg.asked, ..CellPath::unseen() },
                mechanism: None,
                far: self.far_side(leg, &ends),
            };
            let figures = match self.remote_cell(peer, leg, &ends, &spec, clock, &mut sides) {
                Ok(figures) => Ok(figures),
                Err(CellError::Interrupted) => return Ok(ControlFlow::Break(())),
                Err(CellError::Unmeasured(unmeasured)) => Err(unmeasured),
            };
            let info = ends.info();
            let Sides { source, path, mechanism, far } = sides;
            let soft = info.is_some_and(|info| info.soft_rdma) || peer.offer().environment.soft_rdma;
            let mut cell = self.record(leg, &spec, source, info, path, figures);
            cell.engine = cell.engine.map(|engine| if soft { "cpu".into() } else { engine });
            cell.mechanism = mechanism.filter(|_| cell.iterations.is_some());
            cell.target = peer.offer().target.clone();
            cell.id = format!("{}/peer{}", cell.id, leg.far.map_or_else(String::new, |far| format!("/{far}")));
            cell.far = Some(far);
            result.cells.push(cell);
            store.save(result)?;
            progress.end();
            // Where the peer is gone, the cell that was just saved says so.
            if self.interrupt.is_set() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// What there is to say of this side before anything is registered.
    fn far_side(&self, leg: Leg<'_>, ends: &Ends) -> FarSide {
        let source = match (&ends.far, leg.far) {
            (Ok(Some(exporter)), _) => exporter.origin().clone(),
            (_, Some(source)) => named(source),
            (_, None) => named(&Source::Host { size_bytes: 0 }),
        };
        let hearsay = matches!(leg.far, Some(Source::Socket { .. }));
        let path = self.routes.predicted(None, &source, 1, ends.info(), hearsay);
        FarSide { source, target: target_of(leg, ends.info()), path }
    }

    fn remote_cell(
        &mut self,
        peer: &Client,
        leg: Leg<'_>,
        ends: &Ends,
        spec: &CellSpec,
        clock: &Clock,
        sides: &mut Sides,
    ) -> Result<Figures, CellError> {
        let figures = match (&ends.far, &ends.device) {
            (Err(unmeasured), _) | (_, Err(unmeasured)) => Err(unmeasured.clone().into()),
            (Ok(far), Ok(device)) => {
                let setup = Setup { peer, leg, spec, far: far.as_ref().map(|far| &***far), device, clock };
                self.measure_remote(setup, sides).and_then(|figures| as_asked(&sides.path, spec, figures))
            }
        };
        let functions: Vec<Bdf> = sides.far.source.bdf.into_iter().chain(sides.far.target.bdf).collect();
        let faults = self.routes.faults(&mut sides.far.path, &functions);
        match figures {
            // What the peer's end has interrupted did not end by itself.
            Err(CellError::Interrupted) if !self.interrupt.is_signalled() => Err(peer_is_gone()),
            figures => figures.and_then(|figures| faults_are_failures(figures, &faults)),
        }
    }

    fn measure_remote(&mut self, setup: Setup<'_>, sides: &mut Sides) -> Result<Figures, CellError> {
        let Setup { peer, leg, spec, .. } = setup;
        let Some(Role::Transfer(direction)) = spec.spec.map(|spec| spec.role) else {
            return Err(CellError::waived(
                format!("{} is no transfer between two hosts", spec.op),
                Explanation::uncaused(
                    "exporting and registering are the matter of one host",
                    "measure it on the other host alone",
                ),
            ));
        };
        if let Some(why) = transfer::impossible(spec).or_else(|| impossible(spec, self.plan)) {
            return Err(CellError::waived(
                format!("this {} ({}) is not done between two hosts", spec.op, spec.mode.as_str()),
                why,
            ));
        }
        let open = Open {
            source: leg.source.to_string(),
            op: spec.op.as_str().to_owned(),
            size_bytes: spec.size_bytes,
            depth: spec.depth,
            queue_pairs: spec.qps,
            lanes: spec.threads,
            both_ways: spec.bidirectional,
            ranges: spec.ranges,
            mr_per_range: spec.mechanism == Mechanism::MrPerRange,
            connection: Pairs::of(&self.plan.connection),
        };
        let opened = peer.open(open.clone()).inspect_err(|error| {
            if let PeerError::Failed(failed) = error {
                sides.path = CellPath { asked: leg.asked, ..failed.path.clone().unwrap_or_else(CellPath::unseen) };
            }
        })?;
        sides.source = opened.source.clone();
        sides.mechanism = Some(opened.mechanism.clone());
        let moved = self.move_remote(setup, direction, &opened, &mut sides.far);
        if let Err(CellError::Interrupted) = moved {
            return Err(CellError::Interrupted);
        }
        // Also after a failure: what the peer opened has to be closed before anything else can be.
        let closed = peer.close();
        if let Ok(closed) = &closed {
            sides.path = CellPath { asked: leg.asked, ..closed.path.clone() };
        }
        let (figures, closed) = match (moved, closed) {
            // Transfers to a peer that is gone fail in many ways, often before anything else tells of it.
            (Err(_), Err(PeerError::Connection(lost))) if !matches!(lost, ConnectionError::Interrupted) => {
                return Err(peer_is_gone());
            }
            (Err(error), Ok(closed)) => {
                sides.path = CellPath { asked: leg.asked, ..closed.path };
                return Err(refused_atomic(peer, open, &opened, error));
            }
            (moved, closed) => (moved?, closed?),
        };
        faults_are_failures(figures, &closed.faults)
    }

    /// Registers this side's memory, connects, moves, times and verifies.
    fn move_remote(
        &mut self,
        setup: Setup<'_>,
        direction: Direction,
        opened: &Opened,
        side: &mut FarSide,
    ) -> Result<Figures, CellError> {
        let Setup { peer, spec, device, clock, .. } = setup;
        let windows = Some(&opened.window).filter(|window| window.slot_bytes == spec.size_bytes);
        let layouts = windows.and_then(WindowAt::layouts).ok_or(PeerError::Unexpected)?;
        let (lanes, streams) = (spec.threads as usize, streams(spec));
        if layouts.len() != lanes * streams {
            return Err(CellError::waived(
                "the server does not support this",
                Explanation::uncaused(
                    format!("it has {} window(s) where {} were asked for", layouts.len(), lanes * streams),
                    "use the same version of peerpath on both hosts, or one thread and one direction",
                ),
            ));
        }
        // Behind what the other side sees, the places for what comes back.
        let end = layouts.last().map_or(0, |last| last.far_start() + last.length_bytes());
        let back = |lane: usize| back_place(end) + lane as u64 * back_place(spec.size_bytes);
        let comes_back = spec.mode == Mode::PingPong;
        let far_bytes = if comes_back { back(lanes) } else { end };
        let buffer = far_buffer(setup.far, far_bytes)?;
        side.source = buffer.origin().clone();
        let register = || Arc::clone(device).register(Arc::clone(&buffer));
        let registration = self.routes.observed(&mut side.path, buffer.origin(), device.info(), register)?;
        let depth = if comes_back { PING_PONG_DEPTH } else { spec.depth };
        let receives = (comes_back || spec.bidirectional) && receives(spec.op);
        let settings = EndSettings { depth, queues: spec.qps, receives };
        let loose = (0..lanes).map(|_| registration.end(settings)).collect::<Result<Vec<_>, _>>()?;
        let whole = Endpoint::of_lanes(loose.iter().map(|end| end.endpoint())).ok_or(PeerError::Unexpected)?;
        peer.connect_to(&whole)?;
        let theirs = opened.endpoint.lanes(lanes).ok_or(PeerError::Unexpected)?;
        let joined = loose.into_iter().zip(&theirs).map(|(end, theirs)| end.connect(theirs));
        let joined = joined.collect::<Result<Vec<_>, _>>()?;
        let mut lanes = Vec::new();
        for (lane, (mut end, layouts)) in joined.into_iter().zip(layouts.chunks(streams)).enumerate() {
            if receives {
                let places = layouts.get(1).map_or_else(|| vec![back(lane)], Layout::far_places);
                end.receive(&places, layouts[0].transfer(spec.op, 0).length_bytes)?;
            }
            lanes.push(Lane { far: end.far(), posts: Posts::Apart { end, other: None, back: back(lane) }, layouts });
        }
        let figures = Figures { exported: Some(opened.source.clone()), ..Figures::default() };
        let moving = Moving { spec, clock, device: &device.info().name, direction, near: Place::Remote(peer, 0) };
        let figures = self.moved(moving, &mut lanes, figures)?;
        drop(lanes);
        registration.unregister()?;
        Ok(figures)
    }
}

/// An atomic operation that a BAR refuses looks like one on memory that was taken back; but that can be opened again.
fn refused_atomic(peer: &Client, open: Open, opened: &Opened, error: CellError) -> CellError {
    let CellError::Unmeasured(Unmeasured { outcome: Outcome::Failed, reason, .. }) = &error else { return error };
    let in_bar = opened.source.kind == SourceKind::Vfio && matches!(&open.op[..], "fetch_add" | "cmp_swap");
    // Refused is what a transfer was, and nothing before or after it.
    let refused = in_bar && reason.starts_with("the transfer ended with") && peer.open(open).is_ok();
    if refused && peer.close().is_ok() { transfer::atomics_refused(reason.clone()) } else { error }
}

/// What two hosts do not do together.
fn impossible(spec: &CellSpec, plan: &Plan) -> Option<Explanation> {
    let unreliable = plan.connection.transport != Transport::Rc;
    let many_queues = spec.op == Op::Send && spec.qps > 1;
    let (what, remedy) = if unreliable && receives(spec.op) && spec.mode != Mode::PingPong {
        (
            "without acknowledgements nothing tells whether the other host has receives ready, and what finds none is lost",
            "use mode pingpong, in which each waits for an answer, or a connection of kind rc",
        )
    } else if many_queues && plan.post_list.is_some_and(|list| list > 1) {
        (
            "sends that are handed over together arrive on one queue pair",
            "leave out the post list, or use one queue pair",
        )
    } else {
        return None;
    };
    Some(Explanation::uncaused(what, remedy))
}

/// This side's memory: the front of what was named, or host memory of the right size.
fn far_buffer(named: Option<&dyn Exporter>, length_bytes: u64) -> Result<Arc<Buffer>, CellError> {
    let Some(exporter) = named else {
        return Ok(HostExporter::open(length_bytes, &OpenOptions::default())?.export(length_bytes)?);
    };
    if length_bytes > exporter.length_bytes() {
        return Err(CellError::waived(
            format!("{length_bytes} bytes do not fit into this side's memory"),
            Explanation::uncaused(
                format!("{} has {} bytes", exporter.origin(), exporter.length_bytes()),
                "choose a smaller size or depth, or larger memory at this end",
            ),
        ));
    }
    Ok(exporter.export(length_bytes.next_multiple_of(page_bytes()).min(exporter.length_bytes()))?)
}

fn faults_are_failures(figures: Figures, faults: &[String]) -> Result<Figures, CellError> {
    faults.first().map_or(Ok(figures), |fault| Err(iommu_fault(faults.len(), fault)))
}

fn peer_is_gone() -> CellError {
    CellError::Unmeasured(Unmeasured {
        outcome: Outcome::Failed,
        reason: "the peer went away during the cell".to_owned(),
        explanation: Explanation::new(
            Cause::PeerLost,
            "it sends nothing any more",
            "see what the server printed on the other host, and start the run again",
        ),
    })
}
