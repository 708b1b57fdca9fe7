//! What this process may do.

use super::{Context, Status, Verdict};
use crate::{Cause, Tree};

/// Less than this does not hold the far side of a run with large transfers.
const COMFORTABLE_BYTES: u64 = 64 << 20;

pub(super) fn memlock(at: &Context<'_>) -> Vec<Verdict> {
    let facts = &at.host().facts;
    vec![match (facts.memlock_unlimited, facts.memlock_bytes) {
        (Some(true), _) => Verdict::pass("host", "Any amount of memory can be locked."),
        (_, Some(bytes)) if bytes >= COMFORTABLE_BYTES => {
            Verdict::pass("host", format!("{} MiB of memory can be locked.", bytes >> 20))
        }
        _ if at.tree.is_live() && may_lock_anything(at.tree) => {
            Verdict::pass("host", "This process is exempt from the limit on locked memory (CAP_IPC_LOCK).")
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

/// CAP_IPC_LOCK, which root has.
fn may_lock_anything(tree: &Tree) -> bool {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let status = tree.text("proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).is_some_and(|bits| bits & CAP_IPC_LOCK != 0)
}

pub(super) fn observation(at: &Context<'_>) -> Vec<Verdict> {
    vec![match at.live {
        None => Verdict::live_only("host"),
        Some(live) => match &live.observation {
            Ok(()) => Verdict::pass("host", "The kernel's tracing can be used."),
            Err(why) => Verdict::explained(Status::Warn, "host", why),
        },
    }]
}
