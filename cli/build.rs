//! Records the git revision for `result.json`. Without a git checkout, no revision is recorded.

use std::process::Command;

fn main() {
    // Git appends to this file on every commit and checkout.
    println!("cargo::rerun-if-changed=../.git/logs/HEAD");
    println!("cargo::rerun-if-changed=build.rs");
    let described = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    if let Ok(output) = described
        && output.status.success()
    {
        println!("cargo::rustc-env=PEERPATH_GIT_REVISION={}", String::from_utf8_lossy(&output.stdout).trim());
    }
}
