//! Checks of the limits and permissions of this process.

use super::{Context, Status, Verdict};
use crate::{Cause, Tree};

/// Locked-memory limit, in bytes, that suffices for the buffers of a run with large transfers.
const SUFFICIENT_BYTES: u64 = 64 << 20;

pub(super) fn memlock(at: &Context<'_>) -> Vec<Verdict> {
    let facts = &at.host().facts;
    vec![match (facts.memlock_unlimited, facts.memlock_bytes) {
        (Some(true), _) => Verdict::pass("host", "The locked-memory limit is unlimited."),
        (_, Some(bytes)) if bytes >= SUFFICIENT_BYTES => {
            Verdict::pass("host", format!("The locked-memory limit is {} MiB.", bytes >> 20))
        }
        _ if at.tree.is_live() && may_lock_anything(at.tree) => {
            Verdict::pass("host", "CAP_IPC_LOCK exempts this process from the locked-memory limit.")
        }
        (_, Some(bytes)) => Verdict::warn(
            "host",
            format!("The locked-memory limit is {} KiB, which RDMA buffers may exceed (root is exempt).", bytes >> 10),
            "Raise it with `ulimit -l unlimited`, or with LimitMEMLOCK= of the service.",
        )
        .because(Cause::LimitReached),
        (_, None) => Verdict::live_only("host"),
    }]
}

/// Whether the process has CAP_IPC_LOCK, as root does.
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
            Ok(()) => Verdict::pass("host", "The kernel's tracing is available."),
            Err(why) => Verdict::explained(Status::Warn, "host", why),
        },
    }]
}
