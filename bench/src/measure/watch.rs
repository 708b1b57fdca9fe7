//! Ends loops: on lost transfers, on interrupts, and at their limit.

use peerpath_importers::{ConnectedEnd, Op};
use quanta::Clock;

use super::{LOST_AFTER, Limit, MeasureError};
use crate::interrupt::Interrupt;

/// Polls between two checks of the clock and the interrupt flag.
const POLLS_PER_CHECK: u32 = 4096;
/// Operations between two checks of the clock and the interrupt flag, unless they take long.
const OPERATIONS_PER_CHECK: u64 = 64;
/// Ticks of an operation that takes long: about a millisecond at usual counter frequencies.
const LONG_TICKS: u64 = 1 << 21;
/// Polls between two yields of the CPU: a waiting side could keep the side that it waits for from running.
const POLLS_PER_YIELD: u32 = 64;

/// Detects lost transfers and interrupts, at the cost of one counter per poll.
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

    /// Nothing arrived: sleeps if the end was opened to sleep and the arrival raises an event, and yields the CPU now and then.
    #[inline]
    pub(super) fn wait_on(&mut self, end: &mut dyn ConnectedEnd, op: Op) -> Result<(), MeasureError> {
        // A write raises no event at the other side.
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

/// Counts the operations of a loop, and checks time and interrupt now and then.
pub struct LoopControl<'a> {
    clock: Clock,
    interrupt: &'a Interrupt,
    /// Raw time stamp of the start.
    pub(super) start: u64,
    limit: Limit,
    /// Operations until the last check.
    checked_at: u64,
    /// Operations from one check to the next, and how many of these are left.
    interval: u64,
    left: u64,
}

impl<'a> LoopControl<'a> {
    /// Starts now.
    pub fn new(clock: &Clock, limit: Limit, interrupt: &'a Interrupt) -> Self {
        let interval = limit.iterations.min(OPERATIONS_PER_CHECK);
        Self { clock: clock.clone(), interrupt, start: clock.raw(), limit, checked_at: 0, interval, left: interval }
    }

    /// Number of operations so far.
    pub fn count(&self) -> u64 {
        self.checked_at + self.interval - self.left
    }

    /// Counts an operation between these raw time stamps, and returns whether another one follows.
    ///
    /// # Errors
    /// The run was interrupted.
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
