//! Reconstructs calls of dma-buf functions from their entry and return events.

use crate::operation::{DmaBufOp, TimedFunction};
use crate::parse::{Event, Record};

/// One call of a dma-buf operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The dma-buf operation that was called.
    pub operation: DmaBufOp,
    /// ID of the calling thread in the kernel's PID namespace.
    pub thread: u32,
    /// Time from entry to return, in nanoseconds.
    pub duration_ns: u64,
    /// Whether the call succeeded.
    pub succeeded: bool,
    /// Errno of a failed call; `None` if the call succeeded, or failed without an errno.
    pub errno: Option<i32>,
}

/// An entry whose return has not been found yet.
struct OpenCall {
    function: &'static TimedFunction,
    thread: u32,
    at_ns: u64,
}

/// Pairs the entries and returns of each thread. The calls are in the order of their returns. Of nested calls of one operation,
/// only the outermost counts. A call by a function that does not count is ignored. An entry or return without its counterpart is ignored: the trace buffer overflowed, or the
/// recording began or ended during the call.
pub(crate) fn pair(records: &[Record]) -> Vec<Call> {
    let mut open: Vec<OpenCall> = Vec::new();
    let mut calls = Vec::new();
    for record in records {
        let Record { thread, at_ns, .. } = *record;
        match record.event {
            Event::Enter(function) => open.push(OpenCall { function, thread, at_ns }),
            Event::Return { function, result, counts } => {
                let matches = |entry: &OpenCall| entry.thread == thread && entry.function.symbol == function.symbol;
                let Some(index) = open.iter().rposition(matches) else { continue };
                let entry = open.remove(index);
                let is_inner =
                    open.iter().any(|outer| outer.thread == thread && outer.function.operation == function.operation);
                if counts && !is_inner {
                    let duration_ns = at_ns.saturating_sub(entry.at_ns);
                    let (succeeded, errno) = function.returns.outcome(result);
                    calls.push(Call { operation: function.operation, thread, duration_ns, succeeded, errno });
                }
            }
            _ => {}
        }
    }
    calls
}

/// The errno in a return value: the kernel reserves the topmost 4095 values for errnos.
pub(crate) fn errno(result: i64) -> Option<i32> {
    (-4095..0).contains(&result).then(|| i32::try_from(-result).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::TIMED;

    fn record(thread: u32, at_ns: u64, symbol: &str, returned: Option<i64>) -> Record {
        let function = TIMED.iter().find(|function| function.symbol == symbol).unwrap();
        let event = match returned {
            None => Event::Enter(function),
            Some(result) => Event::Return { function, result: Some(result), counts: true },
        };
        Record { thread, at_ns, event }
    }

    #[test]
    fn pairs_calls_per_thread_and_counts_the_outer_call() {
        let (map, unlocked) = ("dma_buf_map_attachment", "dma_buf_map_attachment_unlocked");
        let calls = pair(&[
            record(1, 10, unlocked, None),
            record(2, 11, map, None),
            record(1, 12, map, None),
            record(2, 15, map, Some(-22)),
            record(1, 20, map, Some(-0x7777_0000_0000)),
            record(1, 25, unlocked, Some(-0x7777_0000_0000)),
        ]);
        let expected = |thread, duration_ns, errno: Option<i32>| {
            let succeeded = errno.is_none();
            Call { operation: DmaBufOp::Map, thread, duration_ns, succeeded, errno }
        };
        assert_eq!(calls, [expected(2, 4, Some(22)), expected(1, 15, None)]);
    }

    #[test]
    fn ignores_a_call_without_entry_or_return() {
        let attach = "dma_buf_dynamic_attach";
        assert_eq!(pair(&[record(1, 10, attach, Some(0)), record(1, 11, attach, None)]), []);
    }

    #[test]
    fn an_allocation_that_returns_false_has_failed() {
        let allocate = "dma_iova_try_alloc";
        let succeeded = |result| {
            let calls = pair(&[record(1, 10, allocate, None), record(1, 13, allocate, Some(result))]);
            assert_eq!((calls.len(), calls[0].operation, calls[0].errno), (1, DmaBufOp::Allocate, None));
            calls[0].succeeded
        };
        assert!(succeeded(1));
        assert!(!succeeded(0));
    }

    #[test]
    fn only_the_topmost_4095_values_are_errnos() {
        assert_eq!(errno(-12), Some(12));
        assert_eq!(errno(-4095), Some(4095));
        for value in [0, 1, -4096, i64::MIN, i64::MAX] {
            assert_eq!(errno(value), None);
        }
    }
}
