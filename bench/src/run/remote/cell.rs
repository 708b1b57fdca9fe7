//! A cell with a peer. Opens the cell on the server, registers this host's memory, connects, transfers, and closes the cell.

use std::sync::Arc;

use peerpath_exporter::{Buffer, Exporter, HostExporter, OpenOptions, Origin, SourceKind, page_bytes};
use peerpath_importers::{Device, Direction, EndSettings, Endpoint, Op, Role, Transport};
use peerpath_paths::{Cause, Explanation};

use super::super::cell_error::CellError;
use super::super::context::Context;
use super::super::path_checks::fail_on_faults;
use super::super::removed::attribute;
use super::super::transfer::{
    Figures, Lane, LaneEnds, Transfers, atomics_refused, return_offset, streams, uses_receives,
};
use super::peer_lost;
use crate::failure::Failure;
use crate::layout::Layout;
use crate::measure::PING_PONG_DEPTH;
use crate::peer::client::Client;
use crate::peer::connection::ConnectionError;
use crate::peer::error::PeerError;
use crate::peer::message::{Open, Opened, QueuePairSettings, WindowLayout};
use crate::plan::{CellSpec, Leg, Mechanism, Mode, Plan, unsupported};
use crate::result::{CellPath, FarSide, Outcome};
use crate::route::Routes;
use crate::window::Access;

/// Facts about the client and the server side of a cell, for the result.
pub(super) struct CellRecord {
    pub(super) source: Origin,
    pub(super) path: CellPath,
    pub(super) mechanism: Option<String>,
    pub(super) far: FarSide,
}

/// A cell for which this host's memory and device are open.
#[derive(Clone, Copy)]
pub(super) struct RemoteCell<'a> {
    pub(super) context: Context<'a>,
    pub(super) peer: &'a Client,
    pub(super) leg: Leg<'a>,
    pub(super) spec: &'a CellSpec,
    /// This host's memory; `None` if it is allocated for the cell.
    pub(super) far: Option<&'a dyn Exporter>,
    pub(super) device: &'a Arc<dyn Device>,
    /// Returns the failure of the cell if the kernel requests the release of a function of this host.
    pub(super) removed: &'a dyn Fn() -> Option<Failure>,
}

impl RemoteCell<'_> {
    /// Measures the cell, and records in `record` the memory and the path of both hosts.
    pub(super) fn measure(self, routes: &mut Routes, record: &mut CellRecord) -> Result<Figures, CellError> {
        let Self { context, peer, leg, spec, .. } = self;
        let plan = context.plan;
        let Some(Role::Transfer(direction)) = spec.spec.map(|spec| spec.role) else {
            return Err(CellError::waived(
                format!("cannot run {} between two hosts", spec.op),
                Explanation::uncaused(
                    "Control operations involve only one host.",
                    "Measure it on one host, without a peer.",
                ),
            ));
        };
        if let Some(explanation) = unsupported(spec).or_else(|| unsupported_with_peer(spec, plan)) {
            let (op, mode) = (spec.op, spec.mode.as_str());
            return Err(CellError::waived(format!("cannot run {op} ({mode}) between two hosts"), explanation));
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
            connection: QueuePairSettings::of(&plan.connection),
        };
        let opened = peer.open(open.clone()).inspect_err(|error| {
            if let PeerError::Failed(failed) = error {
                let path = failed.path.clone().unwrap_or_else(CellPath::unknown);
                record.path = CellPath { asked: leg.asked, ..path };
            }
        })?;
        record.source = opened.source.clone();
        record.mechanism = Some(opened.mechanism.clone());
        let transferred = self.transfer(direction, &opened, routes, &mut record.far);
        let transferred = attribute(transferred, context.interrupt, self.removed);
        if let Err(CellError::Interrupted) = transferred {
            return Err(CellError::Interrupted);
        }
        // Close the cell even after a failure: the server closes one cell before it opens the next.
        let closed = peer.close();
        if let Ok(closed) = &closed {
            record.path = CellPath { asked: leg.asked, ..closed.path.clone() };
        }
        let (figures, closed) = match (transferred, closed) {
            // If the peer process died, transfers may fail before the loss of the connection is detected. Report the lost
            // connection.
            (Err(_), Err(PeerError::Connection(lost))) if !matches!(lost, ConnectionError::Interrupted) => {
                return Err(peer_lost());
            }
            // The transfers failed because the server closed the function.
            (Err(_), Err(PeerError::Failed(failed))) if failed.explanation().cause == Some(Cause::Removed) => {
                return Err(PeerError::Failed(failed).into());
            }
            (Err(error), Ok(_)) => return Err(refused_atomic(peer, open, &opened, error)),
            (transferred, closed) => (transferred?, closed?),
        };
        fail_on_faults(figures, &closed.faults)
    }

    /// Registers this host's memory, connects the queue pairs, then transfers, times and verifies.
    fn transfer(
        self,
        direction: Direction,
        opened: &Opened,
        routes: &mut Routes,
        far_side: &mut FarSide,
    ) -> Result<Figures, CellError> {
        let Self { context, peer, spec, device, .. } = self;
        let window = Some(&opened.window).filter(|window| window.slot_bytes == spec.size_bytes);
        let layouts = window.and_then(WindowLayout::layouts).ok_or(PeerError::Unexpected)?;
        let (lane_count, streams) = (spec.threads as usize, streams(spec));
        if layouts.len() != lane_count * streams {
            return Err(CellError::waived(
                "the server does not support several threads or directions",
                Explanation::uncaused(
                    format!("The server offers {} buffer(s), the cell needs {}.", layouts.len(), lane_count * streams),
                    "Use the same version of peerpath on both hosts, or one thread and one direction.",
                ),
            ));
        }
        // In ping-pong, the memory in which replies arrive follows the windows.
        let end = layouts.last().map_or(0, |last| last.far_start() + last.length_bytes());
        let return_offset_of = |lane: usize| return_offset(end) + lane as u64 * return_offset(spec.size_bytes);
        let is_ping_pong = spec.mode == Mode::PingPong;
        let far_bytes = if is_ping_pong { return_offset_of(lane_count) } else { end };
        let buffer = far_buffer(self.far, far_bytes)?;
        far_side.source = buffer.origin().clone();
        let register = || Arc::clone(device).register(Arc::clone(&buffer));
        let registration = routes.observed(&mut far_side.path, buffer.origin(), device.info(), register)?;
        let depth = if is_ping_pong { PING_PONG_DEPTH } else { spec.depth };
        let receives = (is_ping_pong || spec.bidirectional) && uses_receives(spec.op);
        let settings = EndSettings { depth, queues: spec.qps, receives };
        let unconnected = (0..lane_count).map(|_| registration.end(settings)).collect::<Result<Vec<_>, _>>()?;
        let own = Endpoint::of_lanes(unconnected.iter().map(|end| end.endpoint())).ok_or(PeerError::Unexpected)?;
        peer.connect_to(&own)?;
        let theirs = opened.endpoint.lanes(lane_count).ok_or(PeerError::Unexpected)?;
        let connected = unconnected.into_iter().zip(&theirs).map(|(end, theirs)| end.connect(theirs));
        let connected = connected.collect::<Result<Vec<_>, _>>()?;
        let mut lanes = Vec::new();
        for (index, (mut end, layouts)) in connected.into_iter().zip(layouts.chunks(streams)).enumerate() {
            let return_offset = return_offset_of(index);
            if receives {
                let offsets = layouts.get(1).map_or_else(|| vec![return_offset], Layout::far_offsets);
                end.receive(&offsets, layouts[0].transfer(spec.op, 0).length_bytes)?;
            }
            let far = end.far();
            lanes.push(Lane { far, ends: LaneEnds::Connected { end, responder: None, return_offset }, layouts });
        }
        let figures = Figures { exported: Some(opened.source.clone()), ..Figures::default() };
        let transfers = Transfers {
            limit: context.limit,
            plan: context.plan,
            cpus: context.pinning.of_cell(spec, false),
            interrupt: context.interrupt,
            clock: context.clock,
            spec,
            device: &device.info().name,
            direction,
            near: Access::Remote(peer, 0),
        };
        let figures = transfers.run(&mut lanes, figures)?;
        drop(lanes);
        registration.unregister()?;
        Ok(figures)
    }
}

