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
use super::staged::Staged;
use super::threads;
use crate::interrupt::Interrupt;
use crate::layout::Layout;
use crate::measure::{self, Flow, Limit, MeasureError, PING_PONG_DEPTH, Recorder, Stream, Throughput, Views};
use crate::plan::{CellSpec, Mechanism, Mode};
use crate::result::CellPath;
use crate::window::{Place, VerifyError, Window};
use crate::words::Words;

/// Untimed laps after a timed run, each with fresh data.
const VERIFIED_LAPS: u32 = 3;
/// What has not arrived by then has been lost.
const LATEST_ARRIVAL: Duration = Duration::from_secs(2);

/// What one thread works with: a data plane of its own, and for each stream a part of the source.
pub(super) struct Lane<'a> {
    pub(super) plane: Box<dyn DataPlane + 'a>,
    pub(super) far: Arc<dyn View>,
    pub(super) layouts: &'a [Layout],
}

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

/// What a thread saw.
struct Seen {
    recorder: Recorder,
    /// Operations of each stream.
    operations: Vec<u64>,
    flows: Vec<Throughput>,
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
        Ok(match near {
            Place::Here(near) if op.is_atomic() => Self::Words(Words::fill(layout, near, far)?),
            near => Self::Bytes(Window::fill(layout, direction, near, far)?),
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
            return Err(Ended::waived(format!("there is no such {}", spec.op), why));
        }
        let buffer = setup.export()?;
        let layouts = layouts(spec, &buffer)?;
        let streams = if spec.bidirectional { 2 } else { 1 };
        let far_bytes = layouts[..streams].iter().map(|layout| layout.far_start() + layout.length_bytes()).max();
        let far_bytes = far_bytes.unwrap_or(0);
        let settings = DataPlaneSettings {
            depth: if spec.mode == Mode::PingPong { PING_PONG_DEPTH } else { spec.depth },
            queues: spec.qps,
            both_sides: spec.bidirectional || spec.mode == Mode::PingPong,
            far_bytes,
        };
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
            let plane = registration.data_plane(&settings)?;
            let plane: Box<dyn DataPlane + '_> = match registered.handle() {
                Handle::Memory(memory) if setup.is_staged() => {
                    let bar = Arc::clone(buffer.view());
                    Box::new(Staged::new(plane, memory.clone(), bar, direction, spec.depth)?)
                }
                _ => plane,
            };
            Ok(Lane { far: plane.far(), plane, layouts })
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
    pub(super) fn moved(
        &self,
        moving: Moving<'_>,
        lanes: &mut [Lane<'_>],
        mut figures: Figures,
    ) -> Result<Figures, Ended> {
        let Moving { spec, clock, device, direction, near } = moving;
        let interrupt = self.interrupt;
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
        // The lanes are borrowed for work while their data are checked, so what both need stands apart.
        let fars: Vec<Arc<dyn View>> = lanes.iter().map(|lane| Arc::clone(&lane.far)).collect();
        let fill = |lane: usize, place: usize, layout| {
            Check::fill(spec.op, layout, direction_of(place, direction), near, &*fars[lane])
        };
        let mut unused = Recorder::new(clock.clone());
        for lane in lanes.iter_mut() {
            for (layout, posted_by) in lane.layouts.iter().zip(POSTED_BY) {
                let stream = Stream { layout, op: spec.op, posted_by };
                let warmed_up =
                    measure::latency(&mut *lane.plane, stream, self.warmup_limit(), &mut unused, interrupt)?;
                self.come_round(moving, &mut *lane.plane, stream, warmed_up)?;
            }
        }
        // Filled after the warm-up, so that what the warm-up moved counts as stale.
        let mut checks = Vec::new();
        for (index, lane) in lanes.iter().enumerate() {
            for (place, layout) in lane.layouts.iter().enumerate() {
                checks.push(fill(index, place, layout)?);
            }
        }
        let seen = self.together(moving, lanes)?;
        let operations = seen.iter().flat_map(|seen| &seen.operations);
        let mut verified_bytes = 0;
        for (check, operations) in checks.iter().zip(operations) {
            verified_bytes += self.verify(check, *operations)?;
        }
        drop(checks);
        for (lane, seen) in lanes.iter_mut().zip(&seen) {
            let streams = lane.layouts.iter().zip(POSTED_BY).zip(&seen.operations);
            for ((layout, posted_by), operations) in streams {
                let stream = Stream { layout, op: spec.op, posted_by };
                self.come_round(moving, &mut *lane.plane, stream, *operations)?;
            }
        }
        // In the timed run every operation but the last one of a slot is overwritten unseen. So each slot is used once
        // more, several times over, with data of its own each time.
        for _ in 0..VERIFIED_LAPS {
            for (index, lane) in lanes.iter_mut().enumerate() {
                for (place, layout) in lane.layouts.iter().enumerate() {
                    let lap = Limit { iterations: layout.slots(), duration: Duration::MAX };
                    let stream = Stream { layout, op: spec.op, posted_by: POSTED_BY[place] };
                    let check = fill(index, place, layout)?;
                    measure::latency(&mut *lane.plane, stream, lap, &mut unused, interrupt)?;
                    verified_bytes += self.verify(&check, layout.slots())?;
                }
            }
        }
        figures.verified_bytes = Some(verified_bytes);
        Ok(conclude(spec, &seen, clock, figures))
    }

    /// Verifies; without acknowledgements a transfer ends when it was sent, so what it carries may still be under way.
    fn verify(&self, check: &Check<'_>, operations: u64) -> Result<u64, VerifyError> {
        let begun = Instant::now();
        loop {
            match check.verify(operations) {
                Err(VerifyError::Mismatch(_))
                    if self.plan.connection.transport != Transport::Rc && begun.elapsed() < LATEST_ARRIVAL =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                verified => return verified,
            }
        }
    }

    /// A peer's receives wait on slot after slot, whatever ended between two sends. So that the next send finds the first
    /// one, this uses the others up.
    fn come_round(
        &self,
        moving: Moving<'_>,
        plane: &mut dyn DataPlane,
        stream: Stream<'_>,
        ended: u64,
    ) -> Result<(), MeasureError> {
        let slots = stream.layout.slots();
        let over = ended % slots;
        if stream.op == Op::Send && matches!(moving.near, Place::There(_)) && over > 0 {
            let rest = Limit { iterations: slots - over, duration: Duration::MAX };
            measure::latency(plane, stream, rest, &mut Recorder::new(moving.clock.clone()), self.interrupt)?;
        }
        Ok(())
    }

    /// The timed part, a thread a lane.
    fn together(&self, moving: Moving<'_>, lanes: &mut [Lane<'_>]) -> Result<Vec<Seen>, MeasureError> {
        let Moving { spec, clock, near, .. } = moving;
        let plan = self.plan;
        let flow = Flow {
            depth: spec.depth,
            queues: spec.qps,
            post_list: plan.post_list,
            moderation: plan.completion_moderation,
        };
        let work = Work { spec, near, flow, limit: plan.limit(), clock, interrupt: self.interrupt };
        threads::together(lanes.iter_mut().collect(), &plan.cpus, |lane| work.timed(lane))
    }
}

