//! The distribution of latencies.

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use quanta::Clock;

use crate::result::Latency;

/// Latencies, recorded without allocation as ticks of the clock's counter. They are converted to nanoseconds at the end.
pub struct Recorder {
    pub(super) clock: Clock,
    ticks: Histogram<u64>,
    /// Latencies of another clock.
    nanoseconds: Histogram<u64>,
}

/// Longest latency that is distinguished: 10 minutes on a counter of 8 GHz.
const LONGEST: u64 = 4_800_000_000_000;

impl Recorder {
    /// An empty recorder with three significant digits.
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

    /// The latencies of several recorders.
    pub fn all<'a>(recorders: impl Iterator<Item = &'a Self>) -> Self {
        let mut all = Self::new(Clock::new());
        for recorder in recorders {
            all.clock = recorder.clock.clone();
            // Fails for histograms with other bounds only.
            let _ = all.ticks.add(&recorder.ticks);
            let _ = all.nanoseconds.add(&recorder.nanoseconds);
        }
        all
    }

    /// Records a latency of another clock, such as the device's, in nanoseconds.
    pub fn record_ns(&mut self, nanoseconds: u64) {
        self.nanoseconds.saturating_record(nanoseconds);
    }

    /// Whether there are latencies of another clock.
    pub fn is_by_device(&self) -> bool {
        !self.nanoseconds.is_empty()
    }

    /// Number of latencies.
    pub fn count(&self) -> u64 {
        self.ticks.len() + self.nanoseconds.len()
    }

    /// The distribution in nanoseconds.
    fn histogram(&self) -> Histogram<u64> {
        let mut all = self.nanoseconds.clone();
        for bucket in self.ticks.iter_recorded() {
            // The middle of the bucket, as `value_at_quantile` returns it.
            let value = self.ticks.median_equivalent(bucket.value_iterated_to());
            all.saturating_record_n(self.clock.delta_as_nanos(0, value), bucket.count_at_value());
        }
        all
    }

    /// The distribution; `None` if nothing was recorded.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_base64() {
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
