//! Records the git revision and the features, for `--version` and `result.json`. A package and a folder outside a git checkout
//! have the revision `unknown`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=PEERPATH_GIT_REVISION={}", revision().unwrap_or_else(|| "unknown".to_owned()));
    println!("cargo::rustc-env=PEERPATH_FEATURES={}", features());
}

/// The commit of the checkout that tracks this file. Another repository can contain a package of this crate.
fn revision() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    // Git appends to this file on every commit and checkout.
    println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    git(&["describe", "--always", "--dirty", "--abbrev=12"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

fn features() -> String {
    let enabled =
        |name: &&str| std::env::var_os(format!("CARGO_FEATURE_{}", name.replace('-', "_").to_uppercase())).is_some();
    let names: Vec<_> = ["verbs-dlopen", "verbs-link"].into_iter().filter(enabled).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
