//! The loops that are timed. Nothing in them allocates, locks or asks the kernel for anything but the work itself, and for
//! the time of others where an answer takes long.

use std::time::Duration;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use peerpath_exporter::View;
use peerpath_importers::{Completion, DataPlane, JoinedEnd, Op, Side, Transfer, TransferError};
use quanta::Clock;

use crate::interrupt::Interrupt;
use crate::layout::Layout;
use crate::result::Latency;

/// A transfer that takes longer than this has been lost.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// How many polls pass between two looks at the clock and at the interrupt flag.
const POLLS_PER_LOOK: u32 = 4096;
/// How many operations pass between two looks at the time and at the interrupt flag, unless they take long.
const OPERATIONS_PER_LOOK: u64 = 64;
/// Ticks of an operation that takes long: about a millisecond, at whatever rate the counter runs.
const LONG_TICKS: u64 = 1 << 21;
/// How many looks at memory pass between two polls, where an arrival is waited for.
const LOOKS_PER_POLL: u32 = 32;
/// How many times [`LOOKS_PER_POLL`] pass before somebody else may have the processor: a side that waits so long may keep the
/// one that it waits for from running.
const LOOKS_PER_YIELD: u32 = 64;
/// Transfers that either side of ping-pong may have under way: one, and some whose completions were not fetched yet.
pub const PING_PONG_DEPTH: u32 = 8;
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
    /// Memory could not be looked at.
    #[error("memory could not be looked at")]
    View(#[from] std::io::Error),
    /// A thread could not be bound to its processor.
    #[error("a thread could not be bound to processor {cpu}")]
    Bind {
        /// Which one.
        cpu: u32,
        /// The answer.
        #[source]
        source: std::io::Error,
    },
    /// There was no thread to be had.
    #[error("a thread could not be started")]
    Thread {
        /// The answer.
        #[source]
        source: std::io::Error,
    },
    /// A thread ended by a bug.
    #[error("a thread ended by itself")]
    Panicked,
    /// No completion came.
    #[error("no transfer ended within {} s", LOST_AFTER.as_secs())]
    Lost,
    /// A signal came.
    #[error("the run was interrupted")]
    Interrupted,
}

/// Latencies, recorded without allocation: as ticks of the clock's counter, which are made nanoseconds in the end.
pub struct Recorder {
    clock: Clock,
    ticks: Histogram<u64>,
    /// What was measured by another clock.
    nanoseconds: Histogram<u64>,
}

/// Longest latency that is told apart: 10 minutes, or as long a time on a counter of 8 GHz.
const LONGEST: u64 = 4_800_000_000_000;

impl Recorder {
    /// Three significant digits, up to [`LONGEST`].
    pub fn new(clock: Clock) -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3).expect("constant bounds are valid");
        Self { clock, ticks: histogram(), nanoseconds: histogram() }
    }

    /// A raw time stamp.
    #[inline]
    pub fn now(&self) -> u64 {
        self.clock.raw()
    }

    /// Records the time between two raw time stamps.
    #[inline]
    pub fn record(&mut self, start: u64, end: u64) {
        self.ticks.saturating_record(end.saturating_sub(start));
    }

    /// Records half of the time between two raw time stamps.
    #[inline]
    pub fn record_half(&mut self, start: u64, end: u64) {
        self.ticks.saturating_record(end.saturating_sub(start) / 2);
    }

    /// What all of these have recorded together.
    pub fn all<'a>(recorders: impl Iterator<Item = &'a Self>) -> Self {
        let mut all = Self::new(Clock::new());
        for recorder in recorders {
            all.clock = recorder.clock.clone();
            // They all have the same bounds.
            let _ = all.ticks.add(&recorder.ticks);
            let _ = all.nanoseconds.add(&recorder.nanoseconds);
        }
        all
    }

    /// Records a time that somebody else measured.
    pub fn record_ns(&mut self, nanoseconds: u64) {
        self.nanoseconds.saturating_record(nanoseconds);
    }

    /// Whether somebody else measured.
    pub fn is_by_device(&self) -> bool {
        !self.nanoseconds.is_empty()
    }

    /// How many latencies were recorded.
    pub fn count(&self) -> u64 {
        self.ticks.len() + self.nanoseconds.len()
    }

    /// The distribution in nanoseconds.
    fn histogram(&self) -> Histogram<u64> {
        let mut all = self.nanoseconds.clone();
        for bucket in self.ticks.iter_recorded() {
            // The middle of what a bucket stands for, as percentiles of the other one are.
            let value = self.ticks.median_equivalent(bucket.value_iterated_to());
            all.saturating_record_n(self.clock.delta_as_nanos(0, value), bucket.count_at_value());
        }
        all
    }

    /// The distribution, where anything was recorded.
    pub fn latency(&self) -> Option<Latency> {
        let histogram = self.histogram();
        if histogram.is_empty() {
            return None;
        }
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&histogram, &mut bytes).ok()?;
        let at = |quantile| histogram.value_at_quantile(quantile);
        Some(Latency {
            min: histogram.min(),
            p10: at(0.10),
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
            mean: histogram.mean(),
            stdev: histogram.stdev(),
            histogram: base64::engine::general_purpose::STANDARD.encode(bytes),
        })
    }
}

