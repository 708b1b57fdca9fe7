//! A cell that moves data: filled, moved and timed by one or more threads, verified.

use std::sync::Arc;
use std::time::{Duration, Instant};

use peerpath_exporter::{Buffer, Exporter as _, Handle, SourceKind, View};
use peerpath_importers::{DataPlane, DataPlaneSettings, Direction, Op, Side, Transport};
use peerpath_paths::{Cause, Explanation, PathName};
use quanta::Clock;

use super::Runner;
use super::cell::{Figures, Setup, note_staging, staging};
use super::ended::{Ended, Without};
use super::lane::{Lane, Posts, Seen, receives};
use super::staged::Staged;
use super::threads;
use crate::interrupt::Interrupt;
use crate::layout::Layout;
use crate::measure::{self, Flow, Limit, MeasureError, Recorder, Stream};
use crate::peer::error::PeerError;
use crate::peer::message::{Post, Posted};
use crate::plan::{CellSpec, Mechanism, Mode, Plan};
use crate::result::CellPath;
use crate::window::{Place, Remote, VerifyError, Window};
use crate::words::Words;

/// Untimed laps after a timed run, each with fresh data.
const VERIFIED_LAPS: u32 = 3;
/// How often to look whether the peer has posted all that it had to.
const LOOK: Duration = Duration::from_millis(1);
/// What has not arrived by then has been lost.
const LATEST_ARRIVAL: Duration = Duration::from_secs(2);

/// What bytes are moved between, and how.
#[derive(Clone, Copy)]
pub(super) struct Moving<'a> {
    pub(super) spec: &'a CellSpec,
    pub(super) clock: &'a Clock,
    /// The target's name.
    pub(super) device: &'a str,
    pub(super) direction: Direction,
    /// The exported memory.
    pub(super) near: Place<'a>,
}

impl<'a> Moving<'a> {
    /// The peer, where it posts the stream of that place.
    fn poster(&self, place: usize) -> Option<&'a dyn Remote> {
        match (self.near, POSTED_BY[place]) {
            (Place::There(remote, _), Side::Buffer) => Some(remote),
            _ => None,
        }
    }

    /// How many operations a stream has seen: a peer that sends comes round by itself, through every slot.
    fn in_all(&self, place: usize, layout: &Layout, operations: u64) -> u64 {
        let comes_round = self.spec.op == Op::Send && operations > 0 && self.poster(place).is_some();
        if comes_round { operations.max(layout.slots()) } else { operations }
    }
}

