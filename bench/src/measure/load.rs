//! Latency at an offered load: an open loop, which posts operations at scheduled times.
//!
//! A closed loop posts an operation when an earlier one has completed, so a stall of the device delays the posts that would
//! have shown it (coordinated omission: Tene, "How NOT to Measure Latency", 2013). Here the latency of an operation starts at its
//! scheduled time, whether or not it could be posted by then.

use peerpath_importers::{Completion, DataPlane, Transfer};
use quanta::Clock;

use super::{Flow, Limit, MeasureError, Recorder, Stream, Throughput, Watch};
use crate::interrupt::Interrupt;

/// The scheduled times of operations, in ticks of the clock's counter.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    start: u64,
    ticks_per_operation: f64,
}

impl Schedule {
    fn new(clock: &Clock, operations_per_s: f64) -> Self {
        // The counter has a constant frequency. About a second of ticks gives more digits than the counter's calibration has.
        const TICKS: u64 = 1 << 32;
        let ns_per_tick = clock.delta_as_nanos(0, TICKS) as f64 / TICKS as f64;
        Self { start: clock.raw(), ticks_per_operation: 1e9 / operations_per_s / ns_per_tick }
    }

    #[inline]
    fn time_of(&self, number: u64) -> u64 {
        self.start + (number as f64 * self.ticks_per_operation) as u64
    }

    /// Number of operations that are scheduled up to `now`.
    #[inline]
    fn due(&self, now: u64) -> u64 {
        (now.saturating_sub(self.start) as f64 / self.ticks_per_operation) as u64 + 1
    }
}

