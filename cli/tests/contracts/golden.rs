//! Golden files, and the root of the workspace.

use std::path::{Path, PathBuf};

/// Root of the workspace: every file of the repository that a test reads is named relative to it.
pub(crate) fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|folder| folder.join("results").is_dir()).expect("a folder above has results/")
}

/// Path of a golden file.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contracts/golden").join(name)
}

/// Whether golden files are rewritten.
pub(crate) fn blesses() -> bool {
    std::env::var_os("PEERPATH_BLESS").is_some_and(|value| value == "1")
}

/// Content of a golden file; empty if the file does not exist yet and golden files are rewritten.
pub(crate) fn read(name: &str) -> String {
    match std::fs::read_to_string(file(name)) {
        Ok(text) => text,
        Err(_) if blesses() => String::new(),
        Err(error) => panic!("cannot read {}: {error}", file(name).display()),
    }
}

/// Lines of a golden file without comments and empty lines.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Compares `actual` with a golden file, or rewrites the file.
#[track_caller]
pub(crate) fn check(name: &str, actual: &str) {
    let golden = read(name);
    if golden == actual {
        return;
    }
    if blesses() {
        std::fs::write(file(name), actual).unwrap();
        return;
    }
    panic!(
        "{name} differs from what the program does now (- golden, + now):\n{}\n{INSTRUCTION}",
        difference(&golden, actual)
    );
}

/// Instruction that every failed comparison prints.
pub(crate) const INSTRUCTION: &str = "This is a contract of the program. If the change is intended, run `PEERPATH_BLESS=1 \
    cargo test -p peerpath --test contracts` and commit the golden file with the reason. An option that gets another name \
    keeps the old one as a hidden alias, listed in golden/aliases.txt.";

fn difference(golden: &str, actual: &str) -> String {
    let absent = |sign: char, from: &str, other: &str| -> Vec<String> {
        let other: Vec<&str> = other.lines().collect();
        from.lines().filter(|line| !other.contains(line)).map(|line| format!("{sign} {line}")).collect()
    };
    let lines = [absent('-', golden, actual), absent('+', actual, golden)].concat();
    if lines.is_empty() { "the same lines in another order".to_owned() } else { lines.join("\n") }
}
