//! One operation at a time.

use peerpath_importers::{Completion, DataPlane, Op, Side, Transfer};
use quanta::Clock;

use super::{Going, Limit, MeasureError, Recorder, Watch, settle, submit_all};
use crate::interrupt::Interrupt;
use crate::layout::Layout;

/// What is done again and again, and who posts it.
#[derive(Clone, Copy)]
pub struct Stream<'a> {
    /// Where.
    pub layout: &'a Layout,
    /// What.
    pub op: Op,
    /// By whom.
    pub posted_by: Side,
    /// On how many queues in turn.
    pub queues: u32,
    /// From the how-manieth on.
    pub first: u64,
}

impl Stream<'_> {
    #[inline]
    pub(super) fn transfer(&self, turn: u64) -> Transfer {
        let turn = self.first + turn;
        let queue = if self.queues > 1 { (turn % u64::from(self.queues)) as u32 } else { 0 };
        Transfer { posted_by: self.posted_by, queue, ..self.layout.transfer(self.op, turn) }
    }
}

/// Runs one transfer at a time and records how long each took, from its posting to its completion, or what the device says that
/// it took; returns how many ran.
///
/// # Errors
/// A transfer failed or was lost, or the run was interrupted.
pub fn latency(
    plane: &mut dyn DataPlane,
    stream: Stream<'_>,
    limit: Limit,
    recorder: &mut Recorder,
    interrupt: &Interrupt,
) -> Result<u64, MeasureError> {
    let clock = recorder.clock.clone();
    let mut done: Vec<Completion> = Vec::with_capacity(1);
    // What it took for anything before this is not asked.
    let _ = plane.device_time_ns();
    let mut going = Going::new(&clock, limit, interrupt);
    if limit.iterations == 0 {
        return Ok(0);
    }
    for turn in 0.. {
        let transfer = stream.transfer(turn);
        let start = clock.raw();
        one(plane, transfer, &mut done, &clock, interrupt)?;
        let end = clock.raw();
        settle(&mut done)?;
        match plane.device_time_ns() {
            Some(nanoseconds) => recorder.record_ns(nanoseconds),
            None => recorder.record(start, end),
        }
        if !going.on(start, end)? {
            break;
        }
    }
    Ok(going.count())
}

/// Hands one transfer over and waits for its completion.
#[inline]
fn one(
    plane: &mut dyn DataPlane,
    transfer: Transfer,
    done: &mut Vec<Completion>,
    clock: &Clock,
    interrupt: &Interrupt,
) -> Result<(), MeasureError> {
    submit_all(plane, &[transfer], done, clock, interrupt)?;
    let mut watch = Watch::new(clock, interrupt);
    loop {
        plane.poll(done)?;
        if !done.is_empty() {
            return Ok(());
        }
        watch.idle()?;
        if plane.wait()? {
            watch.look()?;
        }
    }
}

/// Times a control operation again and again: `step` returns the raw time stamps around it.
///
/// # Errors
/// The step's own, or the run was interrupted.
pub fn control(
    limit: Limit,
    recorder: &mut Recorder,
    interrupt: &Interrupt,
    mut step: impl FnMut(&Clock) -> Result<(u64, u64), MeasureError>,
) -> Result<u64, MeasureError> {
    let clock = recorder.clock.clone();
    let begun = clock.raw();
    let mut count = 0;
    while count < limit.iterations && clock.delta(begun, clock.raw()) < limit.duration {
        if interrupt.is_set() {
            return Err(MeasureError::Interrupted);
        }
        let (start, end) = step(&clock)?;
        recorder.record(start, end);
        count += 1;
    }
    Ok(count)
}
