//! Records the revision that the program is built from, where it is built from a checkout.

use std::process::Command;

fn main() {
    // Moves with every commit and every switch of branch.
    println!("cargo::rerun-if-changed=../.git/logs/HEAD");
    println!("cargo::rerun-if-changed=build.rs");
    let described = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    if let Ok(output) = described
        && output.status.success()
    {
        println!("cargo::rustc-env=PEERPATH_GIT_REVISION={}", String::from_utf8_lossy(&output.stdout).trim());
    }
}