/// What a bandwidth loop saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Operations that ended.
    pub operations: u64,
    /// Raw time stamps: before the first submission, after the last completion.
    pub begun: u64,
    /// See `begun`.
    pub last: u64,
    /// Fewest operations that ended in any whole window, a second; none where the time had no whole window.
    pub slowest_window_operations_per_s: Option<f64>,
    /// How long it took by the device's own clock, where it has one.
    pub device_ns: Option<u64>,
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

    /// Nothing came in [`LOOKS_PER_POLL`] looks: sleeps where the end was opened to sleep and something is to tell of it, and
    /// gives way to others now and then.
    #[inline]
    fn wait_on(&mut self, end: &mut dyn JoinedEnd, op: Op) -> Result<(), MeasureError> {
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

/// Whether a loop goes on: counts operations, and looks at time and interrupt now and then.
pub struct Going<'a> {
    clock: Clock,
    interrupt: &'a Interrupt,
    begun: u64,
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

/// What is done again and again, and who posts it.
#[derive(Clone, Copy)]
pub struct Stream<'a> {
    /// Where.
    pub layout: &'a Layout,
    /// What.
    pub op: Op,
    /// By whom.
    pub posted_by: Side,
    /// On how many queues in turn.
    pub queues: u32,
    /// From the how-manieth on.
    pub first: u64,
}

impl Stream<'_> {
    #[inline]
    fn transfer(&self, turn: u64) -> Transfer {
        let turn = self.first + turn;
        let queue = if self.queues > 1 { (turn % u64::from(self.queues)) as u32 } else { 0 };
        Transfer { posted_by: self.posted_by, queue, ..self.layout.transfer(self.op, turn) }
    }
}

/// Runs one transfer at a time and records how long each took, from its posting to its completion, or what the device says that
/// it took; returns how many ran.
///
/// # Errors
/// A transfer failed or was lost, or the run was interrupted.
pub fn latency(
    plane: &mut dyn DataPlane,
    stream: Stream<'_>,
    limit: Limit,
    recorder: &mut Recorder,
    interrupt: &Interrupt,
) -> Result<u64, MeasureError> {
    let clock = recorder.clock.clone();
    let mut done: Vec<Completion> = Vec::with_capacity(1);
    let mut going = Going::new(&clock, limit, interrupt);
    if limit.iterations == 0 {
        return Ok(0);
    }
    for turn in 0.. {
        let transfer = stream.transfer(turn);
        let start = clock.raw();
        one(plane, transfer, &mut done, &clock, interrupt)?;
        let end = clock.raw();
        settle(&mut done)?;
        match plane.device_time_ns() {
            Some(nanoseconds) => recorder.record_ns(nanoseconds),
            None => recorder.record(start, end),
        }
        if !going.on(start, end)? {
            break;
        }
    }
    Ok(going.count())
}

/// Hands one transfer over and waits for its completion.
#[inline]
fn one(
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
            watch.look()?;
        }
    }
}

