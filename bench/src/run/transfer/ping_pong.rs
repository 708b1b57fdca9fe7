//! Runs ping-pong between initiator and responder, and verifies the last reply.

use peerpath_importers::{ConnectedEnd, Op, Transfer};
use quanta::Clock;

use super::lane::{Lane, LaneEnds};
use super::{LaneResult, Transfers};
use crate::interrupt::Interrupt;
use crate::layout::Layout;
use crate::measure::{self, Limit, MeasureError, PingPong, Recorder};
use crate::run::cell_error::CellError;
use crate::run::threads;
use crate::window::{Access, Mismatch, VerifyError};

/// Role of a thread in ping-pong.
enum Role<'a> {
    Initiator { end: &'a mut dyn ConnectedEnd, ping_pong: PingPong<'a>, stop_responder: Interrupt },
    Responder { end: &'a mut dyn ConnectedEnd, ping_pong: PingPong<'a>, arrived_before: u64, stop: Interrupt },
}

/// Runs ping-pong with two threads per lane: the timed initiator and the responder. If a peer is the responder, only the
/// initiator runs here.
pub(super) fn run(transfers: Transfers<'_>, lanes: &mut [Lane<'_>]) -> Result<Vec<LaneResult>, CellError> {
    let Transfers { plan, cpus, limit, spec, clock, near, interrupt, .. } = transfers;
    let last_bytes: Vec<u8> = match near {
        Access::Local(view) => {
            let last = |lane: &Lane<'_>| last_byte_of(spec.op, &lane.layouts[0]).buffer_offset;
            lanes.iter().map(|lane| measure::read_byte(view, last(lane))).collect::<Result<_, _>>()?
        }
        Access::Remote(remote, _) => remote.echo(&return_offsets(lanes))?,
    };
    let mut initiators = Vec::new();
    let mut responders = Vec::new();
    for (lane, last_byte) in lanes.iter_mut().zip(last_bytes) {
        let LaneEnds::Connected { end, responder, return_offset } = &mut lane.ends else { continue };
        let layout = &lane.layouts[0];
        let ping_pong = PingPong { layout, op: spec.op, return_offset: *return_offset, last_byte, rounds: 0 };
        let stop = Interrupt::default();
        if let Some(responder) = responder {
            let arrived_before = responder.arrived()?;
            let stop = stop.clone();
            responders.push(Role::Responder { end: &mut **responder, ping_pong, arrived_before, stop });
        }
        initiators.push(Role::Initiator { end: &mut **end, ping_pong, stop_responder: stop });
    }
    initiators.extend(responders);
    let results = threads::run_together(initiators, threads::round_robin(cpus), |role| match role {
        Role::Responder { end, ping_pong, arrived_before, stop } => {
            measure::echo(end, ping_pong, arrived_before, clock, &stop).map(|_| None)
        }
        Role::Initiator { end, ping_pong, stop_responder } => {
            let result = run_initiator(end, ping_pong, (plan.warmup, limit), clock, interrupt);
            stop_responder.stop();
            result.map(Some)
        }
    })?;
    if let Access::Remote(remote, _) = near {
        remote.stop_echo()?;
    }
    let results: Vec<LaneResult> = results.into_iter().flatten().collect();
    for (lane, result) in lanes.iter().zip(&results) {
        verify_reply(lane, spec.op, result.operations[0])?;
    }
    Ok(results)
}

/// Offsets of the last byte of the first slot in the memory of both sides.
pub(in crate::run) fn last_byte_of(op: Op, layout: &Layout) -> Transfer {
    let slot = layout.transfer(op, 0);
    let last = u64::from(slot.length_bytes) - 1;
    Transfer { buffer_offset: slot.buffer_offset + last, far_offset: slot.far_offset + last, ..slot }
}

/// Runs the initiator: warms up, then measures.
fn run_initiator(
    end: &mut dyn ConnectedEnd,
    mut ping_pong: PingPong<'_>,
    (block, limit): (u64, Limit),
    clock: &Clock,
    interrupt: &Interrupt,
) -> Result<LaneResult, MeasureError> {
    let mut sent = 0;
    let warm_up = measure::warm_up(block, limit, clock, |limit, recorder| {
        let (round_trips, sent_now) = measure::ping_pong(end, ping_pong, limit, recorder, interrupt)?;
        ping_pong.rounds += sent_now;
        if ping_pong.op == Op::Write && sent_now > 0 {
            // The byte in the responder's memory has changed: it equals the last byte that the initiator wrote.
            let last_byte = last_byte_of(ping_pong.op, ping_pong.layout).far_offset;
            ping_pong.last_byte = measure::read_byte(&*end.far(), last_byte)?;
        }
        sent += sent_now;
        Ok(round_trips)
    })?;
    let mut recorder = Recorder::new(clock.clone());
    let (_, measured) = measure::ping_pong(end, ping_pong, limit, &mut recorder, interrupt)?;
    // Sends use the slots in turn, writes use only the first slot.
    let operations = if ping_pong.op == Op::Send { sent + measured } else { measured.min(1) };
    Ok(LaneResult {
        recorder,
        operations: vec![operations],
        throughputs: Vec::new(),
        peer_duration: None,
        warm_up: Some(warm_up),
    })
}

/// Offset in initiator memory at which the reply of each lane arrives.
fn return_offsets(lanes: &[Lane<'_>]) -> Vec<u64> {
    let of_lane = |lane: &Lane<'_>| match lane.ends {
        LaneEnds::Connected { return_offset, .. } => Some(return_offset),
        LaneEnds::DataPlane(_) => None,
    };
    lanes.iter().filter_map(of_lane).collect()
}

/// Compares the last reply with the sent data.
fn verify_reply(lane: &Lane<'_>, op: Op, operations: u64) -> Result<(), VerifyError> {
    let LaneEnds::Connected { return_offset, .. } = &lane.ends else { return Ok(()) };
    let Some(last) = operations.checked_sub(1) else { return Ok(()) };
    let layout = &lane.layouts[0];
    let sent = layout.transfer(op, last).far_offset;
    let size = layout.size_bytes() as usize;
    let (mut expected, mut found) = (vec![0; size], vec![0; size]);
    let failed = |source| VerifyError::View { side: "initiator memory", source };
    lane.far.read(sent, &mut expected).and_then(|()| lane.far.read(*return_offset, &mut found)).map_err(failed)?;
    match Mismatch::between(&expected, &found) {
        None => Ok(()),
        Some(mismatch) => Err(Mismatch {
            place: "of the reply",
            first_offset: return_offset + mismatch.first_offset,
            guess: "the responder sent other data, or the data changed on the path",
            ..mismatch
        }
        .into()),
    }
}
