//! What the kernel did between the start and the end of one recording.

use crate::calls::Call;
use crate::operation::CallKind;
use crate::parse::Log;

/// What was seen between begin and end.
#[derive(Debug)]
pub struct Trace {
    pub(crate) log: Log,
    pub(crate) calls: Vec<Call>,
    /// Attachments are watched, so that none seen means none made.
    pub(crate) sees_calls: bool,
    /// p2pdma's answer is watched.
    pub(crate) sees_map_type: bool,
    /// Tracepoints without which the absence of a mapping proves nothing.
    pub(crate) missing_tracepoints: Vec<String>,
    /// All that could not be seen, a sentence each.
    pub(crate) missing: Vec<String>,
}

impl Trace {
    /// The calls that were timed, in the order in which they ended.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Times of the calls of one kind that succeeded, in nanoseconds.
    pub fn durations_ns(&self, kind: CallKind) -> Vec<u64> {
        let succeeded = self.calls.iter().filter(|call| call.kind == kind && call.errno.is_none());
        succeeded.map(|call| call.duration_ns).collect()
    }

    /// To how many nanoseconds the times are exact.
    pub fn resolution_ns(&self) -> u64 {
        self.log.resolution_ns
    }

    /// Events that were lost because the buffer was too small; watch fewer steps at once.
    pub fn lost_events(&self) -> u64 {
        self.log.lost_events
    }
}
