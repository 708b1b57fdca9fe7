//! Whether a loop goes on: lost transfers, interrupts, and the end of its time.

use peerpath_importers::{ConnectedEnd, Op};
use quanta::Clock;

use super::{LOST_AFTER, Limit, MeasureError};
use crate::interrupt::Interrupt;

/// How many polls pass between two looks at the clock and at the interrupt flag.
const POLLS_PER_LOOK: u32 = 4096;
/// How many operations pass between two looks at the time and at the interrupt flag, unless they take long.
const OPERATIONS_PER_LOOK: u64 = 64;
/// Ticks of an operation that takes long: about a millisecond, at whatever rate the counter runs.
const LONG_TICKS: u64 = 1 << 21;
/// How many times [`LOOKS_PER_POLL`] pass before somebody else may have the processor: a side that waits so long may keep the
/// one that it waits for from running.
const LOOKS_PER_YIELD: u32 = 64;

/// Watches for lost transfers and interrupts, at the cost of one counter a poll.
pub(super) struct Watch<'a> {
    clock: &'a Clock,
    interrupt: &'a Interrupt,
    polls: u32,
    pub(super) quiet_since: u64,
}

impl<'a> Watch<'a> {
    pub(super) fn new(clock: &'a Clock, interrupt: &'a Interrupt) -> Self {
        Self { clock, interrupt, polls: 0, quiet_since: 0 }
    }

    pub(super) fn progress(&mut self) {
        self.polls = 0;
        self.quiet_since = 0;
    }

    #[inline]
    pub(super) fn idle(&mut self) -> Result<(), MeasureError> {
        self.polls += 1;
        if self.polls < POLLS_PER_LOOK { Ok(()) } else { self.look() }
    }

    /// Nothing came in [`LOOKS_PER_POLL`] looks: sleeps where the end was opened to sleep and something is to tell of it, and
    /// gives way to others now and then.
    #[inline]
    pub(super) fn wait_on(&mut self, end: &mut dyn ConnectedEnd, op: Op) -> Result<(), MeasureError> {
        // Nothing tells of a write.
        if op != Op::Write && end.wait()? {
            return self.look();
        }
        if self.polls % LOOKS_PER_YIELD == LOOKS_PER_YIELD - 1 {
            std::thread::yield_now();
        }
        self.idle()
    }

    #[cold]
    pub(super) fn look(&mut self) -> Result<(), MeasureError> {
        self.polls = 0;
        let now = self.clock.raw();
        if self.quiet_since == 0 {
            self.quiet_since = now;
        }
        if self.interrupt.is_set() {
            return Err(MeasureError::Interrupted);
        }
        if self.clock.delta(self.quiet_since, now) > LOST_AFTER {
            return Err(MeasureError::TimedOut);
        }
        Ok(())
    }
}

/// Whether a loop goes on: counts operations, and looks at time and interrupt now and then.
pub struct Going<'a> {
    clock: Clock,
    interrupt: &'a Interrupt,
    pub(super) begun: u64,
    limit: Limit,
    /// Operations until the last look.
    looked_at: u64,
    /// Operations from one look to the next, and how many of these are left.
    stretch: u64,
    left: u64,
}

impl<'a> Going<'a> {
    /// Begins now.
    pub fn new(clock: &Clock, limit: Limit, interrupt: &'a Interrupt) -> Self {
        let stretch = limit.iterations.min(OPERATIONS_PER_LOOK);
        Self { clock: clock.clone(), interrupt, begun: clock.raw(), limit, looked_at: 0, stretch, left: stretch }
    }

    /// How many operations there were.
    pub fn count(&self) -> u64 {
        self.looked_at + self.stretch - self.left
    }

    /// An operation ended; returns whether there is to be another one.
    ///
    /// # Errors
    /// The run was interrupted.
    #[inline]
    pub fn on(&mut self, start: u64, end: u64) -> Result<bool, MeasureError> {
        self.left -= 1;
        if self.left == 0 || end.wrapping_sub(start) > LONG_TICKS {
            return self.look(end);
        }
        Ok(true)
    }

    #[cold]
    fn look(&mut self, now: u64) -> Result<bool, MeasureError> {
        self.looked_at = self.count();
        self.stretch = (self.limit.iterations - self.looked_at).min(OPERATIONS_PER_LOOK);
        self.left = self.stretch;
        if self.interrupt.is_set() {
            return Err(MeasureError::Interrupted);
        }
        Ok(self.stretch > 0 && self.clock.delta(self.begun, now) < self.limit.duration)
    }
}
