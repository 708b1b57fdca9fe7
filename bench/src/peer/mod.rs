//! Two hosts, one run: the channel between `peerpath serve` and `peerpath run --peer`. `docs/wire.md` tells what is said on
//! it, in enough detail to write the other side anew.
//!
//! Nothing that is measured goes through it. Whoever connects first proves that it knows the token ([`handshake`]); every
//! message has a bound in length and in time ([`frame`]); both sides say every second that they live, so that neither waits
//! for one that died ([`connection`]).

pub mod active;
pub mod address;
pub mod connection;
pub mod frame;
pub mod handshake;
pub mod message;
pub mod serve;
#[cfg(test)]
mod tests;
pub mod token;

/// The version of what is said. Two programs work together where it is the same.
pub const VERSION: u32 = 1;
