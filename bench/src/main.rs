//! The `peerpath` command.
fn main() {}
