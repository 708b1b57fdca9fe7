//! Ping-pong: half of the round trip between initiator and responder.

use std::sync::Arc;

use peerpath_exporter::View;
use peerpath_importers::{Completion, ConnectedEnd, Op, Transfer};
use quanta::Clock;

use super::{Limit, LoopControl, MeasureError, Recorder, Watch, submit_all, take_completions};
use crate::interrupt::Interrupt;
use crate::layout::Layout;

/// Reads of memory between two polls, while waiting for an arrival.
const READS_PER_POLL: u32 = 32;
/// Send queue depth of either side of ping-pong: one transfer in flight, and some whose completions were not polled yet.
pub const PING_PONG_DEPTH: u32 = 8;

/// A slot that travels between initiator and responder.
#[derive(Clone, Copy)]
pub struct PingPong<'a> {
    /// Offsets of the slot on both sides.
    pub layout: &'a Layout,
    /// Operation in both directions.
    pub op: Op,
    /// Offset on the initiator's side at which the answer arrives.
    pub return_offset: u64,
    /// Last byte of the slot on the responder's side at the start.
    pub last_byte: u8,
    /// Messages to the responder so far.
    pub rounds: u64,
}

impl PingPong<'_> {
    /// Message to the responder. Sends arrive at the next posted receive, writes in the first slot.
    #[inline]
    fn request(&self, round: u64) -> Transfer {
        self.layout.transfer(self.op, if self.op == Op::Send { self.rounds + round } else { 0 })
    }

    /// The responder's reply to the request of this round.
    #[inline]
    fn answer(&self, round: u64) -> Transfer {
        let request = self.request(round);
        Transfer { buffer_offset: self.return_offset, far_offset: request.buffer_offset, ..request }
    }
}

/// The timed side.
struct Initiator<'a> {
    ping_pong: PingPong<'a>,
    far: Arc<dyn View>,
    clock: &'a Clock,
    interrupt: &'a Interrupt,
    done: Vec<Completion>,
    /// The next message.
    next: Transfer,
    /// Arrived messages of the responder before the loop.
    arrived_before: u64,
    sent: u64,
    completed: u64,
    /// Offset of the last byte of the message.
    last_of_message: u64,
    /// Offset of the last byte of the answer.
    last_of_answer: u64,
}

impl Initiator<'_> {
    /// Sends the slot. A write ends with `marker`, by which the responder detects its arrival.
    #[inline]
    fn send(&mut self, end: &mut dyn ConnectedEnd, marker: u8) -> Result<(), MeasureError> {
        if self.ping_pong.op == Op::Write {
            self.far.write(self.last_of_message, &[marker])?;
        }
        submit_all(end, &[self.next], &mut self.done, self.clock, self.interrupt)?;
        self.sent += 1;
        self.next = self.ping_pong.request(self.sent);
        Ok(())
    }

    /// Waits for the answer.
    #[inline]
    fn wait_for_answer(&mut self, end: &mut dyn ConnectedEnd, marker: u8) -> Result<(), MeasureError> {
        let mut watch = Watch::new(self.clock, self.interrupt);
        loop {
            // Frees the send queue and posts receives. A failed transfer is detected only here.
            end.poll(&mut self.done)?;
            self.completed += take_completions(&mut self.done)?;
            let arrived = match self.ping_pong.op {
                Op::Write => any_of(READS_PER_POLL, || Ok(read_byte(&*self.far, self.last_of_answer)? == marker))?,
                _ => any_of(READS_PER_POLL, || Ok(end.arrived()? - self.arrived_before >= self.sent))?,
            };
            if arrived {
                return Ok(());
            }
            watch.wait_on(end, self.ping_pong.op)?;
        }
    }
}

