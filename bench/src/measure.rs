//! The loops that are timed. Nothing in them allocates, locks or asks the kernel for anything but the work itself.

use std::time::Duration;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use peerpath_importers::{Completion, DataPlane, Op, Transfer, TransferError};
use quanta::Clock;

use crate::interrupt::Interrupt;
use crate::result::Latency;
use crate::window::Layout;

/// A transfer that takes longer than this has been lost.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// How many polls pass between two looks at the clock and at the interrupt flag.
const POLLS_PER_LOOK: u32 = 4096;
/// The measured time is cut into windows of this length for the windowed minimum.
const WINDOW: Duration = Duration::from_millis(100);

/// When to stop measuring: after so many operations or so much time, whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Most operations.
    pub iterations: u64,
    /// Most time.
    pub duration: Duration,
}

/// A measurement that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The importer refused.
    #[error(transparent)]
    Importer(#[from] peerpath_importers::Error),
    /// The exporter refused.
    #[error(transparent)]
    Exporter(#[from] peerpath_exporter::Error),
    /// The device ended a transfer with an error.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// No completion came.
    #[error("no transfer ended within {} s", LOST_AFTER.as_secs())]
    Lost,
    /// A signal came.
    #[error("the run was interrupted")]
    Interrupted,
}

/// Latencies, recorded without allocation.
pub struct Recorder {
    clock: Clock,
    histogram: Histogram<u64>,
}

impl Recorder {
    /// Three significant digits from 1 ns to 10 minutes.
    pub fn new(clock: Clock) -> Self {
        let histogram = Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("constant bounds are valid");
        Self { clock, histogram }
    }

    /// A raw time stamp.
    #[inline]
    pub fn now(&self) -> u64 {
        self.clock.raw()
    }

    /// Records the time between two raw time stamps.
    #[inline]
    pub fn record(&mut self, start: u64, end: u64) {
        self.histogram.saturating_record(self.clock.delta_as_nanos(start, end));
    }

    /// Records a time that somebody else measured.
    pub fn record_ns(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds);
    }

    /// How many latencies were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The distribution, where anything was recorded.
    pub fn latency(&self) -> Option<Latency> {
        if self.histogram.is_empty() {
            return None;
        }
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&self.histogram, &mut bytes).ok()?;
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        Some(Latency {
            min: self.histogram.min(),
            p10: at(0.10),
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            p999: at(0.999),
            max: self.histogram.max(),
            mean: self.histogram.mean(),
            stdev: self.histogram.stdev(),
            histogram: base64::engine::general_purpose::STANDARD.encode(bytes),
        })
    }
}

/// What a bandwidth loop saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Operations that ended.
    pub operations: u64,
    /// From the first submission to the last completion.
    pub elapsed: Duration,
    /// Fewest operations that ended in any whole window, a second; none where the time had no whole window.
    pub slowest_window_operations_per_s: Option<f64>,
}

/// Watches for lost transfers and interrupts, at the cost of one counter a poll.
struct Watch<'a> {
    clock: &'a Clock,
    interrupt: &'a Interrupt,
    polls: u32,
    quiet_since: u64,
}

impl<'a> Watch<'a> {
    fn new(clock: &'a Clock, interrupt: &'a Interrupt) -> Self {
        Self { clock, interrupt, polls: 0, quiet_since: 0 }
    }

    fn progress(&mut self) {
        self.polls = 0;
        self.quiet_since = 0;
    }

    #[inline]
    fn idle(&mut self) -> Result<(), MeasureError> {
        self.polls += 1;
        if self.polls < POLLS_PER_LOOK { Ok(()) } else { self.look() }
    }

    #[cold]
    fn look(&mut self) -> Result<(), MeasureError> {
        self.polls = 0;
        let now = self.clock.raw();
        if self.quiet_since == 0 {
            self.quiet_since = now;
        }
        if self.interrupt.is_set() {
            return Err(MeasureError::Interrupted);
        }
        if self.clock.delta(self.quiet_since, now) > LOST_AFTER {
            return Err(MeasureError::Lost);
        }
        Ok(())
    }
}

