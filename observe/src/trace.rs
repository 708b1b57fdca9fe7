//! The events of one recording.

use crate::calls::Call;
use crate::operation::DmaBufOp;
use crate::parse::Log;

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
        let succeeded = self.calls.iter().filter(|call| call.operation == operation && call.errno.is_none());
        succeeded.map(|call| call.duration_ns).collect()
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
