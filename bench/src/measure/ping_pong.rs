//! There and back again.

use std::sync::Arc;

use peerpath_exporter::View;
use peerpath_importers::{Completion, ConnectedEnd, Op, Transfer};
use quanta::Clock;

use super::{Going, Limit, MeasureError, Recorder, Watch, settle, submit_all};
use crate::interrupt::Interrupt;
use crate::layout::Layout;

/// How many looks at memory pass between two polls, where an arrival is waited for.
const LOOKS_PER_POLL: u32 = 32;
/// Transfers that either side of ping-pong may have under way: one, and some whose completions were not fetched yet.
pub const PING_PONG_DEPTH: u32 = 8;

/// A slot that goes there and back again.
#[derive(Clone, Copy)]
pub struct PingPong<'a> {
    /// Where it is on both sides.
    pub layout: &'a Layout,
    /// How it is sent, there and back.
    pub op: Op,
    /// Where on the far side it comes back to.
    pub back: u64,
    /// What its last byte is on the side that answers, in the beginning.
    pub last_byte: u8,
    /// How often it went there before.
    pub rounds: u64,
}

impl PingPong<'_> {
    /// What goes there for the `round`-th time. Sends land where the next receive waits, all else in the first slot.
    #[inline]
    fn there(&self, round: u64) -> Transfer {
        self.layout.transfer(self.op, if self.op == Op::Send { self.rounds + round } else { 0 })
    }

    /// The same on its way back, as the side sees it that answers.
    #[inline]
    fn back(&self, round: u64) -> Transfer {
        let there = self.there(round);
        Transfer { buffer_offset: self.back, far_offset: there.buffer_offset, ..there }
    }
}

/// The side that sends first, and that is timed.
struct Initiator<'a> {
    ping_pong: PingPong<'a>,
    far: Arc<dyn View>,
    clock: &'a Clock,
    interrupt: &'a Interrupt,
    done: Vec<Completion>,
    /// What is sent next.
    there: Transfer,
    /// Sends of the other side that had arrived before.
    before: u64,
    begun: u64,
    ended: u64,
    /// Where the last byte of a slot stands before it goes, and after it has come back.
    out: u64,
    back: u64,
}

impl Initiator<'_> {
    /// Sends the slot there, with this for its last byte where that tells of its arrival.
    #[inline]
    fn send(&mut self, end: &mut dyn ConnectedEnd, marker: u8) -> Result<(), MeasureError> {
        if self.ping_pong.op == Op::Write {
            self.far.write(self.out, &[marker])?;
        }
        submit_all(end, &[self.there], &mut self.done, self.clock, self.interrupt)?;
        self.begun += 1;
        self.there = self.ping_pong.there(self.begun);
        Ok(())
    }

    /// Waits until it has come back.
    #[inline]
    fn wait_for_return(&mut self, end: &mut dyn ConnectedEnd, marker: u8) -> Result<(), MeasureError> {
        let mut watch = Watch::new(self.clock, self.interrupt);
        loop {
            // Room for the next answer, and what ended; only here a failure would show.
            end.poll(&mut self.done)?;
            self.ended += settle(&mut self.done)?;
            let come = match self.ping_pong.op {
                Op::Write => any_of(LOOKS_PER_POLL, || Ok(look_at(&*self.far, self.back)? == marker))?,
                _ => any_of(LOOKS_PER_POLL, || Ok(end.arrived()? - self.before >= self.begun))?,
            };
            if come {
                return Ok(());
            }
            watch.wait_on(end, self.ping_pong.op)?;
        }
    }
}

