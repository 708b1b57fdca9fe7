//! Ends loops when a transfer is lost, when the run is interrupted, and at the limit of the measurement.

use peerpath_importers::{ConnectedEnd, Op};
use quanta::Clock;

use super::{LOST_AFTER, Limit, MeasureError};
use crate::interrupt::Interrupt;

/// Polls between two checks of the clock and the interrupt flag.
const POLLS_PER_CHECK: u32 = 4096;
/// Operations between two checks of the clock and the interrupt flag, unless one operation takes long.
const OPERATIONS_PER_CHECK: u64 = 64;
/// Duration above which an operation takes long, in ticks: about a millisecond at usual TSC frequencies.
const LONG_TICKS: u64 = 1 << 21;
/// Polls between two yields of the CPU. A waiting thread that does not yield could block the thread that it waits for, if both
/// run on one CPU.
const POLLS_PER_YIELD: u32 = 64;

/// Detects lost transfers and checks the interrupt flag, at the cost of one counter per poll.
pub(super) struct Watch<'a> {
    clock: &'a Clock,
    interrupt: &'a Interrupt,
    polls: u32,
    pub(super) idle_since: u64,
}

impl<'a> Watch<'a> {
    pub(super) fn new(clock: &'a Clock, interrupt: &'a Interrupt) -> Self {
        Self { clock, interrupt, polls: 0, idle_since: 0 }
    }

    pub(super) fn progress(&mut self) {
        self.polls = 0;
        self.idle_since = 0;
    }

    #[inline]
    pub(super) fn idle(&mut self) -> Result<(), MeasureError> {
        self.polls += 1;
        if self.polls < POLLS_PER_CHECK { Ok(()) } else { self.check() }
    }

    /// Waits after a poll without arrivals. Sleeps if the queue pair uses completion events and `op` raises one. Otherwise
    /// yields the CPU once in [`POLLS_PER_YIELD`] polls.
    #[inline]
    pub(super) fn wait_on(&mut self, end: &mut dyn ConnectedEnd, op: Op) -> Result<(), MeasureError> {
        // A write creates no completion, and so no event, at the responder.
        if op != Op::Write && end.wait()? {
            return self.check();
        }
        if self.polls % POLLS_PER_YIELD == POLLS_PER_YIELD - 1 {
            std::thread::yield_now();
        }
        self.idle()
    }

    #[cold]
    pub(super) fn check(&mut self) -> Result<(), MeasureError> {
        self.polls = 0;
        let now = self.clock.raw();
        if self.idle_since == 0 {
            self.idle_since = now;
        }
        if self.interrupt.is_set() {
            return Err(MeasureError::Interrupted);
        }
        if self.clock.delta(self.idle_since, now) > LOST_AFTER {
            return Err(MeasureError::TimedOut);
        }
        Ok(())
    }
}

/// Counts the operations of a loop. At intervals, checks the time limit and the interrupt flag.
pub struct LoopControl<'a> {
    clock: Clock,
    interrupt: &'a Interrupt,
    /// Raw time stamp of the start.
    pub(super) start: u64,
    limit: Limit,
    /// Number of operations at the last check.
    checked_at: u64,
    /// Number of operations from one check to the next.
    interval: u64,
    /// Number of operations until the next check.
    left: u64,
}

impl<'a> LoopControl<'a> {
    /// Starts the measured time.
    pub fn new(clock: &Clock, limit: Limit, interrupt: &'a Interrupt) -> Self {
        let interval = limit.iterations.min(OPERATIONS_PER_CHECK);
        Self { clock: clock.clone(), interrupt, start: clock.raw(), limit, checked_at: 0, interval, left: interval }
    }

    /// Number of operations so far.
    pub fn count(&self) -> u64 {
        self.checked_at + self.interval - self.left
    }

    /// Counts one operation with these raw start and end time stamps. Returns whether the loop continues.
    ///
    /// # Errors
    /// The run is interrupted.
    #[inline]
    pub fn continues(&mut self, start: u64, end: u64) -> Result<bool, MeasureError> {
        self.left -= 1;
        if self.left == 0 || end.wrapping_sub(start) > LONG_TICKS {
            return self.check(end);
        }
        Ok(true)
    }

    #[cold]
    fn check(&mut self, now: u64) -> Result<bool, MeasureError> {
        self.checked_at = self.count();
        self.interval = (self.limit.iterations - self.checked_at).min(OPERATIONS_PER_CHECK);
        self.left = self.interval;
        if self.interrupt.is_set() {
            return Err(MeasureError::Interrupted);
        }
        Ok(self.interval > 0 && self.clock.delta(self.start, now) < self.limit.duration)
    }
}
