//! As many operations as there is room for.

use peerpath_importers::{Completion, DataPlane, Transfer};
use quanta::Clock;

use super::windows::Windows;
use super::{Limit, MeasureError, Stream, Throughput, Watch};
use crate::interrupt::Interrupt;

/// How transfers are kept under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// On each queue.
    pub depth: u32,
    /// Queues, used in turn.
    pub queues: u32,
    /// Handed over at once; none as many as there is room for.
    pub post_list: Option<u32>,
    /// Of so many on a queue, one tells that it ended.
    pub moderation: u32,
}

impl Flow {
    /// One queue, as many at once as there is room for, and each tells.
    pub fn simple(depth: u32) -> Self {
        Self { depth, queues: 1, post_list: None, moderation: 1 }
    }

    /// Transfers in a row on a queue.
    fn burst(self) -> u64 {
        self.post_list.unwrap_or(1).max(1).into()
    }

    /// After how many transfers all queues have told of theirs.
    fn round(self) -> u64 {
        let (queues, moderation, burst) = (u64::from(self.queues), u64::from(self.moderation), self.burst());
        // On each queue whole bursts and whole groups of which one tells.
        queues * burst * (moderation / greatest_common_divisor(moderation, burst))
    }
}

/// Euclid's.
pub(crate) fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// A stream on its way.
struct Flowing<'a> {
    stream: Stream<'a>,
    flow: Flow,
    submitted: u64,
    ended: u64,
    wanted: u64,
}

impl Flowing<'_> {
    /// Puts into the batch what there is room for.
    #[inline]
    fn fill(&self, place: usize, batch: &mut Vec<Transfer>) {
        batch.clear();
        let mut room = u64::from(self.flow.depth) * u64::from(self.flow.queues) - (self.submitted - self.ended);
        let left = self.wanted - self.submitted;
        if let Some(list) = self.flow.post_list
            && room < left
        {
            room = room / u64::from(list) * u64::from(list);
        }
        batch.extend((self.submitted..self.submitted + room.min(left)).map(|turn| self.transfer(place, turn)));
    }

    #[inline]
    fn transfer(&self, place: usize, turn: u64) -> Transfer {
        let transfer = self.stream.transfer(turn);
        let id = turn << 1 | place as u64;
        let Flow { queues, moderation, .. } = self.flow;
        if queues == 1 && moderation == 1 {
            return Transfer { id, ..transfer };
        }
        let (burst, queues) = (self.flow.burst(), u64::from(queues));
        let queue = (turn / burst % queues) as u32;
        let on_queue = turn / (burst * queues) * burst + turn % burst;
        let is_among_last = turn + burst * queues >= self.wanted;
        let unsignaled = !(on_queue + 1).is_multiple_of(u64::from(moderation)) && !is_among_last;
        Transfer { id, queue, unsignaled, ..transfer }
    }
}

/// Keeps transfers of each stream under way; returns what was seen of each. There are two streams at most.
///
/// # Errors
/// As [`latency`](super::latency()).
pub fn bandwidth(
    plane: &mut dyn DataPlane,
    streams: &[Stream<'_>],
    flow: Flow,
    limit: Limit,
    clock: &Clock,
    interrupt: &Interrupt,
) -> Result<Vec<Throughput>, MeasureError> {
    let capacity = flow.depth as usize * flow.queues as usize;
    let mut batch: Vec<Transfer> = Vec::with_capacity(capacity);
    let mut done: Vec<Completion> = Vec::with_capacity(capacity * streams.len());
    let flowing = |&stream| Flowing { stream, flow, submitted: 0, ended: 0, wanted: limit.iterations };
    let mut flowing: Vec<Flowing<'_>> = streams.iter().map(flowing).collect();
    let mut watch = Watch::new(clock, interrupt);
    // What it took for anything before this is not asked.
    let _ = plane.device_time_ns();
    let begun = clock.raw();
    let mut windows: Vec<Windows> = vec![Windows::default(); streams.len()];
    let mut last = begun;
    while flowing.iter().any(|flowing| flowing.ended < flowing.wanted) {
        for (place, flowing) in flowing.iter_mut().enumerate() {
            flowing.fill(place, &mut batch);
            if !batch.is_empty() {
                flowing.submitted += plane.submit(&batch)? as u64;
            }
        }
        plane.poll(&mut done)?;
        if done.is_empty() {
            watch.idle()?;
            if plane.wait()? {
                watch.look()?;
            }
            continue;
        }
        watch.progress();
        last = clock.raw();
        for completion in done.drain(..) {
            completion.result?;
            flowing[(completion.id & 1) as usize].ended += 1;
        }
        let elapsed = clock.delta(begun, last);
        for (windows, flowing) in windows.iter_mut().zip(&flowing) {
            windows.note(elapsed, flowing.ended);
        }
        if elapsed >= limit.duration {
            // What is under way still counts, up to where each queue tells of it; nothing else is begun.
            for flowing in &mut flowing {
                flowing.wanted = flowing.wanted.min(flowing.submitted.next_multiple_of(flow.round()));
            }
        }
        if interrupt.is_set() {
            return Err(MeasureError::Interrupted);
        }
    }
    let device_ns = plane.device_time_ns();
    let seen = flowing.iter().zip(&windows).map(|(flowing, windows)| Throughput {
        device_ns,
        operations: flowing.ended,
        begun,
        last,
        slowest_window_operations_per_s: windows.slowest(clock.delta(begun, last), flowing.ended),
    });
    Ok(seen.collect())
}
