//! Warm-up: runs operations in blocks until the time per operation is steady.

use std::time::Duration;

use quanta::Clock;

use super::{Limit, MeasureError, Recorder};

/// Number of consecutive blocks whose medians must agree.
const AGREEING_BLOCKS: usize = 3;
/// Largest ratio of the largest to the smallest of these medians.
const LARGEST_RATIO: f64 = 1.1;
/// Maximum number of blocks.
const MOST_BLOCKS: u64 = 20;
/// Maximum duration. A cold start hardly affects long operations, and 20 blocks of them would take minutes.
const LONGEST: Duration = Duration::from_secs(1);
/// Part of the measurement's maximum duration that the warm-up may take: one in this many.
const PART_OF_DURATION: u32 = 4;

/// A warm-up that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmUp {
    /// Number of operations.
    pub operations: u64,
    /// Whether the time per operation was steady at the end. `None` if that is unknown, e.g. because a peer posts.
    pub steady: Option<bool>,
}

impl WarmUp {
    /// Combines the warm-ups of two threads or directions: the larger number of operations, and steady only if both are.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let steady = match (self.steady, other.steady) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        };
        Self { operations: self.operations.max(other.operations), steady }
    }
}

/// Runs blocks of `block` operations until the medians of the last three blocks differ by at most 10 %, and at most 20 blocks.
/// The warm-up also ends after as many operations as `limit` allows for the measurement, after a quarter of its duration, and after a
/// second. It is then not steady. `run` runs operations up to a limit, records the time of each, and returns their number.
///
/// The rule compares medians, because the mean of a short block depends on single slow operations.
///
/// # Errors
/// `run` fails.
pub fn warm_up(
    block: u64,
    limit: Limit,
    clock: &Clock,
    mut run: impl FnMut(Limit, &mut Recorder) -> Result<u64, MeasureError>,
) -> Result<WarmUp, MeasureError> {
    let most = limit.iterations.min(block.saturating_mul(MOST_BLOCKS));
    let longest = LONGEST.min(limit.duration.checked_div(PART_OF_DURATION).unwrap_or_default());
    let start = clock.raw();
    let mut medians: Vec<u64> = Vec::new();
    let mut operations = 0;
    loop {
        let left = longest.saturating_sub(clock.delta(start, clock.raw()));
        if operations >= most || left == Duration::ZERO {
            return Ok(WarmUp { operations, steady: (block > 0).then_some(false) });
        }
        let mut recorder = Recorder::new(clock.clone());
        operations += run(Limit { iterations: block.min(most - operations), duration: left }, &mut recorder)?;
        medians.extend(recorder.median_ns());
        if is_steady(&medians) {
            return Ok(WarmUp { operations, steady: Some(true) });
        }
    }
}

fn is_steady(medians_ns: &[u64]) -> bool {
    let Some(last) = medians_ns.last_chunk::<AGREEING_BLOCKS>() else { return false };
    let (smallest, largest) = (last.iter().min(), last.iter().max());
    smallest.zip(largest).is_some_and(|(smallest, largest)| *largest as f64 <= *smallest as f64 * LARGEST_RATIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNLIMITED: Limit = Limit { iterations: u64::MAX, duration: Duration::MAX };

    /// Warms up with blocks whose operations each take the next of these times. The last time repeats.
    fn warmed(times_ns: &[u64], block: u64, limit: Limit) -> WarmUp {
        let mut times = times_ns.iter();
        let mut time = 0;
        warm_up(block, limit, &Clock::new(), |limit, recorder| {
            time = times.next().copied().unwrap_or(time);
            (0..limit.iterations).for_each(|_| recorder.record_ns(time));
            Ok(limit.iterations)
        })
        .unwrap()
    }

    #[test]
    fn ends_when_three_medians_agree() {
        let warm_up = warmed(&[9000, 5000, 2000, 1000, 1050, 1000], 10, UNLIMITED);
        assert_eq!(warm_up, WarmUp { operations: 60, steady: Some(true) });
        assert_eq!(warmed(&[1000], 10, UNLIMITED).operations, 30);
    }

    #[test]
    fn a_rate_that_never_becomes_steady_is_bounded_and_reported() {
        let falling: Vec<u64> = (1..=30).map(|block| 1_000_000 >> block).collect();
        assert_eq!(warmed(&falling, 10, UNLIMITED), WarmUp { operations: 200, steady: Some(false) });
        let few = Limit { iterations: 15, ..UNLIMITED };
        assert_eq!(warmed(&[1000], 10, few), WarmUp { operations: 15, steady: Some(false) });
        let short = Limit { duration: Duration::ZERO, ..UNLIMITED };
        assert_eq!(warmed(&[1000], 10, short), WarmUp { operations: 0, steady: Some(false) });
    }

    #[test]
    fn no_block_means_no_warm_up() {
        assert_eq!(warmed(&[1000], 0, UNLIMITED), WarmUp { operations: 0, steady: None });
    }

    #[test]
    fn two_warm_ups_are_steady_only_together() {
        let of = |operations, steady| WarmUp { operations, steady };
        assert_eq!(of(10, Some(true)).and(of(30, Some(true))), of(30, Some(true)));
        assert_eq!(of(10, Some(true)).and(of(30, None)), of(30, None));
        assert_eq!(of(10, None).and(of(30, Some(false))), of(30, Some(false)));
    }
}
