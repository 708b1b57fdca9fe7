//! The measured loops. They do not allocate or lock. Their only system calls are those of the data plane, and `sched_yield`
//! during long waits.

mod flow;
mod latency;
mod load;
mod ping_pong;
mod recorder;
mod warm_up;
mod watch;
mod windows;

use std::time::Duration;

use peerpath_importers::{Completion, DataPlane, Transfer, TransferError};
use quanta::Clock;

use crate::interrupt::Interrupt;
pub use flow::{Flow, bandwidth};
pub use latency::{Stream, control, latency};
pub use load::load;
pub use ping_pong::{PING_PONG_DEPTH, PingPong, echo, ping_pong, read_byte};
pub use recorder::Recorder;
pub use warm_up::{WarmUp, warm_up};
pub use watch::LoopControl;
use watch::Watch;

/// Maximum time without any completion. After this time, the transfers in flight count as lost.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// Limit of a measurement: a number of operations or a duration. The measurement ends at whichever it reaches first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Maximum number of operations.
    pub iterations: u64,
    /// Maximum duration.
    pub duration: Duration,
}

/// Reason why a measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The importer failed.
    #[error(transparent)]
    Importer(#[from] peerpath_importers::Error),
    /// The exporter failed.
    #[error(transparent)]
    Exporter(#[from] peerpath_exporter::Error),
    /// The device completed a transfer with an error.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// Reading or writing memory failed.
    #[error("cannot access the memory")]
    View(#[from] std::io::Error),
    /// Binding a thread to its CPU failed.
    #[error("cannot bind a thread to CPU {cpu}")]
    Bind {
        /// Number of the CPU.
        cpu: u32,
        /// Error that the kernel returned.
        #[source]
        source: std::io::Error,
    },
    /// Starting a thread failed.
    #[error("cannot start a thread")]
    Thread {
        /// Error that the kernel returned.
        #[source]
        source: std::io::Error,
    },
    /// A thread panicked.
    #[error("a thread panicked")]
    Panicked,
    /// A work completion did not arrive in time.
    #[error("no transfer completed within {} s", LOST_AFTER.as_secs())]
    TimedOut,
    /// A signal arrived, the connection to the peer is lost, or a function is being removed.
    #[error("the run was interrupted")]
    Interrupted,
}

/// Result of a bandwidth loop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Number of completed operations.
    pub operations: u64,
    /// Raw time stamp before the first submission.
    pub start: u64,
    /// Raw time stamp after the last completion.
    pub end: u64,
    /// Lowest throughput of any window, in operations per second. `None` if the measurement is shorter than a window.
    pub slowest_window_operations_per_s: Option<f64>,
    /// Duration measured by the device's clock. `None` if the device does not measure it.
    pub device_ns: Option<u64>,
}

/// Posts the whole batch. While the device accepts only part of it, polls to free send queue entries, and appends the
/// completions to `done`.
fn submit_all(
    plane: &mut dyn DataPlane,
    mut batch: &[Transfer],
    done: &mut Vec<Completion>,
    clock: &Clock,
    interrupt: &Interrupt,
) -> Result<(), MeasureError> {
    let taken = plane.submit(batch)?;
    if taken == batch.len() {
        return Ok(());
    }
    batch = &batch[taken..];
    let mut watch = Watch::new(clock, interrupt);
    while !batch.is_empty() {
        plane.poll(done)?;
        let taken = plane.submit(batch)?;
        batch = &batch[taken..];
        watch.idle()?;
    }
    Ok(())
}

/// Empties the list of completions and returns their number. If a completion reports an error, returns the first error.
#[inline]
fn take_completions(done: &mut Vec<Completion>) -> Result<u64, MeasureError> {
    let count = done.len() as u64;
    for completion in done.iter_mut() {
        std::mem::replace(&mut completion.result, Ok(()))?;
    }
    // `clear` keeps the capacity, so that the loop never allocates.
    done.clear();
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::layout::Layout;
    use peerpath_exporter::View;
    use peerpath_importers::{Op, Side};
    use peerpath_paths::Explanation;

    /// A data plane that completes one transfer per poll.
    struct Plane {
        in_flight: VecDeque<u64>,
        accepts: usize,
        fails_at: Option<u64>,
    }

    impl DataPlane for Plane {
        fn far(&self) -> std::sync::Arc<dyn View> {
            unreachable!("these loops do not access the data")
        }
        fn submit(&mut self, batch: &[Transfer]) -> Result<usize, peerpath_importers::Error> {
            let taken = batch.len().min(self.accepts);
            self.in_flight.extend(batch[..taken].iter().map(|transfer| transfer.id));
            Ok(taken)
        }
        fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), peerpath_importers::Error> {
            if let Some(id) = self.in_flight.pop_front() {
                let result = if self.fails_at == Some(id) {
                    Err(TransferError {
                        status: "REM_ACCESS_ERR",
                        explanation: Box::new(Explanation::uncaused("The test demands it.", "Change the test.")),
                    })
                } else {
                    Ok(())
                };
                done.push(Completion { id, result });
            }
            Ok(())
        }
    }

    fn plane() -> Plane {
        Plane { in_flight: VecDeque::new(), accepts: 3, fails_at: None }
    }

    fn write_to(layout: &Layout) -> Stream<'_> {
        Stream { layout, op: Op::Write, posted_by: Side::Far, queues: 1, first: 0 }
    }

    fn limit(iterations: u64) -> Limit {
        Limit { iterations, duration: Duration::from_secs(60) }
    }

    #[test]
    fn counts_every_operation_once() {
        let layout = Layout::new(64, 4, 1 << 20).unwrap();
        let mut recorder = Recorder::new(Clock::new());
        let stream = write_to(&layout);
        let ran = latency(&mut plane(), stream, limit(100), &mut recorder, &Interrupt::default()).unwrap();
        assert_eq!((ran, recorder.count()), (100, 100));
        let flow = Flow::simple(8);
        let seen = bandwidth(&mut plane(), &[stream], flow, limit(100), &Clock::new(), &Interrupt::default());
        assert_eq!(seen.unwrap()[0].operations, 100);
    }

    #[test]
    fn returns_the_status_of_a_failed_transfer() {
        let layout = Layout::new(64, 4, 1 << 20).unwrap();
        let mut failing = Plane { fails_at: Some(7 << 1), ..plane() };
        let (flow, streams) = (Flow::simple(8), [write_to(&layout)]);
        let seen = bandwidth(&mut failing, &streams, flow, limit(100), &Clock::new(), &Interrupt::default());
        assert!(matches!(seen, Err(MeasureError::Transfer(error)) if error.status == "REM_ACCESS_ERR"));
    }
}
