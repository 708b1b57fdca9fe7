//! The distribution of latencies.

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use quanta::Clock;

use crate::result::Latency;

/// Recorded latencies in ticks of the clock's counter. Recording does not allocate. Ticks are converted to nanoseconds at the
/// end.
pub struct Recorder {
    pub(super) clock: Clock,
    ticks: Histogram<u64>,
    /// Latencies that another clock measured, e.g. the device's, in nanoseconds.
    nanoseconds: Histogram<u64>,
}

/// Maximum latency in ticks: 10 minutes on a counter of 8 GHz. Longer latencies count as this one.
const LONGEST: u64 = 4_800_000_000_000;

impl Recorder {
    /// Creates an empty recorder. Its histograms have three significant digits.
    pub fn new(clock: Clock) -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3).expect("constant bounds are valid");
        Self { clock, ticks: histogram(), nanoseconds: histogram() }
    }

    /// Reads a raw time stamp.
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

    /// Merges the latencies of several recorders into one.
    pub fn all<'a>(recorders: impl Iterator<Item = &'a Self>) -> Self {
        let mut all = Self::new(Clock::new());
        for recorder in recorders {
            all.clock = recorder.clock.clone();
            // Adding fails only if the histograms have different bounds, and all have the same.
            let _ = all.ticks.add(&recorder.ticks);
            let _ = all.nanoseconds.add(&recorder.nanoseconds);
        }
        all
    }

    /// Records a latency in nanoseconds that another clock measured, e.g. the device's.
    pub fn record_ns(&mut self, nanoseconds: u64) {
        self.nanoseconds.saturating_record(nanoseconds);
    }

    /// Whether another clock, e.g. the device's, measured latencies.
    pub fn is_by_device(&self) -> bool {
        !self.nanoseconds.is_empty()
    }

    /// Number of recorded latencies.
    pub fn count(&self) -> u64 {
        self.ticks.len() + self.nanoseconds.len()
    }

    /// The distribution in nanoseconds.
    fn histogram(&self) -> Histogram<u64> {
        let mut all = self.nanoseconds.clone();
        for bucket in self.ticks.iter_recorded() {
            // Use the middle of the bucket, as `value_at_quantile` does.
            let value = self.ticks.median_equivalent(bucket.value_iterated_to());
            all.saturating_record_n(self.clock.delta_as_nanos(0, value), bucket.count_at_value());
        }
        all
    }

    /// The median in nanoseconds; `None` if nothing was recorded.
    pub fn median_ns(&self) -> Option<u64> {
        let histogram = self.histogram();
        (!histogram.is_empty()).then(|| histogram.value_at_quantile(0.5))
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