/// What the threads of a cell have in common.
struct Work<'a> {
    spec: &'a CellSpec,
    near: Place<'a>,
    flow: Flow,
    limit: Limit,
    clock: &'a Clock,
    interrupt: &'a Interrupt,
}

impl Work<'_> {
    fn timed(&self, lane: &mut Lane<'_>) -> Result<Seen, MeasureError> {
        let Self { spec, near, flow, limit, clock, interrupt } = *self;
        let mut recorder = Recorder::new(clock.clone());
        let streams: Vec<Stream<'_>> = lane
            .layouts
            .iter()
            .zip(POSTED_BY)
            .map(|(layout, posted_by)| Stream { layout, op: spec.op, posted_by })
            .collect();
        let plane = &mut *lane.plane;
        match spec.mode {
            Mode::Completion => {
                let operations = measure::latency(plane, streams[0], limit, &mut recorder, interrupt)?;
                Ok(Seen { recorder, operations: vec![operations], flows: Vec::new() })
            }
            Mode::PingPong => {
                let Place::Here(near) = near else {
                    return Err(MeasureError::View(std::io::ErrorKind::Unsupported.into()));
                };
                let views = Views { near, far: &*lane.far };
                let (layout, op) = (streams[0].layout, spec.op);
                let rounds = measure::ping_pong(plane, layout, op, views, limit, &mut recorder, interrupt)?;
                // All of them used the first slot.
                Ok(Seen { recorder, operations: vec![rounds.min(1)], flows: Vec::new() })
            }
            Mode::Bandwidth => {
                let flows = measure::bandwidth(plane, &streams, flow, limit, clock, interrupt)?;
                let operations = flows.iter().map(|flow| flow.operations).collect();
                Ok(Seen { recorder, operations, flows })
            }
        }
    }
}

/// Puts together what the threads saw.
fn conclude(spec: &CellSpec, seen: &[Seen], clock: &Clock, figures: Figures) -> Figures {
    let size = spec.size_bytes as f64;
    let operations: u64 = seen.iter().flat_map(|seen| &seen.operations).sum();
    let mut figures = Figures { iterations: operations, ..figures };
    let Some((first, others)) = seen.split_first() else { return figures };
    if spec.mode != Mode::Bandwidth {
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
    let seconds = clock.delta(begun, last).as_secs_f64();
    if seconds > 0.0 {
        figures.operations_per_s = Some(operations as f64 / seconds);
        figures.throughput = Some(operations as f64 * size / seconds);
    }
    if spec.bidirectional && seconds > 0.0 {
        let way = |place: usize| seen.iter().filter_map(|seen| seen.operations.get(place)).sum::<u64>() as f64;
        figures.each_way = Some([way(0) * size / seconds, way(1) * size / seconds]);
    }
    if let ([flow], []) = (&first.flows[..], others) {
        figures.throughput_min_window = flow.slowest_window_operations_per_s.map(|rate| rate * size);
    }
    figures
}

/// What makes no sense, and why.
fn impossible(spec: &CellSpec) -> Option<Explanation> {
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
    let streams = if spec.bidirectional { 2 } else { 1 };
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
    if !refused {
        return ended;
    }
    Ended::waived(
        reason.clone(),
        Explanation::new(
            Cause::AtomicsRefused,
            "the device does no atomic operations on the memory of another device, which it allows to be written and read",
            "use a device that does (PCIe AtomicOps all along the way), or ordinary memory",
        ),
    )
}
