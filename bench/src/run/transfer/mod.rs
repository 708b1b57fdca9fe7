//! Cells that transfer data, on one host or between two. Fills the memory of both sides, transfers and times with one or more
//! threads, and verifies.

mod check;
mod figures;
mod lane;
mod limits;
mod ping_pong;
mod streams;

use std::sync::Arc;
use std::time::{Duration, Instant};

use peerpath_exporter::View;
use peerpath_importers::{Direction, Op, Transport};
use peerpath_paths::{Cause, Explanation};
use quanta::Clock;

use super::cell_error::CellError;
use super::threads;
use crate::interrupt::Interrupt;
use crate::layout::Layout;
use crate::measure::{self, Flow, Limit, MeasureError, Recorder, Stream, WarmUp};
use crate::peer::error::PeerError;
use crate::peer::message::{Post, Posted};
use crate::peer::remote_memory::RemoteMemory;
use crate::plan::{CellSpec, Mode, Plan};
use crate::window::Access;
use check::Check;
pub(super) use figures::Figures;
pub(super) use lane::{Lane, LaneEnds, return_offset, uses_receives};
pub(super) use limits::{atomics_refused, layouts};
pub(super) use ping_pong::last_byte_of;
use streams::{direction_of, is_posted_by_near, stream_of};
pub(super) use streams::{refill_receives, streams};

/// Number of untimed laps after a timed run, each with new data. A lap uses every slot once.
const VERIFIED_LAPS: u32 = 3;
/// Interval between checks whether the peer has completed its transfers.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Maximum time between the completion of an unreliable transfer and the arrival of its data.
const LONGEST_DELIVERY: Duration = Duration::from_secs(2);

/// Parameters of the transfers of a cell.
#[derive(Clone, Copy)]
pub(super) struct Transfers<'a> {
    pub(super) plan: &'a Plan,
    /// CPUs for the threads, in turn. Empty: threads are not bound.
    pub(super) cpus: &'a [u32],
    /// Limit of the measurement.
    pub(super) limit: Limit,
    pub(super) interrupt: &'a Interrupt,
    pub(super) clock: &'a Clock,
    pub(super) spec: &'a CellSpec,
    /// Name of the target device.
    pub(super) device: &'a str,
    pub(super) direction: Direction,
    /// The exported memory.
    pub(super) near: Access<'a>,
}

/// Measurements of one thread on its lane.
struct LaneResult {
    recorder: Recorder,
    /// Number of operations of each stream.
    operations: Vec<u64>,
    /// Throughput of each stream that this host posts in bandwidth mode.
    throughputs: Vec<measure::Throughput>,
    /// Duration of the peer's stream, measured by the peer's clock. `None` if the peer posts no stream.
    peer_duration: Option<Duration>,
    /// The warm-up of a ping-pong, which the timed function includes.
    warm_up: Option<WarmUp>,
}