/// A slot that goes there and back again.
#[derive(Clone, Copy)]
pub struct Volley<'a> {
    /// Where it is on both sides.
    pub layout: &'a Layout,
    /// How it is sent, there and back.
    pub op: Op,
    /// Where on the far side it comes back to.
    pub back: u64,
    /// What its last byte is on the side that answers, in the beginning.
    pub last_byte: u8,
    /// How often it went there before.
    pub played: u64,
}

impl Volley<'_> {
    /// What goes there for the `round`-th time. Sends land where the next receive waits, all else in the first slot.
    #[inline]
    fn there(&self, round: u64) -> Transfer {
        self.layout.transfer(self.op, if self.op == Op::Send { self.played + round } else { 0 })
    }

    /// The same on its way back, as the side sees it that answers.
    #[inline]
    fn back(&self, round: u64) -> Transfer {
        let there = self.there(round);
        Transfer { buffer_offset: self.back, far_offset: there.buffer_offset, ..there }
    }
}

/// Sends the slot there, waits for it to come back, one after the other, and records half of each round trip; returns how
/// many there were, and how often the slot went there in all. The time of one round trip ends where the next one's begins, with
/// one time stamp for both. The other side has to run [`echo`], or something like it.
///
/// A write has arrived when its last byte is seen in memory, everything else when its receive tells. What the slots hold in
/// the end is what they held in the beginning.
///
/// # Errors
/// As [`latency`].
pub fn ping_pong(
    end: &mut dyn JoinedEnd,
    volley: Volley<'_>,
    limit: Limit,
    recorder: &mut Recorder,
    interrupt: &Interrupt,
) -> Result<(u64, u64), MeasureError> {
    let clock = recorder.clock.clone();
    let far = end.far();
    let mut done: Vec<Completion> = Vec::with_capacity(2 * PING_PONG_DEPTH as usize);
    let first = volley.there(0);
    let last = u64::from(first.length_bytes) - 1;
    let (out, back) = (first.far_offset + last, volley.back + last);
    let original = look_at(&*far, out)?;
    // A marker differs from the one before and from what is there in the beginning and in the end; the first also from what
    // either side holds.
    let skipped = u64::from(volley.last_byte == original.wrapping_add(1));
    let marker = |turn: u64| original.wrapping_add(((turn + skipped) % 251) as u8 + 1);
    let (mut begun, mut ended) = (0, 0);
    let before = end.arrived()?;
    far.write(back, &[!marker(0)])?;
    let mut round = |end: &mut dyn JoinedEnd, marker: u8| -> Result<(), MeasureError> {
        let there = volley.there(begun);
        let mut watch = Watch::new(&clock, interrupt);
        if volley.op == Op::Write {
            far.write(out, &[marker])?;
        }
        submit_all(end, &[there], &mut done, &clock, interrupt)?;
        begun += 1;
        loop {
            // Room for the next answer, and what ended; only here a failure would show.
            end.poll(&mut done)?;
            ended += settle(&mut done)?;
            let come = match volley.op {
                Op::Write => any_of(LOOKS_PER_POLL, || Ok(look_at(&*far, back)? == marker))?,
                _ => any_of(LOOKS_PER_POLL, || Ok(end.arrived()? - before >= begun))?,
            };
            if come {
                return Ok(());
            }
            watch.wait_on(end, volley.op)?;
        }
    };
    let mut going = Going::new(&clock, limit, interrupt);
    let mut start = going.begun;
    for turn in 0..limit.iterations {
        round(end, marker(turn))?;
        let stop = clock.raw();
        recorder.record_half(start, stop);
        let is_more = going.on(start, stop)?;
        start = stop;
        if !is_more {
            break;
        }
    }
    if volley.op == Op::Write && limit.iterations > 0 {
        round(end, original)?;
    }
    // Whoever uses this end next waits for completions of its own.
    let mut watch = Watch::new(&clock, interrupt);
    while ended < begun {
        end.poll(&mut done)?;
        ended += settle(&mut done)?;
        watch.idle()?;
    }
    Ok((if limit.iterations == 0 { 0 } else { going.count() }, begun))
}