/// Data of a stream, before and after.
enum Check<'a> {
    Bytes(Window<'a>),
    Words(Words<'a>),
}

impl<'a> Check<'a> {
    fn fill(
        op: Op,
        layout: &'a Layout,
        direction: Direction,
        near: Place<'a>,
        far: &'a dyn View,
    ) -> Result<Self, VerifyError> {
        Ok(if op.is_atomic() {
            Self::Words(Words::fill(layout, near, far)?)
        } else {
            Self::Bytes(Window::fill(layout, direction, near, far)?)
        })
    }

    fn verify(&self, operations: u64) -> Result<u64, VerifyError> {
        match self {
            Self::Bytes(window) => window.verify(operations),
            Self::Words(words) => words.verify(operations),
        }
    }
}

/// Who posts the streams of a lane, in their order.
const POSTED_BY: [Side; 2] = [Side::Far, Side::Buffer];

/// How many streams a lane has.
pub(super) fn streams(spec: &CellSpec) -> usize {
    if spec.bidirectional { 2 } else { 1 }
}

/// Which way bytes go in a stream.
fn direction_of(place: usize, forward: Direction) -> Direction {
    match (POSTED_BY[place], forward) {
        (Side::Far, forward) => forward,
        (Side::Buffer, Direction::IntoSource) => Direction::OutOfSource,
        (Side::Buffer, Direction::OutOfSource) => Direction::IntoSource,
    }
}

impl Runner<'_> {
    /// Moves between the far side and the source, directly or by way of a staging buffer.
    pub(super) fn transfer(
        &mut self,
        setup: Setup<'_>,
        direction: Direction,
        path: &mut CellPath,
    ) -> Result<Figures, Ended> {
        let spec = setup.spec;
        if let Some(why) = impossible(spec) {
            return Err(Ended::waived(format!("there is no such {} ({})", spec.op, spec.mode.as_str()), why));
        }
        let pollers = 2 * spec.threads as usize;
        if spec.mode == Mode::PingPong && (1..pollers).contains(&self.plan.cpus.len()) {
            return Err(Ended::waived(
                format!("{pollers} sides of ping-pong would share {} processor(s)", self.plan.cpus.len()),
                Explanation::uncaused(
                    "each of them polls, and keeps the one that it waits for from running",
                    "name a processor for each side with --cpu, or none",
                ),
            ));
        }
        let buffer = setup.export()?;
        let layouts = layouts(spec, &buffer)?;
        let streams = streams(spec);
        let far_bytes = layouts[..streams].iter().map(|layout| layout.far_start() + layout.length_bytes()).max();
        let far_bytes = far_bytes.unwrap_or(0);
        let settings =
            DataPlaneSettings { depth: spec.depth, queues: spec.qps, both_sides: spec.bidirectional, far_bytes };
        let registered = if setup.is_staged() {
            let staging = staging(setup, far_bytes)?.export(far_bytes)?;
            note_staging(setup, far_bytes, path);
            staging
        } else {
            Arc::clone(&buffer)
        };
        let registration = self.register_watched(setup, &registered, path)?;
        let figures = Figures {
            mechanism: Some(registration.mechanism()),
            exported: Some(buffer.origin().clone()),
            ..Figures::default()
        };
        let lane = |layouts| -> Result<Lane<'_>, Ended> {
            if spec.mode == Mode::PingPong {
                return Lane::facing(&*registration, layouts, spec.op);
            }
            let plane = registration.data_plane(&settings)?;
            let plane: Box<dyn DataPlane + '_> = match registered.handle() {
                Handle::Memory(memory) if setup.is_staged() => {
                    let bar = Arc::clone(buffer.view());
                    Box::new(Staged::new(plane, memory.clone(), bar, direction, spec.depth)?)
                }
                _ => plane,
            };
            Ok(Lane::whole(plane, layouts))
        };
        let mut lanes = layouts.chunks(streams).map(lane).collect::<Result<Vec<_>, _>>()?;
        let shared_far = setup.device.info().own_address_space && lanes.iter().any(|lane| lane.far.is_writable());
        if lanes.len() > 1 && shared_far {
            return Err(Ended::waived(
                "threads would overwrite each other's blocks",
                Explanation::uncaused(
                    "all of them work from the same blocks of the drive",
                    "leave out --threads or --allow-write",
                ),
            ));
        }
        let moving = Moving {
            spec,
            clock: setup.clock,
            device: &setup.device.info().name,
            direction,
            near: Place::Here(&**buffer.view()),
        };
        let figures = self.moved(moving, &mut lanes, figures);
        drop(lanes);
        let figures = figures.map_err(|ended| refused_atomic(setup, &buffer, ended))?;
        registration.unregister()?;
        Ok(figures)
    }

    /// Fills, moves, times and verifies.
    pub(super) fn moved(&self, moving: Moving<'_>, lanes: &mut [Lane<'_>], figures: Figures) -> Result<Figures, Ended> {
        let moved = self.moved_and_verified(moving, lanes, figures);
        moved.map_err(|ended| ended.over(self.plan.connection.transport))
    }

    fn moved_and_verified(
        &self,
        moving: Moving<'_>,
        lanes: &mut [Lane<'_>],
        mut figures: Figures,
    ) -> Result<Figures, Ended> {
        let Moving { spec, clock, device, direction, near } = moving;
        if direction == Direction::OutOfSource && lanes.iter().any(|lane| !lane.far.is_writable()) {
            return Err(Ended::waived(
                format!("{device} may not be written"),
                Explanation::new(
                    Cause::NoPermission,
                    "its content is precious, and nobody said which part of it may be overwritten",
                    "name it with --allow-write LBA+COUNT; what stands there is lost",
                ),
            ));
        }
        let streams = streams(spec);
        // The lanes are borrowed for work while their data are checked, so what both need stands apart.
        let fars: Vec<Arc<dyn View>> = lanes.iter().map(|lane| Arc::clone(&lane.far)).collect();
        let fill = |lane: usize, place: usize, layout| {
            let near = near.window((lane * streams + place) as u32);
            Check::fill(spec.op, layout, direction_of(place, direction), near, &*fars[lane])
        };
        // Ping-pong warms up by itself: nobody answers yet.
        for place in (0..streams).filter(|_| spec.mode != Mode::PingPong) {
            let warmed_up = self.some(moving, lanes, place, self.warmup_limit())?;
            self.come_round(moving, lanes, place, &warmed_up)?;
        }
        // Filled after the warm-up, so that what the warm-up moved counts as stale.
        let mut checks = Vec::new();
        for (index, lane) in lanes.iter().enumerate() {
            for (place, layout) in lane.layouts.iter().enumerate() {
                checks.push(fill(index, place, layout)?);
            }
        }
        let seen = match spec.mode {
            Mode::PingPong => self.ping_pong(moving, lanes)?,
            Mode::Completion | Mode::Bandwidth => self.together(moving, lanes)?,
        };
        let operations = seen.iter().flat_map(|seen| &seen.operations);
        let everywhere = lanes.iter().flat_map(|lane| lane.layouts.iter().enumerate());
        let mut verified_bytes = 0;
        for ((check, operations), (place, layout)) in checks.iter().zip(operations).zip(everywhere) {
            verified_bytes += self.verify(check, moving.in_all(place, layout, *operations))?;
        }
        drop(checks);
        for place in 0..streams {
            let ended: Vec<u64> = seen.iter().filter_map(|seen| seen.operations.get(place).copied()).collect();
            self.come_round(moving, lanes, place, &ended)?;
        }
        // In the timed run every operation but the last one of a slot is overwritten unseen. So each slot is used once
        // more, several times over, with data of its own each time.
        for _ in 0..VERIFIED_LAPS {
            for place in 0..streams {
                let mut checks = Vec::new();
                for (index, lane) in lanes.iter().enumerate() {
                    checks.push(fill(index, place, &lane.layouts[place])?);
                }
                let slots = lanes[0].layouts[place].slots();
                let lap = Limit { iterations: slots, duration: Duration::MAX };
                let ended = self.some(moving, lanes, place, lap)?;
                for (check, ended) in checks.iter().zip(&ended) {
                    verified_bytes += self.verify(check, *ended)?;
                }
                self.come_round(moving, lanes, place, &ended)?;
            }
        }
        figures.verified_bytes = Some(verified_bytes);
        Ok(conclude(spec, &seen, clock, figures))
    }

    /// Verifies; without acknowledgements a transfer ends when it was sent, so what it carries may still be under way.
    fn verify(&self, check: &Check<'_>, operations: u64) -> Result<u64, Ended> {
        let (begun, transport) = (Instant::now(), self.plan.connection.transport);
        loop {
            match check.verify(operations) {
                Err(error) if error.is_mismatch() && transport != Transport::Rc && begun.elapsed() < LATEST_ARRIVAL => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                verified => return verified.map_err(|error| Ended::unverified(error, transport)),
            }
        }
    }

    /// Does some operations of a stream in every lane, untimed; returns how many there were in each.
    fn some(&self, moving: Moving<'_>, lanes: &mut [Lane<'_>], place: usize, limit: Limit) -> Result<Vec<u64>, Ended> {
        if let Some(remote) = moving.poster(place) {
            remote.post(self.post(moving, lanes, limit))?;
            let posted = self.posted(moving, remote, lanes)?.operations;
            let lanes = lanes.iter().zip(posted);
            return Ok(lanes.map(|(lane, count)| moving.in_all(place, &lane.layouts[place], count)).collect());
        }
        let mut unused = Recorder::new(moving.clock.clone());
        let some = lanes.iter_mut().map(|lane| {
            let stream = stream_of(moving.spec, place, &lane.layouts[place]);
            measure::latency(lane.plane(), stream, limit, &mut unused, self.interrupt)
        });
        Ok(some.collect::<Result<_, _>>()?)
    }

    /// See the function of that name; what a peer has posted is its own to see to.
    fn come_round(
        &self,
        moving: Moving<'_>,
        lanes: &mut [Lane<'_>],
        place: usize,
        ended: &[u64],
    ) -> Result<(), MeasureError> {
        let apart = lanes.iter_mut().filter(|lane| matches!(lane.posts, Posts::Apart { .. }));
        for (lane, ended) in apart.zip(ended).filter(|_| moving.poster(place).is_none()) {
            let stream = stream_of(moving.spec, place, &lane.layouts[place]);
            come_round(lane.plane(), stream, *ended, moving.clock, self.interrupt)?;
        }
        Ok(())
    }

    fn flow(&self, spec: &CellSpec) -> Flow {
        let Plan { post_list, completion_moderation: moderation, .. } = *self.plan;
        Flow { depth: spec.depth, queues: spec.qps, post_list, moderation }
    }

    /// What the peer is to post.
    fn post(&self, moving: Moving<'_>, lanes: &[Lane<'_>], limit: Limit) -> Post {
        let at = lanes.iter().filter_map(|lane| lane.layouts.get(1)).map(Layout::far_start).collect();
        Post::new(at, limit, self.flow(moving.spec))
    }

    /// Waits until the peer has posted all that it had to.
    fn posted(&self, moving: Moving<'_>, remote: &dyn Remote, lanes: &mut [Lane<'_>]) -> Result<Posted, Ended> {
        remote.ask_posted()?;
        let mut done = Vec::new();
        loop {
            if let Some(posted) = remote.posted()? {
                let is_of_each = posted.operations.len() == lanes.len();
                return if is_of_each { Ok(posted) } else { Err(PeerError::OutOfTurn.into()) };
            }
            if self.interrupt.is_set() {
                return Err(Ended::Interrupted);
            }
            if receives(moving.spec.op) {
                // What it sends needs receives until then.
                lanes.iter_mut().try_for_each(|lane| lane.plane().poll(&mut done))?;
                std::thread::yield_now();
            } else {
                std::thread::sleep(LOOK);
            }
        }
    }

    /// The timed part, a thread a lane; and where the peer posts as well, it does at the same time.
    fn together(&self, moving: Moving<'_>, lanes: &mut [Lane<'_>]) -> Result<Vec<Seen>, Ended> {
        let Moving { spec, clock, .. } = moving;
        let (flow, limit, interrupt) = (self.flow(spec), self.plan.limit(), self.interrupt);
        let remote = (0..streams(spec)).find_map(|place| moving.poster(place));
        if let Some(remote) = remote {
            remote.post(self.post(moving, lanes, limit))?;
        }
        let own = if remote.is_some() { 1 } else { streams(spec) };
        let cpus = threads::in_turn(&self.plan.cpus);
        let mut seen = threads::together(lanes.iter_mut().collect(), cpus, |lane: &mut Lane<'_>| {
            let mut recorder = Recorder::new(clock.clone());
            let layouts = lane.layouts[..own].iter().enumerate();
            let streams: Vec<Stream<'_>> = layouts.map(|(place, layout)| stream_of(spec, place, layout)).collect();
            if spec.mode == Mode::Completion {
                let operations = measure::latency(lane.plane(), streams[0], limit, &mut recorder, interrupt)?;
                return Ok(Seen { recorder, operations: vec![operations], flows: Vec::new(), peer_took: None });
            }
            let flows = measure::bandwidth(lane.plane(), &streams, flow, limit, clock, interrupt)?;
            let operations = flows.iter().map(|flow| flow.operations).collect();
            Ok(Seen { recorder, operations, flows, peer_took: None })
        })?;
        if let Some(remote) = remote {
            let Posted { operations, nanoseconds } = self.posted(moving, remote, lanes)?;
            for (seen, operations) in seen.iter_mut().zip(operations) {
                seen.operations.push(operations);
                seen.peer_took = Some(Duration::from_nanos(nanoseconds));
            }
        }
        Ok(seen)
    }
}

