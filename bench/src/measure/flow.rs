//! Measures bandwidth: keeps as many operations in flight as the depth allows.

use peerpath_importers::{Completion, DataPlane, Transfer};
use quanta::Clock;

use super::windows::Windows;
use super::{Limit, MeasureError, Stream, Throughput, Watch};
use crate::gcd::greatest_common_divisor;
use crate::interrupt::Interrupt;

/// Parameters for posting transfers in bandwidth mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Maximum number of transfers in flight on each queue.
    pub depth: u32,
    /// Number of queues, used in turn.
    pub queues: u32,
    /// Number of transfers per submission. `None`: as many as the send queue has room for.
    pub post_list: Option<u32>,
    /// Signaling interval: one of this many transfers on a queue is signaled.
    pub moderation: u32,
}

impl Flow {
    /// Parameters for one queue of this depth, on which every transfer is signaled.
    pub fn simple(depth: u32) -> Self {
        Self { depth, queues: 1, post_list: None, moderation: 1 }
    }

    /// Number of consecutive transfers on a queue before the next queue is used.
    fn burst(self) -> u64 {
        self.post_list.unwrap_or(1).max(1).into()
    }

    /// Number of transfers after which the last transfer on each queue is signaled.
    fn round(self) -> u64 {
        let (queues, moderation, burst) = (u64::from(self.queues), u64::from(self.moderation), self.burst());
        // A round consists of whole bursts on each queue, and of whole groups of `moderation` transfers with one signaled
        // transfer each.
        queues * burst * (moderation / greatest_common_divisor(moderation, burst))
    }
}

/// A stream and its progress. A stream is the operations that one side posts.
struct ActiveStream<'a> {
    stream: Stream<'a>,
    flow: Flow,
    submitted: u64,
    completed: u64,
    wanted: u64,
}

impl ActiveStream<'_> {
    /// Replaces the content of the batch with as many transfers as there is room for.
    #[inline]
    fn fill(&self, place: usize, batch: &mut Vec<Transfer>) {
        batch.clear();
        let mut room = u64::from(self.flow.depth) * u64::from(self.flow.queues) - (self.submitted - self.completed);
        let left = self.wanted - self.submitted;
        if let Some(list) = self.flow.post_list
            && room < left
        {
            room = room / u64::from(list) * u64::from(list);
        }
        batch.extend((self.submitted..self.submitted + room.min(left)).map(|number| self.transfer(place, number)));
    }

    #[inline]
    fn transfer(&self, place: usize, number: u64) -> Transfer {
        let transfer = self.stream.transfer(number);
        let id = number << 1 | place as u64;
        let Flow { queues, moderation, .. } = self.flow;
        if queues == 1 && moderation == 1 {
            return Transfer { id, ..transfer };
        }
        let (burst, queues) = (self.flow.burst(), u64::from(queues));
        let queue = (number / burst % queues) as u32;
        let on_queue = number / (burst * queues) * burst + number % burst;
        let is_among_last = number + burst * queues >= self.wanted;
        let unsignaled = !(on_queue + 1).is_multiple_of(u64::from(moderation)) && !is_among_last;
        Transfer { id, queue, unsignaled, ..transfer }
    }
}

/// Keeps transfers of each stream in flight, and returns the throughput of each stream. At most two streams are possible.
///
/// # Errors
/// The same conditions as for [`latency`](super::latency()).
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
    let activate = |&stream| ActiveStream { stream, flow, submitted: 0, completed: 0, wanted: limit.iterations };
    let mut active: Vec<ActiveStream<'_>> = streams.iter().map(activate).collect();
    let mut watch = Watch::new(clock, interrupt);
    // Reading the device time resets it. This discards the time of earlier transfers.
    let _ = plane.device_time_ns();
    let start = clock.raw();
    let mut windows: Vec<Windows> = vec![Windows::default(); streams.len()];
    let mut end = start;
    while active.iter().any(|stream| stream.completed < stream.wanted) {
        for (place, stream) in active.iter_mut().enumerate() {
            stream.fill(place, &mut batch);
            if !batch.is_empty() {
                stream.submitted += plane.submit(&batch)? as u64;
            }
        }
        plane.poll(&mut done)?;
        if done.is_empty() {
            watch.idle()?;
            if plane.wait()? {
                watch.check()?;
            }
            continue;
        }
        watch.progress();
        end = clock.raw();
        for completion in done.drain(..) {
            completion.result?;
            active[(completion.id & 1) as usize].completed += 1;
        }
        let elapsed = clock.delta(start, end);
        for (windows, stream) in windows.iter_mut().zip(&active) {
            windows.note(elapsed, stream.completed);
        }
        if elapsed >= limit.duration {
            // Transfers in flight still count. Further transfers are submitted only up to the next signaled one of each queue.
            for stream in &mut active {
                stream.wanted = stream.wanted.min(stream.submitted.next_multiple_of(flow.round()));
            }
        }
        if interrupt.is_set() {
            return Err(MeasureError::Interrupted);
        }
    }
    let device_ns = plane.device_time_ns();
    let throughputs = active.iter().zip(&windows).map(|(stream, windows)| Throughput {
        device_ns,
        operations: stream.completed,
        start,
        end,
        slowest_window_operations_per_s: windows.slowest(clock.delta(start, end), stream.completed),
    });
    Ok(throughputs.collect())
}
