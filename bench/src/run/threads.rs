//! Work that several threads do at the same time.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;

use crate::cpus;
use crate::measure::MeasureError;

/// Gives each item to a thread of its own, bound to a processor where `cpu_of` its place names one; they begin together. A
/// single item for which none is named needs no thread.
///
/// # Errors
/// The first that any of them met.
pub(super) fn together<I: Send, T: Send>(
    items: Vec<I>,
    cpu_of: impl Fn(usize) -> Option<u32>,
    work: impl Fn(I) -> Result<T, MeasureError> + Sync,
) -> Result<Vec<T>, MeasureError> {
    if items.len() == 1 && cpu_of(0).is_none() {
        return items.into_iter().map(work).collect();
    }
    // Closed as long as it is held for writing; one that cannot be started opens it for nothing.
    let (gate, given_up) = (RwLock::new(()), AtomicBool::new(false));
    let (work, gate, given_up) = (&work, &gate, &given_up);
    std::thread::scope(|scope| {
        let closed = gate.write();
        let start = |(index, item)| {
            let cpu = cpu_of(index);
            let body = move || {
                let bound = cpu.map_or(Ok(()), cpus::bind_this_thread);
                drop(gate.read());
                // Whoever gave up says why.
                if given_up.load(Ordering::Relaxed) {
                    Err(MeasureError::TimedOut)
                } else {
                    bound.and_then(|()| work(item))
                }
            };
            Builder::new().spawn_scoped(scope, body).map_err(|source| MeasureError::Thread { source })
        };
        let threads: Result<Vec<_>, _> = items.into_iter().enumerate().map(start).collect();
        given_up.store(threads.is_err(), Ordering::Relaxed);
        drop(closed);
        threads?.into_iter().map(|thread| thread.join().unwrap_or(Err(MeasureError::Panicked))).collect()
    })
}

/// The processors one after the other, and then again from the first.
pub(super) fn in_turn(cpus: &[u32]) -> impl Fn(usize) -> Option<u32> {
    |index| cpus.get(index % cpus.len().max(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Barrier;

    #[test]
    fn all_work_at_once_and_the_first_error_is_told() {
        // Each waits for all others: one after the other they would wait for ever.
        let meeting = Barrier::new(8);
        let done = together((0..8).collect(), in_turn(&[]), |item| {
            meeting.wait();
            Ok(item * 2)
        });
        assert_eq!(done.unwrap(), (0..8).map(|item| item * 2).collect::<Vec<_>>());
        let failed =
            together(vec![1, 2, 3], in_turn(&[]), |item| if item == 2 { Err(MeasureError::TimedOut) } else { Ok(()) });
        assert!(matches!(failed, Err(MeasureError::TimedOut)));
        let nowhere = together(vec![()], in_turn(&[1_000_000]), Ok);
        assert!(matches!(nowhere, Err(MeasureError::Bind { cpu: 1_000_000, .. })));
    }
}