/// Where receives wait on slot after slot, whatever ended between two sends, this uses up those that are not at the first
/// one, on every queue.
pub(super) fn come_round(
    plane: &mut dyn DataPlane,
    stream: Stream<'_>,
    ended: u64,
    clock: &Clock,
    interrupt: &Interrupt,
) -> Result<(), MeasureError> {
    let turns = stream.layout.turns(stream.queues);
    let over = ended % turns;
    if stream.op == Op::Send && over > 0 {
        let rest = Limit { iterations: turns - over, duration: Duration::MAX };
        // From where the last one ended.
        let stream = Stream { first: ended, ..stream };
        measure::latency(plane, stream, rest, &mut Recorder::new(clock.clone()), interrupt)?;
    }
    Ok(())
}

/// What is done in a place of a lane.
fn stream_of<'a>(spec: &CellSpec, place: usize, layout: &'a Layout) -> Stream<'a> {
    Stream { layout, op: spec.op, posted_by: POSTED_BY[place], queues: spec.qps, first: 0 }
}

/// Puts together what the threads saw.
fn conclude(spec: &CellSpec, seen: &[Seen], clock: &Clock, figures: Figures) -> Figures {
    let size = spec.size_bytes as f64;
    let of_stream = |place: usize| {
        let of_lanes = seen.iter().filter_map(|seen| seen.operations.get(place));
        of_lanes.fold(0, |sum: u64, operations| sum.saturating_add(*operations))
    };
    let operations = (0..streams(spec)).map(of_stream).fold(0, u64::saturating_add);
    let mut figures = Figures { iterations: operations, ..figures };
    let Some((first, others)) = seen.split_first() else { return figures };
    if spec.mode != Mode::Bandwidth {
        figures.by_device = seen.iter().any(|seen| seen.recorder.is_by_device());
        figures.iterations = seen.iter().map(|seen| seen.recorder.count()).sum();
        figures.latency = match others {
            [] => first.recorder.latency(),
            _ => Recorder::all(seen.iter().map(|seen| &seen.recorder)).latency(),
        };
        return figures;
    }
    let flows = || seen.iter().flat_map(|seen| &seen.flows);
    // From the first thread's beginning to the last one's end: they need not all have run at the same time.
    let begun = flows().map(|flow| flow.begun).min().unwrap_or(0);
    let last = flows().map(|flow| flow.last).max().unwrap_or(0);
    // Of several threads no device tells when the first began and the last ended.
    let by_device = match (&first.flows[..], others) {
        ([flow], []) => flow.device_ns,
        _ => None,
    };
    figures.by_device = by_device.is_some();
    let took = by_device.map_or_else(|| clock.delta(begun, last), Duration::from_nanos);
    // Each side by its own clock.
    let took = [took, first.peer_took.unwrap_or(took)].map(|took| took.as_secs_f64());
    if took.iter().all(|seconds| *seconds > 0.0) {
        let rates = [0, 1].map(|place| of_stream(place) as f64 / took[place]);
        figures.operations_per_s = Some(rates[0] + rates[1]);
        figures.throughput = Some((rates[0] + rates[1]) * size);
        figures.each_way = spec.bidirectional.then(|| rates.map(|rate| rate * size));
    }
    if let ([flow], [], false) = (&first.flows[..], others, spec.bidirectional) {
        figures.throughput_min_window = flow.slowest_window_operations_per_s.map(|rate| rate * size);
    }
    figures
}

