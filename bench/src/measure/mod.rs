//! The loops that are timed. Nothing in them allocates, locks or asks the kernel for anything but the work itself, and for
//! the time of others where an answer takes long.

mod flow;
mod latency;
mod ping_pong;
mod recorder;
mod watch;
mod windows;

use std::mem;
use std::time::Duration;

use peerpath_importers::{Completion, DataPlane, Transfer, TransferError};
use quanta::Clock;

use crate::interrupt::Interrupt;
pub(crate) use flow::greatest_common_divisor;
pub use flow::{Flow, bandwidth};
pub use latency::{Stream, control, latency};
pub use ping_pong::{PING_PONG_DEPTH, PingPong, echo, look_at, ping_pong};
pub use recorder::Recorder;
pub use watch::Going;
use watch::Watch;

/// A transfer that takes longer than this has been lost.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// When to stop measuring: after so many operations or so much time, whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Most operations.
    pub iterations: u64,
    /// Most time.
    pub duration: Duration,
}

/// A measurement that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The importer refused.
    #[error(transparent)]
    Importer(#[from] peerpath_importers::Error),
    /// The exporter refused.
    #[error(transparent)]
    Exporter(#[from] peerpath_exporter::Error),
    /// The device ended a transfer with an error.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// Memory could not be looked at.
    #[error("memory could not be looked at")]
    View(#[from] std::io::Error),
    /// A thread could not be bound to its processor.
    #[error("a thread could not be bound to processor {cpu}")]
    Bind {
        /// Which one.
        cpu: u32,
        /// The answer.
        #[source]
        source: std::io::Error,
    },
    /// There was no thread to be had.
    #[error("a thread could not be started")]
    Thread {
        /// The answer.
        #[source]
        source: std::io::Error,
    },
    /// A thread ended by a bug.
    #[error("a thread ended by itself")]
    Panicked,
    /// No completion came.
    #[error("no transfer ended within {} s", LOST_AFTER.as_secs())]
    Lost,
    /// A signal came.
    #[error("the run was interrupted")]
    Interrupted,
}

/// What a bandwidth loop saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Operations that ended.
    pub operations: u64,
    /// Raw time stamps: before the first submission, after the last completion.
    pub begun: u64,
    /// See `begun`.
    pub last: u64,
    /// Fewest operations that ended in any whole window, a second; none where the time had no whole window.
    pub slowest_window_operations_per_s: Option<f64>,
    /// How long it took by the device's own clock, where it has one.
    pub device_ns: Option<u64>,
}

/// Hands one batch over completely, waiting where the device takes only part of it; what ends meanwhile is appended.
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

/// Empties the list of completions and counts them; the first failed one is the error.
#[inline]
fn settle(done: &mut Vec<Completion>) -> Result<u64, MeasureError> {
    let count = done.len() as u64;
    for completion in done.iter_mut() {
        mem::replace(&mut completion.result, Ok(()))?;
    }
    // This keeps the capacity, so that the loop never allocates.
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

    /// A plane that ends every transfer after some polls, or never, or badly.
    struct Plane {
        under_way: VecDeque<u64>,
        accepts: usize,
        fails_at: Option<u64>,
    }

    impl DataPlane for Plane {
        fn far(&self) -> std::sync::Arc<dyn View> {
            unreachable!("the loops look at no data")
        }
        fn submit(&mut self, batch: &[Transfer]) -> Result<usize, peerpath_importers::Error> {
            let taken = batch.len().min(self.accepts);
            self.under_way.extend(batch[..taken].iter().map(|transfer| transfer.id));
            Ok(taken)
        }
        fn poll(&mut self, done: &mut Vec<Completion>) -> Result<(), peerpath_importers::Error> {
            if let Some(id) = self.under_way.pop_front() {
                let result = if self.fails_at == Some(id) {
                    Err(TransferError {
                        status: "REM_ACCESS_ERR",
                        explanation: Box::new(Explanation::uncaused("it was told to", "tell it otherwise")),
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
        Plane { under_way: VecDeque::new(), accepts: 3, fails_at: None }
    }

    fn write_to(layout: &Layout) -> Stream<'_> {
        Stream { layout, op: Op::Write, posted_by: Side::Far, queues: 1, first: 0 }
    }

    fn limit(iterations: u64) -> Limit {
        Limit { iterations, duration: Duration::from_secs(60) }
    }

    #[test]
    fn every_operation_is_counted_once() {
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
    fn a_failed_transfer_ends_the_loop_with_its_status() {
        let layout = Layout::new(64, 4, 1 << 20).unwrap();
        let mut failing = Plane { fails_at: Some(7 << 1), ..plane() };
        let (flow, streams) = (Flow::simple(8), [write_to(&layout)]);
        let seen = bandwidth(&mut failing, &streams, flow, limit(100), &Clock::new(), &Interrupt::default());
        assert!(matches!(seen, Err(MeasureError::Transfer(error)) if error.status == "REM_ACCESS_ERR"));
    }
}