/// Sends the slot and waits for the answer, repeatedly, and records half of each round trip. Returns the number of round trips that
/// were recorded, and the number of messages that were sent. One time stamp ends a round trip and starts the next one; it is recorded
/// while the next one is in flight. The other side runs [`echo`] or an equivalent.
///
/// A write has arrived when its last byte appears in memory, other operations when their receive completes. At the end, the slots
/// contain the same data as at the start.
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
    let first = ping_pong.request(0);
    let last = u64::from(first.length_bytes) - 1;
    let mut initiator = Initiator {
        ping_pong,
        far: end.far(),
        clock: &clock,
        interrupt,
        done: Vec::with_capacity(2 * PING_PONG_DEPTH as usize),
        next: first,
        arrived_before: end.arrived()?,
        sent: 0,
        completed: 0,
        last_of_message: first.far_offset + last,
        last_of_answer: ping_pong.return_offset + last,
    };
    let original = read_byte(&*initiator.far, initiator.last_of_message)?;
    // A marker differs from the previous one and from the original byte. The first marker also differs from the byte on the
    // responder's side.
    let skipped = u64::from(ping_pong.last_byte == original.wrapping_add(1));
    let marker = |round: u64| original.wrapping_add(((round + skipped) % 251) as u8 + 1);
    initiator.far.write(initiator.last_of_answer, &[!marker(0)])?;
    // It counts all round trips but the last one.
    let mut control = LoopControl::new(&clock, Limit { iterations: limit.iterations - 1, ..limit }, interrupt);
    let (mut continues, mut round) = (limit.iterations > 1, 0);
    let mut start = control.start;
    initiator.send(end, marker(0))?;
    loop {
        let next = marker(round + 1);
        initiator.wait_for_answer(end, marker(round))?;
        let stop = clock.raw();
        if continues {
            initiator.send(end, next)?;
        }
        recorder.record_half(start, stop);
        round += 1;
        if !continues {
            break;
        }
        continues = control.continues(start, stop)?;
        start = stop;
    }
    if ping_pong.op == Op::Write {
        initiator.send(end, original)?;
        initiator.wait_for_answer(end, original)?;
    }
    // Later users of this end must not find these completions.
    let mut watch = Watch::new(&clock, interrupt);
    while initiator.completed < initiator.sent {
        end.poll(&mut initiator.done)?;
        initiator.completed += take_completions(&mut initiator.done)?;
        watch.idle()?;
    }
    Ok((round, initiator.sent))
}

/// Sends back what arrives until `stop` is set, and returns the number of messages. Messages in flight at that time are answered.
/// `arrived_before` is the number of arrived messages before the initiator started, which may be before this function starts.
///
/// # Errors
/// The connection failed, or memory cannot be read.
pub fn echo(
    end: &mut dyn ConnectedEnd,
    ping_pong: PingPong<'_>,
    arrived_before: u64,
    clock: &Clock,
    stop: &Interrupt,
) -> Result<u64, MeasureError> {
    let near = end.far();
    let mut done: Vec<Completion> = Vec::with_capacity(2 * PING_PONG_DEPTH as usize);
    let first = ping_pong.request(0);
    let last = first.buffer_offset + u64::from(first.length_bytes) - 1;
    let mut last_byte = ping_pong.last_byte;
    let (mut answered, mut completed) = (0, 0);
    let mut answer = ping_pong.answer(0);
    // The next message may take arbitrarily long. Only the answers have to complete in time.
    let unstoppable = Interrupt::default();
    let mut watch = Watch::new(clock, &unstoppable);
    loop {
        let arrived = match ping_pong.op {
            Op::Write => any_of(READS_PER_POLL, || {
                let now = read_byte(&*near, last)?;
                Ok(std::mem::replace(&mut last_byte, now) != now)
            })?,
            _ => any_of(READS_PER_POLL, || Ok(end.arrived()? - arrived_before > answered))?,
        };
        if arrived {
            submit_all(end, &[answer], &mut done, clock, &unstoppable)?;
            answered += 1;
            answer = ping_pong.answer(answered);
        }
        end.poll(&mut done)?;
        completed += take_completions(&mut done)?;
        if arrived || (completed == answered && !stop.is_set()) {
            watch.idle_since = 0;
        }
        if !arrived && completed == answered && stop.is_set() {
            return Ok(answered);
        }
        if !arrived {
            watch.wait_on(end, ping_pong.op)?;
        }
    }
}

/// Reads a byte through a view.
///
/// # Errors
/// The memory cannot be read.
pub fn read_byte(view: &dyn View, offset: u64) -> Result<u8, MeasureError> {
    let mut byte = [0];
    view.read(offset, &mut byte)?;
    Ok(byte[0])
}

/// Whether one of `attempts` calls of `found` returns true.
#[inline]
fn any_of(attempts: u32, mut found: impl FnMut() -> Result<bool, MeasureError>) -> Result<bool, MeasureError> {
    for _ in 0..attempts {
        if found()? {
            return Ok(true);
        }
    }
    Ok(false)
}