/// What makes no sense, and why.
pub(super) fn impossible(spec: &CellSpec) -> Option<Explanation> {
    let staged = spec.asked == Some(PathName::Staged);
    let both = spec.bidirectional || spec.mode == Mode::PingPong;
    if spec.mode == Mode::PingPong && !matches!(spec.op, Op::Write | Op::WriteImm | Op::Send) {
        return Some(Explanation::uncaused(
            format!("the other side would have to answer, and nothing tells it of a {}", spec.op),
            "use --mode completion for it, or ping-pong with write, write_imm or send",
        ));
    }
    if both && spec.op.is_atomic() {
        return Some(Explanation::uncaused(
            "atomic operations are measured on the exported memory alone",
            "leave out --bidirectional",
        ));
    }
    if staged && (both || spec.threads > 1 || spec.qps > 1) {
        return Some(Explanation::uncaused(
            "a staged copy is made by one thread, on one queue and in one direction",
            "leave out --threads, --qps, --bidirectional and --mode pingpong, or --path staged",
        ));
    }
    if spec.mechanism == Mechanism::MrPerRange && (spec.bidirectional || spec.threads > 1) {
        return Some(Explanation::uncaused(
            "ranges that are registered one by one are not divided among threads or directions",
            "leave out --threads and --bidirectional, or --mechanism mr-per-range",
        ));
    }
    None
}

