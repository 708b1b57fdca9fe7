//! Tests that CPU time and memory stay small for files that no kernel writes: a snapshot may come from anyone.

use peerpath_paths::Tree;

use crate::{LIMIT, cost};

/// Fails if `large` is more than [`LIMIT`] times `small`, for 16 times the input.
#[track_caller]
fn grew_linearly(small: i64, large: i64) {
    println!("{small} ns, {large} ns for 16 times as much");
    assert!(large / small.max(1) < LIMIT, "{small} ns, {large} ns for 16 times as much");
}

#[test]
fn a_line_of_brackets_is_read_in_linear_time() {
    let time = |brackets| {
        let text = format!("00:00.0 Host bridge [0600]: {}\n", "[".repeat(brackets));
        cost(|| Tree::from_lspci(text.as_bytes()).is_ok())
    };
    grew_linearly(time(16_000), time(256_000));
}
