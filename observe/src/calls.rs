//! Which functions of dma-buf are timed, and how an entry finds its return.

use crate::operation::{CallKind, TimedFunction};
use crate::parse::{Event, Record};

/// One call, from the probe at its entry to that at its return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was called.
    pub kind: CallKind,
    /// The thread that called.
    pub thread: u32,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
    /// The errno with which it failed.
    pub errno: Option<i32>,
}

/// An entry that waits for its return.
struct Open {
    function: &'static TimedFunction,
    thread: u32,
    at_ns: u64,
}

/// Matches entries and returns thread by thread; what has only one of them (the buffer overflowed, the step was still
/// under way) is left out.
pub(crate) fn pair(records: &[Record]) -> Vec<Call> {
    let mut open: Vec<Open> = Vec::new();
    let mut calls = Vec::new();
    for record in records {
        let Record { thread, at_ns, .. } = *record;
        match record.event {
            Event::Enter(function) => open.push(Open { function, thread, at_ns }),
            Event::Leave { function, result } => {
                let is_this = |open: &Open| open.thread == thread && open.function.symbol == function.symbol;
                let Some(index) = open.iter().rposition(is_this) else { continue };
                let entry = open.remove(index);
                let is_inner = open.iter().any(|outer| outer.thread == thread && outer.function.kind == function.kind);
                if !is_inner {
                    let duration_ns = at_ns.saturating_sub(entry.at_ns);
                    calls.push(Call { kind: function.kind, thread, duration_ns, errno: result.and_then(errno) });
                }
            }
            _ => {}
        }
    }
    calls
}

/// The errno in a return value: the kernel keeps the topmost 4095 values for them.
pub(crate) fn errno(result: i64) -> Option<i32> {
    (-4095..0).contains(&result).then(|| i32::try_from(-result).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(thread: u32, at_ns: u64, symbol: &str, leaves: Option<i64>) -> Record {
        let function = TimedFunction::of(symbol).unwrap();
        let event = match leaves {
            None => Event::Enter(function),
            Some(result) => Event::Leave { function, result: Some(result) },
        };
        Record { thread, at_ns, event }
    }

    #[test]
    fn threads_are_kept_apart_and_the_outer_call_counts() {
        let (map, unlocked) = ("dma_buf_map_attachment", "dma_buf_map_attachment_unlocked");
        let calls = pair(&[
            record(1, 10, unlocked, None),
            record(2, 11, map, None),
            record(1, 12, map, None),
            record(2, 15, map, Some(-22)),
            record(1, 20, map, Some(-0x7777_0000_0000)),
            record(1, 25, unlocked, Some(-0x7777_0000_0000)),
        ]);
        let expected = |thread, duration_ns, errno| Call { kind: CallKind::Map, thread, duration_ns, errno };
        assert_eq!(calls, [expected(2, 4, Some(22)), expected(1, 15, None)]);
    }

    #[test]
    fn half_a_call_is_no_call() {
        let attach = "dma_buf_dynamic_attach";
        assert_eq!(pair(&[record(1, 10, attach, Some(0)), record(1, 11, attach, None)]), []);
    }

    #[test]
    fn only_the_topmost_values_are_errnos() {
        assert_eq!(errno(-12), Some(12));
        assert_eq!(errno(-4095), Some(4095));
        for value in [0, 1, -4096, i64::MIN, i64::MAX] {
            assert_eq!(errno(value), None);
        }
    }
}
