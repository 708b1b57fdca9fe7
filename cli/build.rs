//! Records the git revision and the features, for `--version` and `result.json`. The revision is `unknown` in a build from a
//! package or outside a git checkout.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=PEERPATH_GIT_REVISION={}", revision().unwrap_or_else(|| "unknown".to_owned()));
    println!("cargo::rustc-env=PEERPATH_FEATURES={}", features());
}

/// The commit of the checkout. `None` if git does not track this file: a package of this crate can lie inside another
/// repository.
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
