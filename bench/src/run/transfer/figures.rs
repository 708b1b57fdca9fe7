//! The figures of a cell, computed from the measurements of its threads.

use std::time::Duration;

use peerpath_exporter::Origin;
use quanta::Clock;

use super::LaneResult;
use super::streams::streams;
use crate::measure::{Recorder, WarmUp};
use crate::plan::{CellSpec, Mode};
use crate::result::{Latency, Revocation};

/// The measured figures of a cell.
#[derive(Default)]
pub(in crate::run) struct Figures {
    pub(in crate::run) iterations: u64,
    /// `None` if the cell had no warm-up.
    pub(in crate::run) warm_up: Option<WarmUp>,
    pub(in crate::run) verified_bytes: Option<u64>,
    pub(in crate::run) latency: Option<Latency>,
    /// Bytes per second.
    pub(in crate::run) throughput: Option<f64>,
    pub(in crate::run) throughput_per_direction: Option<[f64; 2]>,
    pub(in crate::run) throughput_min_window: Option<f64>,
    pub(in crate::run) operations_per_s: Option<f64>,
    pub(in crate::run) revocation: Option<Revocation>,
    pub(in crate::run) mechanism: Option<&'static str>,
    pub(in crate::run) exported: Option<Origin>,
    /// Whether the device's clock measured the times, instead of this host's.
    pub(in crate::run) by_device: bool,
}

/// Combines the results of all lanes.
pub(super) fn conclude(spec: &CellSpec, results: &[LaneResult], clock: &Clock, figures: Figures) -> Figures {
    let size = spec.size_bytes as f64;
    let operations_of = |stream: usize| {
        let per_lane = results.iter().filter_map(|result| result.operations.get(stream));
        per_lane.fold(0, |sum: u64, operations| sum.saturating_add(*operations))
    };
    let operations = (0..streams(spec)).map(operations_of).fold(0, u64::saturating_add);
    let warm_up = results.iter().filter_map(|result| result.warm_up).reduce(WarmUp::and).or(figures.warm_up);
    let mut figures = Figures { iterations: operations, warm_up, ..figures };
    let Some((first, others)) = results.split_first() else { return figures };
    if spec.mode != Mode::Bandwidth {
        figures.by_device = results.iter().any(|result| result.recorder.is_by_device());
        figures.iterations = results.iter().map(|result| result.recorder.count()).sum();
        figures.latency = match others {
            [] => first.recorder.latency(),
            _ => Recorder::all(results.iter().map(|result| &result.recorder)).latency(),
        };
    }
    if !spec.mode.has_depth() {
        return figures;
    }
    let throughputs = || results.iter().flat_map(|result| &result.throughputs);
    // Measure from the start of the first thread to the end of the last one, because the threads may not overlap completely.
    let start = throughputs().map(|throughput| throughput.start).min().unwrap_or(0);
    let end = throughputs().map(|throughput| throughput.end).max().unwrap_or(0);
    // The device's clock measures each thread separately, so it cannot time several threads together.
    let by_device = match (&first.throughputs[..], others) {
        ([throughput], []) => throughput.device_ns,
        _ => None,
    };
    figures.by_device = by_device.is_some();
    let own_duration = by_device.map_or_else(|| clock.delta(start, end), Duration::from_nanos);
    // Each host measures its own stream with its own clock.
    let durations = [own_duration, first.peer_duration.unwrap_or(own_duration)].map(|duration| duration.as_secs_f64());
    if durations.iter().all(|seconds| *seconds > 0.0) {
        let rates = [0, 1].map(|stream| operations_of(stream) as f64 / durations[stream]);
        figures.operations_per_s = Some(rates[0] + rates[1]);
        figures.throughput = Some((rates[0] + rates[1]) * size);
        figures.throughput_per_direction = spec.bidirectional.then(|| rates.map(|rate| rate * size));
    }
    if let ([throughput], [], false) = (&first.throughputs[..], others, spec.bidirectional) {
        figures.throughput_min_window = throughput.slowest_window_operations_per_s.map(|rate| rate * size);
    }
    figures
}
