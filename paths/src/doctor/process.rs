//! What this process may do.

use super::{Examination, Status, Verdict};
use crate::Cause;

/// Less than this does not hold the far side of a run with large transfers.
const COMFORTABLE_BYTES: u64 = 64 << 20;

pub(super) fn memlock(at: &Examination<'_>) -> Vec<Verdict> {
    let facts = &at.host().facts;
    vec![match (facts.memlock_unlimited, facts.memlock_bytes) {
        (Some(true), _) => Verdict::pass("host", "Any amount of memory can be locked."),
        (_, Some(bytes)) if bytes >= COMFORTABLE_BYTES => {
            Verdict::pass("host", format!("{} MiB of memory can be locked.", bytes >> 20))
        }
        (_, Some(bytes)) => Verdict::warn(
            "host",
            format!(
                "{} KiB of memory can be locked, which the far side of RDMA may exceed (root is exempt).",
                bytes >> 10
            ),
            "Raise it: ulimit -l unlimited, or LimitMEMLOCK= of the service.",
        )
        .because(Cause::LimitReached),
        (_, None) => Verdict::live_only("host"),
    }]
}

pub(super) fn observation(at: &Examination<'_>) -> Vec<Verdict> {
    vec![match at.live {
        None => Verdict::live_only("host"),
        Some(live) => match &live.observation {
            Ok(()) => Verdict::pass("host", "The kernel's tracing can be used."),
            Err(why) => Verdict::explained(Status::Warn, "host", why),
        },
    }]
}
