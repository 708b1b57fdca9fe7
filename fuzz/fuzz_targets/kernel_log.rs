//! Passes arbitrary bytes, as lines of a kernel log and as a message of a program, to the tables of `peerpath explain`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for line in String::from_utf8_lossy(bytes).split('\n') {
        let _ = peerpath_paths::kernel_log::explain(line);
        let _ = peerpath_paths::kernel_log::blocked_access(line);
        let _ = peerpath_paths::kernel_log::blocked_address(line);
        let _ = peerpath_paths::errno_in(line);
    }
});
