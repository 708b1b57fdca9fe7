//! When the importer could no longer reach the memory, from the transfers that it completed.
//!
//! A transfer that succeeded accessed the memory between its post and its completion. So the memory was reachable at the time of
//! the last post of a successful transfer, or later: the lower bound. A transfer that failed was refused before its completion
//! arrived. So the memory was unreachable at the arrival of the first failure of both directions: the upper bound. The distance
//! of the bounds is about the duration of the transfers that were outstanding.

use peerpath_importers::TransferError;
use quanta::Clock;

use crate::measure::MeasureError;

/// Raw time stamps of the call that revokes the memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// What the transfers of one direction saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Number of successful transfers.
    pub(super) successes: u64,
    /// Number of successful transfers that were posted after the return of the call.
    pub(super) successes_after_return: u64,
    /// Raw time stamp before the post of the last successful transfer.
    pub(super) last_success_posted_at: Option<u64>,
    /// Raw time stamp after the poll that returned the first failed transfer, and its error.
    pub(super) first_failure: Option<(u64, TransferError)>,
}

/// What the importer saw of one revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::run) struct Observed {
    /// Lower bound of the time from the start of the call until the memory was unreachable, in nanoseconds. 0 if no successful
    /// transfer was posted after the start of the call.
    pub(in crate::run) last_access_ns: u64,
    /// Upper bound of the same time. `None` if transfers of a direction did not fail.
    pub(in crate::run) unreachable_ns: Option<u64>,
    /// Completion status of the first failed write and read. `None` if none failed.
    pub(in crate::run) statuses: [Option<&'static str>; 2],
}

impl Observed {
    /// Computes the bounds from the transfers of both directions.
    ///
    /// # Errors
    /// A transfer failed before the call started, so the call did not cause the failure.
    pub(super) fn of(call: Call, seen: &[Seen; 2], clock: &Clock) -> Result<Self, MeasureError> {
        let early = seen.iter().filter_map(|seen| seen.first_failure.as_ref()).find(|(at, _)| *at < call.start);
        if let Some((_, error)) = early {
            return Err(MeasureError::Transfer(error.clone()));
        }
        let since_start = |at: u64| clock.delta_as_nanos(call.start, at.max(call.start));
        let last_success = seen.iter().filter_map(|seen| seen.last_success_posted_at).max();
        let failures = seen.each_ref().map(|seen| seen.first_failure.as_ref());
        let unreachable_ns = match failures {
            [Some((write, _)), Some((read, _))] => Some(since_start(*write.max(read))),
            _ => None,
        };
        Ok(Self {
            last_access_ns: last_success.map_or(0, since_start),
            unreachable_ns,
            statuses: failures.map(|failure| failure.map(|(_, error)| error.status)),
        })
    }
}

#[cfg(test)]
mod tests {
    use peerpath_paths::Explanation;

    use super::*;

    fn seen(last_success: u64, failure: Option<(u64, &'static str)>) -> Seen {
        let error = |status| TransferError { status, explanation: Box::new(Explanation::uncaused("", "")) };
        Seen {
            successes: 1,
            last_success_posted_at: Some(last_success),
            first_failure: failure.map(|(at, status)| (at, error(status))),
            ..Seen::default()
        }
    }

    fn observed(call: (u64, u64), seen: [Seen; 2]) -> Result<Observed, MeasureError> {
        let (clock, _) = Clock::mock();
        Observed::of(Call { start: call.0, end: call.1 }, &seen, &clock)
    }

    #[test]
    fn the_bounds_are_the_last_successful_post_and_the_later_of_the_first_failures() {
        let failed = [seen(130, Some((170, "REM_ACCESS_ERR"))), seen(120, Some((190, "LOC_PROT_ERR")))];
        let both = observed((100, 300), failed).unwrap();
        assert_eq!((both.last_access_ns, both.unreachable_ns), (30, Some(90)));
        assert_eq!(both.statuses, [Some("REM_ACCESS_ERR"), Some("LOC_PROT_ERR")]);
    }

    #[test]
    fn a_transfer_posted_before_the_call_gives_the_lower_bound_zero() {
        let failed = [seen(40, Some((170, "REM_ACCESS_ERR"))), seen(90, Some((160, "REM_ACCESS_ERR")))];
        assert_eq!(observed((100, 300), failed).unwrap().last_access_ns, 0);
    }

    #[test]
    fn there_is_no_upper_bound_if_a_direction_never_failed() {
        let failed = [seen(130, Some((170, "REM_ACCESS_ERR"))), seen(500, None)];
        let one = observed((100, 300), failed).unwrap();
        assert_eq!((one.last_access_ns, one.unreachable_ns), (400, None));
        assert_eq!(one.statuses, [Some("REM_ACCESS_ERR"), None]);
    }

    #[test]
    fn a_failure_before_the_call_is_not_a_revocation() {
        let failed = [seen(30, Some((99, "RETRY_EXC_ERR"))), seen(120, Some((190, "REM_ACCESS_ERR")))];
        assert!(
            matches!(observed((100, 300), failed), Err(MeasureError::Transfer(error)) if error.status == "RETRY_EXC_ERR")
        );
    }
}