/// Runs one transfer at a time and records how long each took; returns how many ran, warm-up included.
///
/// # Errors
/// A transfer failed or was lost, or the run was interrupted.
pub fn latency(
    plane: &mut dyn DataPlane,
    layout: &Layout,
    op: Op,
    limit: Limit,
    recorder: &mut Recorder,
    interrupt: &Interrupt,
) -> Result<u64, MeasureError> {
    let clock = recorder.clock.clone();
    let mut done: Vec<Completion> = Vec::with_capacity(1);
    let begun = clock.raw();
    let mut turn = 0;
    while turn < limit.iterations {
        let transfer = layout.transfer(op, turn);
        let start = clock.raw();
        submit_all(plane, &[transfer], &clock, interrupt)?;
        let mut watch = Watch::new(&clock, interrupt);
        loop {
            plane.poll(&mut done)?;
            if !done.is_empty() {
                break;
            }
            watch.idle()?;
        }
        let end = clock.raw();
        recorder.record(start, end);
        settle(&mut done)?;
        turn += 1;
        if interrupt.is_set() {
            return Err(MeasureError::Interrupted);
        }
        if clock.delta(begun, end) >= limit.duration {
            break;
        }
    }
    Ok(turn)
}

/// Keeps `depth` transfers under way.
///
/// # Errors
/// As [`latency`].
pub fn bandwidth(
    plane: &mut dyn DataPlane,
    layout: &Layout,
    op: Op,
    depth: u32,
    limit: Limit,
    clock: &Clock,
    interrupt: &Interrupt,
) -> Result<Throughput, MeasureError> {
    let mut batch: Vec<Transfer> = Vec::with_capacity(depth as usize);
    let mut done: Vec<Completion> = Vec::with_capacity(depth as usize);
    let (mut submitted, mut ended) = (0_u64, 0_u64);
    let mut wanted = limit.iterations;
    let mut watch = Watch::new(clock, interrupt);
    let mut windows = Windows::new(clock.raw());
    let begun = clock.raw();
    let mut last = begun;
    while ended < wanted {
        let room = u64::from(depth) - (submitted - ended);
        batch.clear();
        batch.extend((submitted..wanted.min(submitted + room)).map(|turn| layout.transfer(op, turn)));
        if !batch.is_empty() {
            submitted += plane.submit(&batch)? as u64;
        }
        plane.poll(&mut done)?;
        if done.is_empty() {
            watch.idle()?;
            continue;
        }
        ended += done.len() as u64;
        settle(&mut done)?;
        watch.progress();
        last = clock.raw();
        windows.note(clock, last, ended);
        if clock.delta(begun, last) >= limit.duration {
            // What is under way still counts; nothing new is begun.
            wanted = submitted;
        }
        if interrupt.is_set() {
            return Err(MeasureError::Interrupted);
        }
    }
    Ok(Throughput {
        operations: ended,
        elapsed: clock.delta(begun, last),
        slowest_window_operations_per_s: windows.slowest,
    })
}

/// Hands one batch over completely, waiting where the device takes only part of it.
fn submit_all(
    plane: &mut dyn DataPlane,
    mut batch: &[Transfer],
    clock: &Clock,
    interrupt: &Interrupt,
) -> Result<(), MeasureError> {
    let taken = plane.submit(batch)?;
    batch = &batch[taken..];
    if batch.is_empty() {
        return Ok(());
    }
    let mut watch = Watch::new(clock, interrupt);
    while !batch.is_empty() {
        let taken = plane.submit(batch)?;
        batch = &batch[taken..];
        watch.idle()?;
    }
    Ok(())
}

