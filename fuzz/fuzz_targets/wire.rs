//! Whatever comes from the network, taken for every kind of message that could have been meant.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| peerpath_bench::peer::take_apart(bytes));