/// Returns the outcome of [`atomics_refused`] if the BAR rejected an atomic operation, otherwise `error`. The device reports the
/// same status for revoked memory. To distinguish the two, opens the cell again, which fails for revoked memory.
fn refused_atomic(peer: &Client, open: Open, opened: &Opened, error: CellError) -> CellError {
    let CellError::Failure(failure) = &error else { return error };
    let on_bar = opened.source.kind == SourceKind::Vfio && matches!(&open.op[..], "fetch_add" | "cmp_swap");
    let is_refused = on_bar
        && Outcome::of(failure.severity) == Outcome::Failed
        && error.is_failed_transfer()
        && peer.open(open).is_ok();
    if is_refused && peer.close().is_ok() { atomics_refused(failure.what.clone()) } else { error }
}

/// The reason why a run between two hosts does not support a cell; `None` if it does.
fn unsupported_with_peer(spec: &CellSpec, plan: &Plan) -> Option<Explanation> {
    let unreliable = plan.connection.transport != Transport::Rc;
    let many_queues = spec.op == Op::Send && spec.qps > 1;
    let (why, remedy) = if unreliable && uses_receives(spec.op) && spec.mode != Mode::PingPong {
        (
            "Without acknowledgements this host cannot know how many receive work requests are posted on \
             the other host. A message without one is lost.",
            "Use mode pingpong, in which each message waits for a reply, or connection rc.",
        )
    } else if many_queues && plan.post_list.is_some_and(|list| list > 1) {
        ("All sends of a post list arrive on one queue pair.", "Omit the post list, or use one queue pair.")
    } else {
        return None;
    };
    Some(Explanation::uncaused(why, remedy))
}

/// This host's memory: the first bytes of the named source, or newly allocated host memory of `length_bytes`.
fn far_buffer(named: Option<&dyn Exporter>, length_bytes: u64) -> Result<Arc<Buffer>, CellError> {
    let Some(exporter) = named else {
        return Ok(HostExporter::open(length_bytes, &OpenOptions::default())?.export(length_bytes)?);
    };
    if length_bytes > exporter.length_bytes() {
        return Err(CellError::waived(
            format!("cannot place {length_bytes} bytes in the local buffer of this host"),
            Explanation::uncaused(
                format!("The length of {} is {} bytes.", exporter.origin(), exporter.length_bytes()),
                "Choose a smaller size or depth, or a larger local buffer; without one, host memory of the size needed is used.",
            ),
        ));
    }
    Ok(exporter.export(length_bytes.next_multiple_of(page_bytes()).min(exporter.length_bytes()))?)
}
