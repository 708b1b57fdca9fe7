//! Measures ping-pong: half of the round trip between initiator and responder.

use std::sync::Arc;

use peerpath_exporter::View;
use peerpath_importers::{Completion, ConnectedEnd, Op, Transfer};
use quanta::Clock;

use super::{Limit, LoopControl, MeasureError, Recorder, Watch, submit_all, take_completions};
use crate::interrupt::Interrupt;
use crate::layout::Layout;

/// Number of times that the loop reads memory between two polls while it waits for an arrival.
const READS_PER_POLL: u32 = 32;
/// Send queue depth of initiator and responder in ping-pong. One transfer is in flight; the rest is for transfers whose
/// completions were not polled yet.
pub const PING_PONG_DEPTH: u32 = 8;

/// Parameters of a ping-pong exchange: initiator and responder send each other one message in turn.
#[derive(Clone, Copy)]
pub struct PingPong<'a> {
    /// Offsets of the slot on both sides.
    pub layout: &'a Layout,
    /// Operation in both directions.
    pub op: Op,
    /// Offset in initiator memory at which the reply arrives.
    pub return_offset: u64,
    /// Initial value of the last byte of the slot in the responder's memory.
    pub last_byte: u8,
    /// Number of messages that the responder received before this exchange.
    pub rounds: u64,
}

impl PingPong<'_> {
    /// Transfer of round `round` to the responder. A send arrives in the buffer of the next posted receive, a write in the
    /// first slot.
    #[inline]
    fn request(&self, round: u64) -> Transfer {
        self.layout.transfer(self.op, if self.op == Op::Send { self.rounds + round } else { 0 })
    }

    /// Transfer of the responder's reply in round `round`.
    #[inline]
    fn reply(&self, round: u64) -> Transfer {
        let request = self.request(round);
        Transfer { buffer_offset: self.return_offset, far_offset: request.buffer_offset, ..request }
    }
}

/// State of the initiator, which times the round trips.
struct Initiator<'a> {
    ping_pong: PingPong<'a>,
    far: Arc<dyn View>,
    clock: &'a Clock,
    interrupt: &'a Interrupt,
    done: Vec<Completion>,
    /// Transfer of the next message.
    next: Transfer,
    /// Number of messages from the responder that arrived before the loop.
    arrived_before: u64,
    sent: u64,
    completed: u64,
    /// Offset of the last byte of the message in initiator memory.
    last_of_message: u64,
    /// Offset of the last byte of the reply in initiator memory.
    last_of_reply: u64,
}

impl Initiator<'_> {
    /// Sends the slot. For a write, its last byte is set to `marker`, by which the responder detects the arrival.
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

    /// Waits for the reply of the responder.
    #[inline]
    fn wait_for_reply(&mut self, end: &mut dyn ConnectedEnd, marker: u8) -> Result<(), MeasureError> {
        let mut watch = Watch::new(self.clock, self.interrupt);
        loop {
            // Polling frees send queue entries and posts receives. It is also the only place that detects a failed transfer.
            end.poll(&mut self.done)?;
            self.completed += take_completions(&mut self.done)?;
            let arrived = match self.ping_pong.op {
                Op::Write => any_of(READS_PER_POLL, || Ok(read_byte(&*self.far, self.last_of_reply)? == marker))?,
                _ => any_of(READS_PER_POLL, || Ok(end.arrived()? - self.arrived_before >= self.sent))?,
            };
            if arrived {
                return Ok(());
            }
            watch.wait_on(end, self.ping_pong.op)?;
        }
    }
}

/// Sends the slot and waits for the reply, repeatedly, and records half of each round trip. Returns the number of recorded
/// round trips and the number of sent messages. One time stamp ends a round trip and starts the next one. Each latency is
/// recorded while the next message is in flight. The responder runs [`echo`] or an equivalent.
///
/// A write has arrived when its last byte appears in memory. Other operations have arrived when their receive completes. At the
/// end, the slots contain the same data as at the start.
///
/// # Errors
/// The same conditions as for [`latency`](super::latency()).
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
        last_of_reply: ping_pong.return_offset + last,
    };
    let original = read_byte(&*initiator.far, initiator.last_of_message)?;
    // A marker must differ from the previous marker and from the original byte. The first marker must also differ from the byte
    // in the responder's memory.
    let skipped = u64::from(ping_pong.last_byte == original.wrapping_add(1));
    let marker = |round: u64| original.wrapping_add(((round + skipped) % 251) as u8 + 1);
    initiator.far.write(initiator.last_of_reply, &[!marker(0)])?;
    // The loop control counts all round trips except the last one.
    let mut control = LoopControl::new(&clock, Limit { iterations: limit.iterations - 1, ..limit }, interrupt);
    let (mut continues, mut round) = (limit.iterations > 1, 0);
    let mut start = control.start;
    initiator.send(end, marker(0))?;
    loop {
        let next = marker(round + 1);
        initiator.wait_for_reply(end, marker(round))?;
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
        initiator.wait_for_reply(end, original)?;
    }
    // Collect all completions, so that later users of this queue pair do not find them.
    let mut watch = Watch::new(&clock, interrupt);
    while initiator.completed < initiator.sent {
        end.poll(&mut initiator.done)?;
        initiator.completed += take_completions(&mut initiator.done)?;
        watch.idle()?;
    }
    Ok((round, initiator.sent))
}

/// Sends every received message back until `stop` is set, and returns the number of messages. Before it returns, it replies to
/// all messages that have arrived. `arrived_before` is the number of messages that arrived before the initiator started. The
/// initiator may start before this function does.
///
/// # Errors
/// The connection fails, or reading memory fails.
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
    let (mut replied, mut completed) = (0, 0);
    let mut reply = ping_pong.reply(0);
    // The next message may take arbitrarily long, so `stop` ends only that wait. The replies have to complete in time.
    let unstoppable = Interrupt::default();
    let mut watch = Watch::new(clock, &unstoppable);
    loop {
        let arrived = match ping_pong.op {
            Op::Write => any_of(READS_PER_POLL, || {
                let now = read_byte(&*near, last)?;
                Ok(std::mem::replace(&mut last_byte, now) != now)
            })?,
            _ => any_of(READS_PER_POLL, || Ok(end.arrived()? - arrived_before > replied))?,
        };
        if arrived {
            submit_all(end, &[reply], &mut done, clock, &unstoppable)?;
            replied += 1;
            reply = ping_pong.reply(replied);
        }
        end.poll(&mut done)?;
        completed += take_completions(&mut done)?;
        if arrived || (completed == replied && !stop.is_set()) {
            watch.idle_since = 0;
        }
        if !arrived && completed == replied && stop.is_set() {
            return Ok(replied);
        }
        if !arrived {
            watch.wait_on(end, ping_pong.op)?;
        }
    }
}

/// Reads a byte through a view.
///
/// # Errors
/// Reading the memory fails.
pub fn read_byte(view: &dyn View, offset: u64) -> Result<u8, MeasureError> {
    let mut byte = [0];
    view.read(offset, &mut byte)?;
    Ok(byte[0])
}

/// Calls `found` up to `attempts` times, and returns whether a call returned true.
#[inline]
fn any_of(attempts: u32, mut found: impl FnMut() -> Result<bool, MeasureError>) -> Result<bool, MeasureError> {
    for _ in 0..attempts {
        if found()? {
            return Ok(true);
        }
    }
    Ok(false)
}