/// Sends back what comes, until `ending` says that nothing more does; what is under way then has been answered. Returns how
/// often something came. `before` is how many sends had arrived before the other side began: it may begin before this does.
///
/// # Errors
/// The connection has ended, or memory cannot be looked at.
pub fn echo(
    end: &mut dyn JoinedEnd,
    volley: Volley<'_>,
    before: u64,
    clock: &Clock,
    ending: &Interrupt,
) -> Result<u64, MeasureError> {
    let near = end.far();
    let mut done: Vec<Completion> = Vec::with_capacity(2 * PING_PONG_DEPTH as usize);
    let first = volley.there(0);
    let last = first.buffer_offset + u64::from(first.length_bytes) - 1;
    let mut last_byte = volley.last_byte;
    let (mut come, mut ended) = (0, 0);
    // Nobody says how long the next one takes; only what was sent back has to end.
    let unstoppable = Interrupt::default();
    let mut watch = Watch::new(clock, &unstoppable);
    loop {
        let arrived = match volley.op {
            Op::Write => any_of(LOOKS_PER_POLL, || {
                let now = look_at(&*near, last)?;
                Ok(std::mem::replace(&mut last_byte, now) != now)
            })?,
            _ => any_of(LOOKS_PER_POLL, || Ok(end.arrived()? - before > come))?,
        };
        if arrived {
            submit_all(end, &[volley.back(come)], &mut done, clock, &unstoppable)?;
            come += 1;
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
            watch.wait_on(end, volley.op)?;
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

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
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
        let quiet = !(on_queue + 1).is_multiple_of(u64::from(moderation)) && !is_among_last;
        Transfer { id, queue, quiet, ..transfer }
    }
}

/// Keeps transfers of each stream under way; returns what was seen of each. There are two streams at most.
///
/// # Errors
/// As [`latency`].
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
    let begun = clock.raw();
    let mut windows: Vec<Windows> = streams.iter().map(|_| Windows::new(begun)).collect();
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
        for (windows, flowing) in windows.iter_mut().zip(&flowing) {
            windows.note(clock, last, flowing.ended);
        }
        if clock.delta(begun, last) >= limit.duration {
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
        slowest_window_operations_per_s: windows.slowest,
    });
    Ok(seen.collect())
}

/// Hands one batch over completely, waiting where the device takes only part of it; what ends meanwhile is appended.
fn submit_all(
    plane: &mut dyn DataPlane,
    mut batch: &[Transfer],
    done: &mut Vec<Completion>,
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
        plane.poll(done)?;
        let taken = plane.submit(batch)?;
        batch = &batch[taken..];
        watch.idle()?;
    }
    Ok(())
}

/// Empties the list of completions and counts them; the first failed one is the error.
fn settle(done: &mut Vec<Completion>) -> Result<u64, MeasureError> {
    let count = done.len() as u64;
    // `drain` keeps the capacity, so that the loop never allocates.
    done.drain(..).try_for_each(|completion| completion.result)?;
    Ok(count)
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

    fn write_to(layout: &Layout) -> Stream<'_> {
        Stream { layout, op: Op::Write, posted_by: Side::Far, queues: 1, first: 0 }
    }

    fn limit(iterations: u64) -> Limit {
        Limit { iterations, duration: Duration::from_secs(60) }
    }

    #[test]
    fn every_operation_is_counted_once() {
        let layout = Layout::new(64, 4, 1 << 20).unwrap();
        let mut recorder = Recorder::new(Clock::new());
        let stream = write_to(&layout);
        let ran = latency(&mut plane(), stream, limit(100), &mut recorder, &Interrupt::default()).unwrap();
        assert_eq!((ran, recorder.count()), (100, 100));
        let flow = Flow::simple(8);
        let seen = bandwidth(&mut plane(), &[stream], flow, limit(100), &Clock::new(), &Interrupt::default());
        assert_eq!(seen.unwrap()[0].operations, 100);
    }

    #[test]
    fn a_failed_transfer_ends_the_loop_with_its_status() {
        let layout = Layout::new(64, 4, 1 << 20).unwrap();
        let mut failing = Plane { fails_at: Some(7 << 1), ..plane() };
        let (flow, streams) = (Flow::simple(8), [write_to(&layout)]);
        let seen = bandwidth(&mut failing, &streams, flow, limit(100), &Clock::new(), &Interrupt::default());
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
