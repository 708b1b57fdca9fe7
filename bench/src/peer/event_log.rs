//! Rate limit for log lines about rejected connections, so that clients without the token cannot flood the log.

use std::time::{Duration, Instant};

/// Minimum time between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Permits one line per interval, and counts the suppressed lines.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Time of the last printed line, and the number of suppressed lines since then.
    last: Option<(Instant, u64)>,
}

impl Throttle {
    /// Whether to print a line now. Call [`Throttle::summary`] first.
    pub(super) fn lets_through(&mut self, now: Instant) -> bool {
        match &mut self.last {
            Some((_, counted)) => {
                *counted += 1;
                false
            }
            None => {
                self.last = Some((now, 0));
                true
            }
        }
    }

    /// When the interval is over: a line with the number of suppressed lines. `None` before that, or if there were none.
    pub(super) fn summary(&mut self, now: Instant) -> Option<String> {
        let (start, counted) = self.last.filter(|(start, _)| now.saturating_duration_since(*start) >= INTERVAL)?;
        // A summary starts another interval. Otherwise each interval would print a line and a summary.
        self.last = (counted > 0).then_some((now, 0));
        let seconds = now.saturating_duration_since(start).as_secs();
        (counted > 0).then(|| format!("{counted} more connections rejected in the last {seconds} seconds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_prints_one_line_per_interval_and_loses_no_count() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let (mut lines, mut counted) = (0, 0_u64);
        for step in 0..70_000_u64 {
            let now = start + Duration::from_millis(step);
            if let Some(summary) = throttle.summary(now) {
                assert!(summary.ends_with("more connections rejected in the last 10 seconds"), "{summary}");
                lines += 1;
                counted += summary.split(' ').next().unwrap().parse::<u64>().unwrap();
            }
            if throttle.lets_through(now) {
                lines += 1;
                counted += 1;
            }
        }
        assert_eq!(lines, 7, "one line and six summaries");
        assert_eq!(counted, 60_000);
        assert!(throttle.summary(start + Duration::from_secs(80)).unwrap().starts_with("10000 more"));
    }

    #[test]
    fn a_single_rejection_is_printed_at_once_and_without_a_summary() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        assert!(throttle.lets_through(start));
        assert_eq!(throttle.summary(start + INTERVAL), None);
        assert!(throttle.lets_through(start + INTERVAL));
    }
}
