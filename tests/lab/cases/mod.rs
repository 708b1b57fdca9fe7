//! Every lab test.

mod arrange;
mod bad_input;
mod binding;
mod corruption;
mod ranges;
mod revocation;
mod socket;
mod staged;
mod transfer;

use crate::Case;

/// The one test whose program not every system can build.
pub(crate) const NEEDS_THE_LINKED_PROGRAM: &str = "verbs_bound_at_link_time";

pub(crate) fn all() -> Vec<Case> {
    [
        arrange::cases(),
        transfer::cases(),
        ranges::cases(),
        staged::cases(),
        corruption::cases(),
        revocation::cases(),
        socket::cases(),
        binding::cases(),
        bad_input::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