/// Where a cell's operations lie in the buffer: anywhere, or each within one of its registrations; for every thread, and
/// within it for every stream.
pub(super) fn layouts(spec: &CellSpec, buffer: &Buffer) -> Result<Vec<Layout>, Ended> {
    let ranges = &buffer.origin().ranges;
    let wanted = spec.depth.saturating_mul(spec.qps);
    let streams = streams(spec) as u32;
    let count = spec.threads * streams;
    let (layouts, into) = match buffer.handle() {
        Handle::DmaBufs(_) => {
            let lengths = ranges.iter().map(|range| range.length_bytes);
            (Layout::within_parts(spec.size_bytes, wanted, lengths).map(|layout| vec![layout]), "any of its ranges")
        }
        _ if count > 1 => {
            let room = buffer.length_bytes();
            (
                Layout::side_by_side(spec.size_bytes, wanted, room, count, streams),
                "the part of each thread and direction",
            )
        }
        _ => (Layout::new(spec.size_bytes, wanted, buffer.length_bytes()).map(|layout| vec![layout]), "the buffer"),
    };
    let misfit = |what: String| {
        Ended::waived(
            what,
            Explanation::uncaused("an operation lies within one registration", "choose a smaller --size"),
        )
    };
    let layouts =
        layouts.ok_or_else(|| misfit(format!("an operation of {} bytes does not fit into {into}", spec.size_bytes)))?;
    // Which of two operations on the same word comes first is certain on one queue pair only.
    if spec.op.is_atomic() && spec.qps > 1 && layouts.iter().any(|layout| layout.slots() < u64::from(wanted)) {
        return Err(misfit(format!("{wanted} words do not fit into {into}")));
    }
    Ok(layouts)
}

/// An atomic operation that a BAR refuses looks like one on memory that was taken back; but that registers again.
fn refused_atomic(setup: Setup<'_>, buffer: &Arc<Buffer>, ended: Ended) -> Ended {
    let Ended::Without(Without { reason, explanation, .. }) = &ended else { return ended };
    let refused = explanation.cause == Some(Cause::Revoked)
        && setup.spec.op.is_atomic()
        && buffer.origin().kind == SourceKind::Vfio
        && setup.register(Arc::clone(buffer)).and_then(|again| again.unregister()).is_ok();
    if refused { atomics_refused(reason.clone()) } else { ended }
}

/// How a cell ends whose atomic operations the memory refuses.
pub(super) fn atomics_refused(reason: String) -> Ended {
    Ended::waived(
        reason,
        Explanation::new(
            Cause::AtomicsRefused,
            "the device does no atomic operations on the memory of another device, which it allows to be written and read",
            "use a device that does (PCIe AtomicOps all along the way), or ordinary memory",
        ),
    )
}
