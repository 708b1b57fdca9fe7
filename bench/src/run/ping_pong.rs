//! Ping-pong: who plays, and what came back.

use peerpath_importers::{ConnectedEnd, Op, Transfer};
use quanta::Clock;

use super::Runner;
use super::ended::Ended;
use super::lane::{Lane, Posts, Seen};
use super::threads;
use super::transfer::Moving;
use crate::interrupt::Interrupt;
use crate::layout::Layout;
use crate::measure::{self, Limit, MeasureError, PingPong, Recorder};
use crate::window::{Mismatch, Place, VerifyError};

impl Runner<'_> {
    /// Ping-pong, with two threads a lane: the one that is timed, and the one that answers, unless a peer does.
    pub(super) fn ping_pong(&self, moving: Moving<'_>, lanes: &mut [Lane<'_>]) -> Result<Vec<Seen>, Ended> {
        let Moving { spec, clock, near, .. } = moving;
        let (plan, interrupt) = (self.plan, self.interrupt);
        let last_bytes: Vec<u8> = match near {
            Place::Here(view) => {
                let last = |lane: &Lane<'_>| last_byte_of(spec.op, &lane.layouts[0]).buffer_offset;
                lanes.iter().map(|lane| measure::look_at(view, last(lane))).collect::<Result<_, _>>()?
            }
            Place::There(remote, _) => remote.echo(&backs(lanes))?,
        };
        let mut posting = Vec::new();
        let mut answering = Vec::new();
        for (lane, last_byte) in lanes.iter_mut().zip(last_bytes) {
            let Posts::Apart { end, other, back } = &mut lane.posts else { continue };
            let ping_pong = PingPong { layout: &lane.layouts[0], op: spec.op, back: *back, last_byte, rounds: 0 };
            let over = Interrupt::default();
            if let Some(other) = other {
                let before = other.arrived()?;
                answering.push(Turn::Answer(&mut **other, ping_pong, before, over.clone()));
            }
            posting.push(Turn::Post(&mut **end, ping_pong, over));
        }
        posting.extend(answering);
        let (warmup, limit) = (self.warmup_limit(), plan.limit());
        let seen = threads::together(posting, threads::in_turn(&plan.cpus), |turn| match turn {
            Turn::Answer(end, ping_pong, before, over) => {
                measure::echo(end, ping_pong, before, clock, &over).map(|_| None)
            }
            Turn::Post(end, ping_pong, over) => {
                let seen = timed_ping_pong(end, ping_pong, (warmup, limit), clock, interrupt);
                over.stop();
                seen.map(Some)
            }
        })?;
        if let Place::There(remote, _) = near {
            remote.rest()?;
        }
        let seen: Vec<Seen> = seen.into_iter().flatten().collect();
        for (lane, seen) in lanes.iter().zip(&seen) {
            came_back(lane, spec.op, seen.operations[0])?;
        }
        Ok(seen)
    }
}

/// Where the last byte of the first slot is, on both sides.
pub(super) fn last_byte_of(op: Op, layout: &Layout) -> Transfer {
    let slot = layout.transfer(op, 0);
    let last = u64::from(slot.length_bytes) - 1;
    Transfer { buffer_offset: slot.buffer_offset + last, far_offset: slot.far_offset + last, ..slot }
}

/// What a thread does in ping-pong.
enum Turn<'a> {
    Post(&'a mut dyn ConnectedEnd, PingPong<'a>, Interrupt),
    Answer(&'a mut dyn ConnectedEnd, PingPong<'a>, u64, Interrupt),
}

/// The part of the one that is timed.
fn timed_ping_pong(
    end: &mut dyn ConnectedEnd,
    ping_pong: PingPong<'_>,
    (warmup, limit): (Limit, Limit),
    clock: &Clock,
    interrupt: &Interrupt,
) -> Result<Seen, MeasureError> {
    let (mut unused, mut recorder) = (Recorder::new(clock.clone()), Recorder::new(clock.clone()));
    let (_, before) = measure::ping_pong(end, ping_pong, warmup, &mut unused, interrupt)?;
    // The last thing that the warm-up wrote is what was there in the beginning.
    let last_byte = match ping_pong.op {
        Op::Write if before > 0 => {
            measure::look_at(&*end.far(), last_byte_of(ping_pong.op, ping_pong.layout).far_offset)?
        }
        _ => ping_pong.last_byte,
    };
    let ping_pong = PingPong { rounds: before, last_byte, ..ping_pong };
    let (_, rounds) = measure::ping_pong(end, ping_pong, limit, &mut recorder, interrupt)?;
    // All but sends went to the first slot.
    let operations = if ping_pong.op == Op::Send { before + rounds } else { rounds.min(1) };
    Ok(Seen { recorder, operations: vec![operations], flows: Vec::new(), peer_took: None })
}

/// Where each lane's slot comes back to.
fn backs(lanes: &[Lane<'_>]) -> Vec<u64> {
    let back = |lane: &Lane<'_>| match lane.posts {
        Posts::Apart { back, .. } => Some(back),
        Posts::Whole(_) => None,
    };
    lanes.iter().filter_map(back).collect()
}

/// Compares what came back last with what went there.
fn came_back(lane: &Lane<'_>, op: Op, operations: u64) -> Result<(), VerifyError> {
    let (Posts::Apart { back, .. }, Some(last)) = (&lane.posts, operations.checked_sub(1)) else { return Ok(()) };
    let layout = &lane.layouts[0];
    let sent = layout.transfer(op, last).far_offset;
    let size = layout.size_bytes() as usize;
    let (mut wanted, mut found) = (vec![0; size], vec![0; size]);
    let failed = |source| VerifyError::View { side: "far side", source };
    lane.far.read(sent, &mut wanted).and_then(|()| lane.far.read(*back, &mut found)).map_err(failed)?;
    let wrong = || wanted.iter().zip(&found).enumerate().filter(|(_, (wanted, found))| wanted != found);
    let Some((at, (expected, other))) = wrong().next() else { return Ok(()) };
    Err(Mismatch {
        place: "of what came back",
        wrong_bytes: wrong().count() as u64,
        checked_bytes: layout.size_bytes(),
        first_offset: back + at as u64,
        expected: *expected,
        found: *other,
        guess: "the side that answers sent something else, or it changed on the way",
        missing: false,
    }
    .into())
}
