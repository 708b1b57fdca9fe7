//! Every lab test.

mod bad_input;
mod binding;
mod corruption;
mod revocation;
mod socket;
mod transfer;

use crate::Case;

pub(crate) fn all() -> Vec<Case> {
    [transfer::cases(), corruption::cases(), revocation::cases(), socket::cases(), binding::cases(), bad_input::cases()]
        .into_iter()
        .flatten()
        .collect()
}
