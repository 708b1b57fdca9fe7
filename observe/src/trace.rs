//! The events of one recording.

use crate::calls::{self, Call};
use crate::operation::DmaBufOp;
use crate::parse::{Event, Log, Record};

/// The text of the marker that begins a step.
pub(crate) const STEP: &str = "step";

/// The events between [`Observer::begin`](crate::Observer::begin) and [`Recording::end`](crate::Recording::end). The default
/// is a trace without events and without probes.
#[derive(Debug, Default)]
pub struct Trace {
    pub(crate) log: Log,
    pub(crate) calls: Vec<Call>,
    /// Whether attachments are probed. If they are, a trace without an attachment shows that none happened.
    pub(crate) records_calls: bool,
    /// Whether the return value of `pci_p2pdma_map_type` is probed.
    pub(crate) records_map_type: bool,
    /// Tracepoints of mappings that this kernel lacks. Without them the absence of a mapping event proves nothing.
    pub(crate) missing_tracepoints: Vec<String>,
    /// Operations with a function that has no probe, each with the reason as a clause.
    pub(crate) untimed: Vec<(DmaBufOp, String)>,
    /// Everything that this kernel does not report, one sentence each.
    pub(crate) missing: Vec<String>,
}

impl Trace {
    /// The dma-buf calls, in the order in which they returned.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Durations of the successful calls of one operation, in nanoseconds.
    pub fn durations_ns(&self, operation: DmaBufOp) -> Vec<u64> {
        let succeeded = self.calls.iter().filter(|call| call.operation == operation && call.succeeded);
        succeeded.map(|call| call.duration_ns).collect()
    }

    /// For each step with a successful call of one operation: the sum of the durations of these calls, in nanoseconds.
    /// [`Recording::begin_step`](crate::Recording::begin_step) begins a step.
    pub fn durations_per_step_ns(&self, operation: DmaBufOp) -> Vec<u64> {
        let begins_step = |record: &Record| matches!(&record.event, Event::Marker(text) if text == STEP);
        let steps = self.log.records.split(begins_step).skip(1);
        let duration_ns = |records| {
            let calls = calls::pair(records);
            let succeeded = calls.iter().filter(|call| call.operation == operation && call.succeeded);
            succeeded.map(|call| call.duration_ns).reduce(u64::saturating_add)
        };
        steps.filter_map(duration_ns).collect()
    }

    /// The reason why the trace may lack calls of an operation, as a clause. `None` if the kernel accepted every probe of it.
    pub fn why_untimed(&self, operation: DmaBufOp) -> Option<&str> {
        self.untimed.iter().find(|(untimed, _)| *untimed == operation).map(|(_, why)| why.as_str())
    }

    /// Resolution of the timestamps in nanoseconds: 1, or 1000 if the kernel prints no raw timestamps.
    pub fn resolution_ns(&self) -> u64 {
        self.log.resolution_ns
    }

    /// Number of events that were lost because the trace buffer was full. Record fewer registrations at once, or enlarge
    /// [`buffer_kib_per_cpu`](crate::ObserverOptions::buffer_kib_per_cpu).
    pub fn lost_events(&self) -> u64 {
        self.log.lost_events
    }
}