/// Posts operations at `operations_per_s`, at most as many at once as the queues have room for, and records the time from the
/// scheduled time of each operation to its completion. An operation that is due while the queues are full is posted late.
///
/// If the device is slower than the offered rate, the operations that are due but not posted at the end of `limit.duration` are not
/// posted. The returned throughput is then below the offered rate.
///
/// # Errors
/// The same conditions as for [`latency`](super::latency()).
pub fn load(
    plane: &mut dyn DataPlane,
    stream: Stream<'_>,
    flow: Flow,
    operations_per_s: f64,
    limit: Limit,
    recorder: &mut Recorder,
    interrupt: &Interrupt,
) -> Result<Throughput, MeasureError> {
    let clock = recorder.clock.clone();
    let room = u64::from(flow.depth) * u64::from(flow.queues);
    let mut batch: Vec<Transfer> = Vec::with_capacity(room as usize);
    let mut done: Vec<Completion> = Vec::with_capacity(room as usize);
    let mut watch = Watch::new(&clock, interrupt);
    let schedule = Schedule::new(&clock, operations_per_s);
    let (mut submitted, mut completed, mut wanted) = (0_u64, 0_u64, limit.iterations);
    let mut end = schedule.start;
    while completed < wanted {
        let now = clock.raw();
        if clock.delta(schedule.start, now) >= limit.duration {
            wanted = wanted.min(submitted);
        }
        let postable = schedule.due(now).min(wanted).min(completed + room);
        if postable > submitted {
            batch.clear();
            batch.extend((submitted..postable).map(|number| Transfer { id: number, ..stream.transfer(number) }));
            submitted += plane.submit(&batch)? as u64;
        }
        plane.poll(&mut done)?;
        if done.is_empty() {
            if submitted == completed {
                // Nothing is in flight, so nothing can be lost.
                watch.idle_since = 0;
            }
            watch.idle()?;
            continue;
        }
        watch.progress();
        end = clock.raw();
        for completion in done.drain(..) {
            completion.result?;
            recorder.record(schedule.time_of(completion.id), end);
            completed += 1;
        }
        if interrupt.is_set() {
            return Err(MeasureError::Interrupted);
        }
    }
    Ok(Throughput {
        operations: completed,
        start: schedule.start,
        end,
        slowest_window_operations_per_s: None,
        device_ns: None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::time::Duration;

    use peerpath_exporter::View;
    use peerpath_importers::{Error, Op, Side};
    use quanta::Mock;

    use super::*;
    use crate::layout::Layout;

    /// Time that passes per poll.
    const POLL_NS: u64 = 500;

    /// A device on simulated time, whose clock counts nanoseconds. It completes one operation at a time, and may stop for a while.
    struct Device {
        time: Arc<Mock>,
        in_flight: VecDeque<u64>,
        service_ns: u64,
        /// When the current operation completes.
        busy_until: u64,
        /// Start and end of the stall.
        stall: (u64, u64),
    }

    impl DataPlane for Device {
        fn far(&self) -> Arc<dyn View> {
            unreachable!("the loop does not access the data")
        }
        fn submit(&mut self, batch: &[Transfer]) -> Result<usize, Error> {
            if self.in_flight.is_empty() {
                self.busy_until = self.time.value() + self.service_ns;
            }
            self.in_flight.extend(batch.iter().map(|transfer| transfer.id));
            Ok(batch.len())
        }
        fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), Error> {
            self.time.increment(POLL_NS);
            let now = self.time.value();
            if (self.stall.0..self.stall.1).contains(&now) {
                self.busy_until = self.busy_until.max(self.stall.1);
            }
            while self.busy_until <= now
                && let Some(id) = self.in_flight.pop_front()
            {
                self.busy_until += self.service_ns;
                done.push(Completion { id, result: Ok(()) });
            }
            Ok(())
        }
    }

    /// Offers operations for a second. Returns the achieved rate in operations per second, and the latencies.
    fn run(service_ns: u64, stall: (u64, u64), operations_per_s: f64) -> (f64, Recorder) {
        let (clock, time) = Clock::mock();
        let mut device = Device { time, in_flight: VecDeque::new(), service_ns, busy_until: 0, stall };
        let layout = Layout::new(64, 64, 4096).unwrap();
        let stream = Stream { layout: &layout, op: Op::Write, posted_by: Side::Far, queues: 1, first: 0 };
        let mut recorder = Recorder::new(clock.clone());
        let limit = Limit { iterations: u64::MAX, duration: Duration::from_secs(1) };
        let (flow, interrupt) = (Flow::simple(64), Interrupt::default());
        let throughput = load(&mut device, stream, flow, operations_per_s, limit, &mut recorder, &interrupt).unwrap();
        let seconds = clock.delta(throughput.start, throughput.end).as_secs_f64();
        (throughput.operations as f64 / seconds, recorder)
    }

    const NEVER: (u64, u64) = (u64::MAX, u64::MAX);

    #[test]
    fn achieves_the_offered_rate_below_the_knee() {
        // The device completes 50,000 operations per second.
        for offered in [100.0, 2000.0, 45_000.0] {
            let (achieved, recorder) = run(20_000, NEVER, offered);
            assert!((achieved / offered - 1.0).abs() < 0.02, "offered {offered}, achieved {achieved}");
            let latency = recorder.latency().unwrap();
            assert!((20_000..25_000).contains(&latency.p50), "{latency:?}");
        }
    }

    #[test]
    fn an_overload_ends_in_time_with_the_rate_of_the_device() {
        let (achieved, recorder) = run(1_000_000, NEVER, 10_000.0);
        assert!((achieved / 1000.0 - 1.0).abs() < 0.02, "{achieved} operations per second");
        // The last operation was scheduled about nine tenths of a second before it completed.
        let latency = recorder.latency().unwrap();
        assert!(latency.max > 850_000_000, "{latency:?}");
    }

    /// Each operation that is scheduled during the stall waits for its end. A closed loop would record one slow operation.
    #[test]
    fn a_stall_delays_every_operation_that_is_scheduled_during_it() {
        let (_, recorder) = run(20_000, (300_000_000, 500_000_000), 1000.0);
        let latency = recorder.latency().unwrap();
        // A fifth of the operations are scheduled during the stall of 200 ms, half of them in its first half.
        assert!(latency.p50 < 25_000, "{latency:?}");
        assert!((90_000_000..110_000_000).contains(&latency.p90), "{latency:?}");
        assert!((190_000_000..=201_000_000).contains(&latency.p99), "{latency:?}");
    }
}