/// Empties the list of completions; the first failed one is the error.
fn settle(done: &mut Vec<Completion>) -> Result<(), MeasureError> {
    // `drain` keeps the capacity, so that the loop never allocates.
    done.drain(..).try_for_each(|completion| completion.result).map_err(MeasureError::from)
}

/// Counts operations in windows of [`WINDOW`].
struct Windows {
    start: u64,
    ended_before: u64,
    slowest: Option<f64>,
}

impl Windows {
    fn new(start: u64) -> Self {
        Self { start, ended_before: 0, slowest: None }
    }

    fn note(&mut self, clock: &Clock, now: u64, ended: u64) {
        let elapsed = clock.delta(self.start, now);
        if elapsed < WINDOW {
            return;
        }
        let rate = (ended - self.ended_before) as f64 / elapsed.as_secs_f64();
        self.slowest = Some(self.slowest.map_or(rate, |slowest| slowest.min(rate)));
        self.start = now;
        self.ended_before = ended;
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use peerpath_exporter::View;
    use peerpath_paths::Explanation;

    /// A plane that ends every transfer after some polls, or never, or badly.
    struct Plane {
        under_way: VecDeque<u64>,
        accepts: usize,
        fails_at: Option<u64>,
    }

    impl DataPlane for Plane {
        fn far(&self) -> std::sync::Arc<dyn View> {
            unreachable!("the loops look at no data")
        }
        fn submit(&mut self, batch: &[Transfer]) -> Result<usize, peerpath_importers::Error> {
            let taken = batch.len().min(self.accepts);
            self.under_way.extend(batch[..taken].iter().map(|transfer| transfer.id));
            Ok(taken)
        }
        fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), peerpath_importers::Error> {
            if let Some(id) = self.under_way.pop_front() {
                let result = if self.fails_at == Some(id) {
                    Err(TransferError {
                        status: "REM_ACCESS_ERR",
                        explanation: Box::new(Explanation::uncaused("it was told to", "tell it otherwise")),
                    })
                } else {
                    Ok(())
                };
                done.push(Completion { id, result });
            }
            Ok(())
        }
    }

    fn plane() -> Plane {
        Plane { under_way: VecDeque::new(), accepts: 3, fails_at: None }
    }

    fn limit(iterations: u64) -> Limit {
        Limit { iterations, duration: Duration::from_secs(60) }
    }

    #[test]
    fn every_operation_is_counted_once() {
        let layout = Layout::new(64, 4, 1 << 20).unwrap();
        let mut recorder = Recorder::new(Clock::new());
        let ran = latency(&mut plane(), &layout, Op::Write, limit(100), &mut recorder, &Interrupt::default()).unwrap();
        assert_eq!((ran, recorder.count()), (100, 100));
        let seen = bandwidth(&mut plane(), &layout, Op::Write, 8, limit(100), &Clock::new(), &Interrupt::default());
        assert_eq!(seen.unwrap().operations, 100);
    }

    #[test]
    fn a_failed_transfer_ends_the_loop_with_its_status() {
        let layout = Layout::new(64, 4, 1 << 20).unwrap();
        let mut failing = Plane { fails_at: Some(7), ..plane() };
        let seen = bandwidth(&mut failing, &layout, Op::Write, 8, limit(100), &Clock::new(), &Interrupt::default());
        assert!(matches!(seen, Err(MeasureError::Transfer(error)) if error.status == "REM_ACCESS_ERR"));
    }

    #[test]
    fn a_histogram_survives_its_way_through_base64() {
        let mut recorder = Recorder::new(Clock::new());
        for _ in 0..1000 {
            let start = recorder.now();
            let end = recorder.now();
            recorder.record(start, end);
        }
        let latency = recorder.latency().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(&latency.histogram).unwrap();
        let read: Histogram<u64> =
            hdrhistogram::serialization::Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert_eq!(read.len(), 1000);
        assert_eq!(read.max(), latency.max);
    }
}
