//! Throughput in windows of the measured time: a stall appears as a window of low throughput.

use std::time::Duration;

/// Minimum length of a window.
const WINDOW: Duration = Duration::from_millis(100);

/// Counts operations in windows that cover the whole measured time. A remainder that is shorter than a window belongs to the
/// last window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Windows {
    open: Edge,
    /// Start of the last complete window. A shorter remainder at the end extends this window.
    newest: Option<Edge>,
    /// Lowest throughput of the windows before `newest`, in operations per second.
    slowest_per_s: Option<f64>,
}

/// Boundary of a window: time since the start, and the number of operations completed by then.
#[derive(Debug, Clone, Copy, Default)]
struct Edge {
    at: Duration,
    completed: u64,
}

impl Edge {
    fn rate_until(self, later: Self) -> f64 {
        (later.completed - self.completed) as f64 / (later.at - self.at).as_secs_f64()
    }
}

impl Windows {
    /// Records that `completed` operations are complete at time `at` after the start.
    pub(super) fn note(&mut self, at: Duration, completed: u64) {
        if at.saturating_sub(self.open.at) < WINDOW {
            return;
        }
        if let Some(newest) = self.newest.replace(self.open) {
            self.slowest_per_s = Some(self.slower(newest.rate_until(self.open)));
        }
        self.open = Edge { at, completed };
    }

    /// Lowest throughput of any window, in operations per second. Call this function at the end of the measurement. `None` if
    /// the measurement is shorter than a window.
    pub(super) fn slowest(&self, at: Duration, completed: u64) -> Option<f64> {
        Some(self.slower(self.newest?.rate_until(Edge { at, completed })))
    }

    fn slower(&self, rate_per_s: f64) -> f64 {
        self.slowest_per_s.map_or(rate_per_s, |slowest| slowest.min(rate_per_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(moments: &[(u64, u64)]) -> Option<f64> {
        let mut windows = Windows::default();
        let at = |(at_ms, ended): (u64, u64)| (Duration::from_millis(at_ms), ended);
        for &moment in moments {
            let (at, ended) = at(moment);
            windows.note(at, ended);
        }
        let (at, ended) = at(*moments.last()?);
        windows.slowest(at, ended)
    }

    #[test]
    fn the_slowest_window_shows_a_stall_and_includes_the_end() {
        assert_eq!(seen(&[(50, 10)]), None, "shorter than a window");
        assert_eq!(seen(&[(100, 10)]), Some(100.0));
        assert_eq!(seen(&[(100, 10), (200, 11), (300, 30)]), Some(10.0));
        assert_eq!(seen(&[(100, 10), (190, 10)]).map(f64::round), Some(53.0), "the rest at the end counts");
    }

    proptest! {
        /// The windows cover the whole time, so the lowest throughput does not exceed the mean.
        #[test]
        fn the_minimum_does_not_exceed_the_mean(steps in proptest::collection::vec((1_u64..400, 0_u64..100), 1..40)) {
            let mut now = (0, 0);
            let moments: Vec<(u64, u64)> = steps
                .iter()
                .map(|step| {
                    now = (now.0 + step.0, now.1 + step.1);
                    now
                })
                .collect();
            let mean = now.1 as f64 / (now.0 as f64 / 1000.0);
            if let Some(slowest) = seen(&moments) {
                prop_assert!(slowest <= mean * (1.0 + 1e-9), "{slowest} {mean}");
            }
        }
    }
}
