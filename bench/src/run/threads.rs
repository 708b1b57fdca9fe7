//! Runs work in several threads simultaneously.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;

use crate::cpus;
use crate::measure::MeasureError;

/// Runs `work` for each item in a separate thread. Each thread is bound to the CPU that `cpu_of` returns for its index. All
/// threads start together. A single item without a CPU runs in the calling thread.
///
/// # Errors
/// Starting a thread fails, or `work` fails. Returns the first error in the order of the items.
pub(super) fn run_together<I: Send, T: Send>(
    items: Vec<I>,
    cpu_of: impl Fn(usize) -> Option<u32>,
    work: impl Fn(I) -> Result<T, MeasureError> + Sync,
) -> Result<Vec<T>, MeasureError> {
    if items.len() == 1 && cpu_of(0).is_none() {
        return items.into_iter().map(work).collect();
    }
    // Threads wait for the lock until all are started. If starting a thread fails, the others end without calling `work`.
    let (gate, aborted) = (RwLock::new(()), AtomicBool::new(false));
    let (work, gate, aborted) = (&work, &gate, &aborted);
    std::thread::scope(|scope| {
        let closed = gate.write();
        let start = |(index, item)| {
            let cpu = cpu_of(index);
            let body = move || {
                let bound = cpu.map_or(Ok(()), cpus::bind_this_thread);
                drop(gate.read());
                // The caller receives the error of the thread that could not be started, so this result is discarded.
                if aborted.load(Ordering::Relaxed) {
                    Err(MeasureError::TimedOut)
                } else {
                    bound.and_then(|()| work(item))
                }
            };
            Builder::new().spawn_scoped(scope, body).map_err(|source| MeasureError::Thread { source })
        };
        let threads: Result<Vec<_>, _> = items.into_iter().enumerate().map(start).collect();
        aborted.store(threads.is_err(), Ordering::Relaxed);
        drop(closed);
        threads?.into_iter().map(|thread| thread.join().unwrap_or(Err(MeasureError::Panicked))).collect()
    })
}

/// Assigns the CPUs to threads in turn. Assigns no CPU if the list is empty.
pub(super) fn round_robin(cpus: &[u32]) -> impl Fn(usize) -> Option<u32> {
    |index| cpus.get(index % cpus.len().max(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Barrier;

    #[test]
    fn runs_all_threads_at_once_and_returns_the_first_error() {
        // Each thread waits for all others, so the test would hang if the threads ran one after the other.
        let barrier = Barrier::new(8);
        let doubled = run_together((0..8).collect(), round_robin(&[]), |item| {
            barrier.wait();
            Ok(item * 2)
        });
        assert_eq!(doubled.unwrap(), (0..8).map(|item| item * 2).collect::<Vec<_>>());
        let failed =
            run_together(
                vec![1, 2, 3],
                round_robin(&[]),
                |item| {
                    if item == 2 { Err(MeasureError::TimedOut) } else { Ok(()) }
                },
            );
        assert!(matches!(failed, Err(MeasureError::TimedOut)));
        let no_such_cpu = run_together(vec![()], round_robin(&[1_000_000]), Ok);
        assert!(matches!(no_such_cpu, Err(MeasureError::Bind { cpu: 1_000_000, .. })));
    }
}