impl<'a> Transfers<'a> {
    /// Fills the memory, transfers, times and verifies.
    pub(super) fn run(self, lanes: &mut [Lane<'_>], figures: Figures) -> Result<Figures, CellError> {
        self.run_and_verify(lanes, figures).map_err(|error| error.on_transport(self.plan.connection.transport))
    }

    fn run_and_verify(self, lanes: &mut [Lane<'_>], mut figures: Figures) -> Result<Figures, CellError> {
        let Self { spec, device, direction, near, .. } = self;
        if direction == Direction::OutOfSource && lanes.iter().any(|lane| !lane.far.is_writable()) {
            return Err(CellError::waived(
                format!("cannot write to {device}"),
                Explanation::new(
                    Cause::NoPermission,
                    "Writes would destroy the content of the drive, and no blocks are named as writable.",
                    "Allow writes to blocks whose content is not needed: use `iommufd:BDF?write=LBA+COUNT`.",
                ),
            ));
        }
        let streams = streams(spec);
        // Copy the references to the memory: the checks need them while transfers borrow the lanes mutably.
        let fars: Vec<Arc<dyn View>> = lanes.iter().map(|lane| Arc::clone(&lane.far)).collect();
        let fill = |lane: usize, stream: usize, layout| {
            let near = near.window((lane * streams + stream) as u32);
            Check::fill(spec.op, layout, direction_of(stream, direction), near, &*fars[lane])
        };
        // In ping-pong, `ping_pong::run` does the warm-up, because the responder does not run yet.
        for stream in (0..streams).filter(|_| spec.mode != Mode::PingPong) {
            let (warm_up, operations) = self.warm_up(lanes, stream)?;
            figures.warm_up = figures.warm_up.map_or(Some(warm_up), |earlier| Some(earlier.and(warm_up)));
            self.refill_receives(lanes, stream, &operations)?;
        }
        // Fill the memory after the warm-up, so that data of the warm-up counts as stale.
        let mut checks = Vec::new();
        for (index, lane) in lanes.iter().enumerate() {
            for (stream, layout) in lane.layouts.iter().enumerate() {
                checks.push(fill(index, stream, layout)?);
            }
        }
        let results = match spec.mode {
            Mode::PingPong => ping_pong::run(self, lanes)?,
            Mode::Completion | Mode::Bandwidth | Mode::Load => self.run_timed(lanes)?,
        };
        let operations = results.iter().flat_map(|result| &result.operations);
        let layouts = lanes.iter().flat_map(|lane| lane.layouts.iter().enumerate());
        let mut verified_bytes = 0;
        for ((check, operations), (stream, layout)) in checks.iter().zip(operations).zip(layouts) {
            verified_bytes += self.verify(check, self.effective_operations(stream, layout, *operations))?;
        }
        drop(checks);
        for stream in 0..streams {
            let operations: Vec<u64> =
                results.iter().filter_map(|result| result.operations.get(stream).copied()).collect();
            self.refill_receives(lanes, stream, &operations)?;
        }
        // In the timed run, an operation overwrites the data of the previous operation in its slot. So several untimed laps use
        // each slot again, with new data that is verified.
        for _ in 0..VERIFIED_LAPS {
            for stream in 0..streams {
                let mut checks = Vec::new();
                for (index, lane) in lanes.iter().enumerate() {
                    checks.push(fill(index, stream, &lane.layouts[stream])?);
                }
                let slots = lanes[0].layouts[stream].slots();
                let lap = Limit { iterations: slots, duration: Duration::MAX };
                let operations = self.run_untimed(lanes, stream, lap)?;
                for (check, operations) in checks.iter().zip(&operations) {
                    verified_bytes += self.verify(check, *operations)?;
                }
                self.refill_receives(lanes, stream, &operations)?;
            }
        }
        figures.verified_bytes = Some(verified_bytes);
        Ok(figures::conclude(spec, &results, self.clock, figures))
    }

    /// The peer, if the peer posts this stream; `None` if this host posts it.
    fn poster(self, stream: usize) -> Option<&'a dyn RemoteMemory> {
        match self.near {
            Access::Remote(remote, _) if is_posted_by_near(stream) => Some(remote),
            _ => None,
        }
    }

    /// The number of operations of a stream that the verification assumes. A peer that posts sends uses all slots before it
    /// stops.
    fn effective_operations(self, stream: usize, layout: &Layout, operations: u64) -> u64 {
        let uses_all_slots = self.spec.op == Op::Send && operations > 0 && self.poster(stream).is_some();
        if uses_all_slots { operations.max(layout.slots()) } else { operations }
    }

    /// Verifies the data. On an unreliable transport, a transfer completes when it is sent and its data may arrive later, so
    /// retries until a timeout.
    fn verify(self, check: &Check<'_>, operations: u64) -> Result<u64, CellError> {
        let (start, transport) = (Instant::now(), self.plan.connection.transport);
        loop {
            match check.verify(operations) {
                Err(error)
                    if error.is_mismatch() && transport != Transport::Rc && start.elapsed() < LONGEST_DELIVERY =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                verified => return verified.map_err(|error| CellError::unverified(error, transport)),
            }
        }
    }

    /// Warms up one stream on every lane, one lane after the other, with one operation at a time. Returns the operations per
    /// lane.
    fn warm_up(self, lanes: &mut [Lane<'_>], stream: usize) -> Result<(WarmUp, Vec<u64>), CellError> {
        let Self { plan, limit, clock, interrupt, spec, .. } = self;
        if self.poster(stream).is_some() {
            // The peer reports only when it has ended, so its times per block are unknown.
            let operations = self.run_untimed(lanes, stream, Limit { iterations: plan.warmup, ..limit })?;
            let most = operations.iter().copied().max().unwrap_or(0);
            return Ok((WarmUp { operations: most, steady: None }, operations));
        }
        let warm_ups = lanes.iter_mut().map(|lane| {
            let mut stream = stream_of(spec, stream, &lane.layouts[stream]);
            measure::warm_up(plan.warmup, limit, clock, |limit, recorder| {
                let operations = measure::latency(lane.data_plane(), stream, limit, recorder, interrupt)?;
                stream.first += operations;
                Ok(operations)
            })
        });
        let warm_ups = warm_ups.collect::<Result<Vec<_>, _>>()?;
        let operations = warm_ups.iter().map(|warm_up| warm_up.operations).collect();
        let none = WarmUp { operations: 0, steady: None };
        Ok((warm_ups.into_iter().reduce(WarmUp::and).unwrap_or(none), operations))
    }

    /// Runs the operations of one stream (one direction of the cell) on every lane, untimed. Returns the operations per lane.
    fn run_untimed(self, lanes: &mut [Lane<'_>], stream: usize, limit: Limit) -> Result<Vec<u64>, CellError> {
        if let Some(remote) = self.poster(stream) {
            remote.post(self.post(lanes, limit))?;
            let posted = self.wait_for_peer(remote, lanes)?.operations;
            let operations = lanes.iter().zip(posted);
            return Ok(operations
                .map(|(lane, count)| self.effective_operations(stream, &lane.layouts[stream], count))
                .collect());
        }
        let mut discarded = Recorder::new(self.clock.clone());
        let operations = lanes.iter_mut().map(|lane| {
            let stream = stream_of(self.spec, stream, &lane.layouts[stream]);
            measure::latency(lane.data_plane(), stream, limit, &mut discarded, self.interrupt)
        });
        Ok(operations.collect::<Result<_, _>>()?)
    }

    /// Calls [`refill_receives`] for streams that this host posts. A peer calls it for the streams that it posts.
    fn refill_receives(self, lanes: &mut [Lane<'_>], stream: usize, operations: &[u64]) -> Result<(), MeasureError> {
        let connected = lanes.iter_mut().filter(|lane| matches!(lane.ends, LaneEnds::Connected { .. }));
        for (lane, operations) in connected.zip(operations).filter(|_| self.poster(stream).is_none()) {
            let stream = stream_of(self.spec, stream, &lane.layouts[stream]);
            refill_receives(lane.data_plane(), stream, *operations, self.clock, self.interrupt)?;
        }
        Ok(())
    }

    fn flow(self) -> Flow {
        let Plan { post_list, completion_moderation: moderation, .. } = *self.plan;
        Flow { depth: self.spec.depth, queues: self.spec.qps, post_list, moderation }
    }

    /// Creates the request that makes the peer post.
    fn post(self, lanes: &[Lane<'_>], limit: Limit) -> Post {
        let at = lanes.iter().filter_map(|lane| lane.layouts.get(1)).map(Layout::far_start).collect();
        Post::new(at, limit, self.flow())
    }

    /// Waits until the peer's transfers are complete.
    fn wait_for_peer(self, remote: &dyn RemoteMemory, lanes: &mut [Lane<'_>]) -> Result<Posted, CellError> {
        remote.request_posted()?;
        let mut completions = Vec::new();
        loop {
            if let Some(posted) = remote.try_posted()? {
                let is_per_lane = posted.operations.len() == lanes.len();
                return if is_per_lane { Ok(posted) } else { Err(PeerError::Unexpected.into()) };
            }
            if self.interrupt.is_set() {
                return Err(CellError::Interrupted);
            }
            if uses_receives(self.spec.op) {
                // Polling posts the receives that the peer's sends need.
                lanes.iter_mut().try_for_each(|lane| lane.data_plane().poll(&mut completions))?;
                std::thread::yield_now();
            } else {
                std::thread::sleep(POLL_INTERVAL);
            }
        }
    }

    /// Runs the timed transfers with one thread per lane. If the peer posts as well, it does so at the same time.
    fn run_timed(self, lanes: &mut [Lane<'_>]) -> Result<Vec<LaneResult>, CellError> {
        let Self { spec, clock, interrupt, .. } = self;
        let (flow, limit) = (self.flow(), self.limit);
        let remote = (0..streams(spec)).find_map(|stream| self.poster(stream));
        if let Some(remote) = remote {
            remote.post(self.post(lanes, limit))?;
        }
        let own_streams = if remote.is_some() { 1 } else { streams(spec) };
        let cpus = threads::round_robin(self.cpus);
        let mut results = threads::run_together(lanes.iter_mut().collect(), cpus, |lane: &mut Lane<'_>| {
            let mut recorder = Recorder::new(clock.clone());
            let layouts = lane.layouts[..own_streams].iter().enumerate();
            let streams: Vec<Stream<'_>> = layouts.map(|(stream, layout)| stream_of(spec, stream, layout)).collect();
            if spec.mode == Mode::Completion {
                let operations =
                    vec![measure::latency(lane.data_plane(), streams[0], limit, &mut recorder, interrupt)?];
                return Ok(LaneResult {
                    recorder,
                    operations,
                    throughputs: Vec::new(),
                    peer_duration: None,
                    warm_up: None,
                });
            }
            if let Some(rate_per_s) = spec.rate_per_s {
                let rate_per_s = rate_per_s as f64 / f64::from(spec.threads);
                let plane = lane.data_plane();
                let throughput = measure::load(plane, streams[0], flow, rate_per_s, limit, &mut recorder, interrupt)?;
                let (operations, throughputs) = (vec![throughput.operations], vec![throughput]);
                return Ok(LaneResult { recorder, operations, throughputs, peer_duration: None, warm_up: None });
            }
            let throughputs = measure::bandwidth(lane.data_plane(), &streams, flow, limit, clock, interrupt)?;
            let operations = throughputs.iter().map(|throughput| throughput.operations).collect();
            Ok(LaneResult { recorder, operations, throughputs, peer_duration: None, warm_up: None })
        })?;
        if let Some(remote) = remote {
            let Posted { operations, nanoseconds } = self.wait_for_peer(remote, lanes)?;
            for (result, operations) in results.iter_mut().zip(operations) {
                result.operations.push(operations);
                result.peer_duration = Some(Duration::from_nanos(nanoseconds));
            }
        }
        Ok(results)
    }
}
