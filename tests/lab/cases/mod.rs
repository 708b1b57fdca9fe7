//! Every lab test.

mod arrange;
mod bad_input;
mod binding;
mod breadth;
mod corruption;
mod libraries;
mod lspci;
mod nvme;
mod peer;
mod ranges;
mod removal;
mod restoring;
mod revocation;
mod signals;
mod soak;
mod socket;
mod staged;
mod transfer;

pub(crate) use signals::length as signals_length;
pub(crate) use soak::length as soak_length;

use crate::Case;

/// Name of the test that needs the linked program, which not every system can build.
pub(crate) const NEEDS_THE_LINKED_PROGRAM: &str = "verbs_bound_at_link_time";

/// Returns the cases to run. The debug kernel is slow, so only cases that exercise our kernel changes run on it.
pub(crate) fn all() -> Vec<Case> {
    let through_our_changes =
        [transfer::cases(), breadth::cases(), ranges::cases(), corruption::cases(), revocation::cases()];
    let others = [
        staged::cases(),
        arrange::cases(),
        socket::cases(),
        libraries::cases(),
        lspci::cases(),
        binding::cases(),
        restoring::cases(),
        signals::cases(),
        bad_input::cases(),
        nvme::cases(),
        peer::cases(),
        removal::cases(),
    ];
    let others = if debug_kernel() { Vec::new() } else { Vec::from(others) };
    through_our_changes.into_iter().chain(others).flatten().chain(soak::cases()).collect()
}

/// Whether the caller requested the debug kernel. The lab passes the variable on to the guest.
pub(crate) fn debug_kernel() -> bool {
    std::env::var("PEERPATH_LAB_DEBUG_KERNEL").is_ok_and(|value| value == "1")
}
