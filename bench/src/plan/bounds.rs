//! Bounds of the values in a plan.

use crate::gcd::greatest_common_divisor;

/// Maximum number of cells of a plan, and of a result: a run saves its result after each cell, and readers of results have the
/// same limit.
pub const MOST_CELLS: usize = 100_000;
/// Maximum number of values of one parameter.
pub(super) const MOST_VALUES: usize = 4096;
/// Maximum number of repeats of a cell.
pub(super) const MOST_REPEATS: u32 = 1000;
/// Maximum size of one operation. RDMA messages are at most 2 GiB.
pub(super) const LARGEST_OPERATION_BYTES: u64 = 1 << 30;
/// Maximum depth. No device offers deeper queues.
pub(super) const DEEPEST: u32 = 65_536;
/// Highest offered rate: no device completes more operations per second.
pub(super) const HIGHEST_RATE_PER_S: u64 = 1_000_000_000;
/// Size of an atomic operation, in bytes.
pub(crate) const ATOMIC_BYTES: u64 = 8;
/// Maximum number of queue pairs of a cell, over all threads.
pub(super) const MOST_QUEUES: u32 = 65_536;
/// Maximum number of threads of a cell.
pub(super) const MOST_THREADS: u32 = 4096;
/// Maximum number of ranges of a cell.
pub(super) const MOST_RANGES: u32 = 65_536;

/// Whether a plan may contain a cell with these values. The server checks the cells that a client requests with this function.
pub(crate) fn within_bounds(size_bytes: u64, depth: u32, qps: u32, threads: u32, ranges: Option<u32>) -> bool {
    (1..=LARGEST_OPERATION_BYTES).contains(&size_bytes)
        && (1..=DEEPEST).contains(&depth)
        && qps > 0
        && (1..=MOST_THREADS).contains(&threads)
        // A message lists the slots of a thread and all queue pairs, so their numbers are limited.
        && depth.checked_mul(qps).is_some_and(|slots| slots <= DEEPEST)
        && threads.checked_mul(qps).is_some_and(|pairs| pairs <= MOST_QUEUES)
        && ranges.is_none_or(|count| (1..=MOST_RANGES).contains(&count))
}

/// The reason why a send queue of this depth does not drain ([`send_queue_drains`]).
pub(crate) fn why_not_draining(depth: u32, post_list: u32) -> &'static str {
    if post_list > 0 && depth.is_multiple_of(post_list) {
        "The send queue would fill with unsignaled work requests, so it would never drain."
    } else {
        "The depth is not a multiple of the post list."
    }
}

/// Whether a send queue of this depth always drains, i.e. never fills with unsignaled work requests. Work requests are posted
/// in lists of `post_list`, and one of `moderation` is signaled.
pub(crate) fn send_queue_drains(depth: u32, post_list: Option<u32>, moderation: u32) -> bool {
    let possible = 1..=depth;
    possible.contains(&moderation)
        && post_list.is_none_or(|list| {
            let unsignaled = moderation - greatest_common_divisor(list.into(), moderation.into()) as u32;
            possible.contains(&list) && depth.is_multiple_of(list) && unsignaled + list <= depth
        })
}
