//! Passes arbitrary bytes to the parsers of all messages that a peer may send.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| peerpath_bench::peer::take_apart(bytes));