/// Sends the slot there, waits for it to come back, one after the other, and records half of each round trip; returns how
/// many there were, and how often the slot went there in all. The time of one round trip ends where the next one's begins, with
/// one time stamp for both; it is recorded while the next one is on its way, which still counts when the time is over. The other
/// side has to run [`echo`], or something like it.
///
/// A write has arrived when its last byte is seen in memory, everything else when its receive tells. What the slots hold in
/// the end is what they held in the beginning.
///
/// # Errors
/// As [`latency`](super::latency()).
pub fn ping_pong(
    end: &mut dyn ConnectedEnd,
    ping_pong: PingPong<'_>,
    limit: Limit,
    recorder: &mut Recorder,
    interrupt: &Interrupt,
) -> Result<(u64, u64), MeasureError> {
    if limit.iterations == 0 {
        return Ok((0, 0));
    }
    let clock = recorder.clock.clone();
    let there = ping_pong.there(0);
    let last = u64::from(there.length_bytes) - 1;
    let mut initiator = Initiator {
        ping_pong,
        far: end.far(),
        clock: &clock,
        interrupt,
        done: Vec::with_capacity(2 * PING_PONG_DEPTH as usize),
        there,
        before: end.arrived()?,
        begun: 0,
        ended: 0,
        out: there.far_offset + last,
        back: ping_pong.back + last,
    };
    let original = look_at(&*initiator.far, initiator.out)?;
    // A marker differs from the one before and from what is there in the beginning and in the end; the first also from what
    // either side holds.
    let skipped = u64::from(ping_pong.last_byte == original.wrapping_add(1));
    let marker = |turn: u64| original.wrapping_add(((turn + skipped) % 251) as u8 + 1);
    initiator.far.write(initiator.back, &[!marker(0)])?;
    // It counts those that another one follows.
    let mut going = Going::new(&clock, Limit { iterations: limit.iterations - 1, ..limit }, interrupt);
    let (mut goes_on, mut turn) = (limit.iterations > 1, 0);
    let mut start = going.begun;
    initiator.send(end, marker(0))?;
    loop {
        let next = marker(turn + 1);
        initiator.wait_for_return(end, marker(turn))?;
        let stop = clock.raw();
        if goes_on {
            initiator.send(end, next)?;
        }
        recorder.record_half(start, stop);
        turn += 1;
        if !goes_on {
            break;
        }
        goes_on = going.on(start, stop)?;
        start = stop;
    }
    if ping_pong.op == Op::Write {
        initiator.send(end, original)?;
        initiator.wait_for_return(end, original)?;
    }
    // Whoever uses this end next waits for completions of its own.
    let mut watch = Watch::new(&clock, interrupt);
    while initiator.ended < initiator.begun {
        end.poll(&mut initiator.done)?;
        initiator.ended += settle(&mut initiator.done)?;
        watch.idle()?;
    }
    Ok((turn, initiator.begun))
}

/// Sends back what comes, until `ending` says that nothing more does; what is under way then has been answered. Returns how
/// often something came. `before` is how many sends had arrived before the other side began: it may begin before this does.
///
/// # Errors
/// The connection has ended, or memory cannot be looked at.
pub fn echo(
    end: &mut dyn ConnectedEnd,
    ping_pong: PingPong<'_>,
    before: u64,
    clock: &Clock,
    ending: &Interrupt,
) -> Result<u64, MeasureError> {
    let near = end.far();
    let mut done: Vec<Completion> = Vec::with_capacity(2 * PING_PONG_DEPTH as usize);
    let first = ping_pong.there(0);
    let last = first.buffer_offset + u64::from(first.length_bytes) - 1;
    let mut last_byte = ping_pong.last_byte;
    let (mut come, mut ended) = (0, 0);
    let mut back = ping_pong.back(0);
    // Nobody says how long the next one takes; only what was sent back has to end.
    let unstoppable = Interrupt::default();
    let mut watch = Watch::new(clock, &unstoppable);
    loop {
        let arrived = match ping_pong.op {
            Op::Write => any_of(LOOKS_PER_POLL, || {
                let now = look_at(&*near, last)?;
                Ok(std::mem::replace(&mut last_byte, now) != now)
            })?,
            _ => any_of(LOOKS_PER_POLL, || Ok(end.arrived()? - before > come))?,
        };
        if arrived {
            submit_all(end, &[back], &mut done, clock, &unstoppable)?;
            come += 1;
            back = ping_pong.back(come);
        }
        end.poll(&mut done)?;
        ended += settle(&mut done)?;
        if arrived || (ended == come && !ending.is_set()) {
            watch.quiet_since = 0;
        }
        if !arrived && ended == come && ending.is_set() {
            return Ok(come);
        }
        if !arrived {
            watch.wait_on(end, ping_pong.op)?;
        }
    }
}

/// A byte, as the memory's owner sees it.
///
/// # Errors
/// The memory cannot be looked at.
pub fn look_at(view: &dyn View, offset: u64) -> Result<u8, MeasureError> {
    let mut byte = [0];
    view.read(offset, &mut byte)?;
    Ok(byte[0])
}

/// Whether one of so many looks finds what is looked for.
#[inline]
fn any_of(looks: u32, mut found: impl FnMut() -> Result<bool, MeasureError>) -> Result<bool, MeasureError> {
    for _ in 0..looks {
        if found()? {
            return Ok(true);
        }
    }
    Ok(false)
}
