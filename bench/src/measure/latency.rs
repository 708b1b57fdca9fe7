//! Latency: one operation at a time.

use peerpath_importers::{Completion, DataPlane, Op, Side, Transfer};
use quanta::Clock;

use super::{Limit, LoopControl, MeasureError, Recorder, Watch, submit_all, take_completions};
use crate::interrupt::Interrupt;
use crate::layout::Layout;

/// Operations that one side posts in a measurement loop.
#[derive(Clone, Copy)]
pub struct Stream<'a> {
    /// The slots that the operations use.
    pub layout: &'a Layout,
    /// Operation of all transfers.
    pub op: Op,
    /// The side that posts the operations.
    pub posted_by: Side,
    /// Number of queues, used in turn.
    pub queues: u32,
    /// Number of the first operation.
    pub first: u64,
}

impl Stream<'_> {
    #[inline]
    pub(super) fn transfer(&self, number: u64) -> Transfer {
        let number = self.first + number;
        let queue = if self.queues > 1 { (number % u64::from(self.queues)) as u32 } else { 0 };
        Transfer { posted_by: self.posted_by, queue, ..self.layout.transfer(self.op, number) }
    }
}

/// Runs one transfer at a time and records its latency: the time from posting to work completion, or the duration that the
/// device measured. Returns the number of transfers.
///
/// # Errors
/// A transfer fails or times out, or the run is interrupted.
pub fn latency(
    plane: &mut dyn DataPlane,
    stream: Stream<'_>,
    limit: Limit,
    recorder: &mut Recorder,
    interrupt: &Interrupt,
) -> Result<u64, MeasureError> {
    let clock = recorder.clock.clone();
    let mut done: Vec<Completion> = Vec::with_capacity(1);
    // Reading the device time resets it. This discards the time of earlier transfers.
    let _ = plane.device_time_ns();
    let mut control = LoopControl::new(&clock, limit, interrupt);
    if limit.iterations == 0 {
        return Ok(0);
    }
    for number in 0.. {
        let transfer = stream.transfer(number);
        let start = clock.raw();
        run_one(plane, transfer, &mut done, &clock, interrupt)?;
        let end = clock.raw();
        take_completions(&mut done)?;
        match plane.device_time_ns() {
            Some(nanoseconds) => recorder.record_ns(nanoseconds),
            None => recorder.record(start, end),
        }
        if !control.continues(start, end)? {
            break;
        }
    }
    Ok(control.count())
}

/// Submits a transfer and waits for its completion.
#[inline]
fn run_one(
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
            watch.check()?;
        }
    }
}

/// Times a control operation repeatedly, and returns the number of repetitions. `step` performs the operation once, and returns
/// the raw time stamps before and after it.
///
/// # Errors
/// `step` fails, or the run is interrupted.
pub fn control(
    limit: Limit,
    recorder: &mut Recorder,
    interrupt: &Interrupt,
    mut step: impl FnMut(&Clock) -> Result<(u64, u64), MeasureError>,
) -> Result<u64, MeasureError> {
    let clock = recorder.clock.clone();
    let start_of_all = clock.raw();
    let mut count = 0;
    while count < limit.iterations && clock.delta(start_of_all, clock.raw()) < limit.duration {
        if interrupt.is_set() {
            return Err(MeasureError::Interrupted);
        }
        let (start, end) = step(&clock)?;
        recorder.record(start, end);
        count += 1;
    }
    Ok(count)
}
