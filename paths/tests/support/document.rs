//! Generated documents: a test compares the file with the text that the program's tables give.

use std::path::Path;

/// Compares a file below `docs` with `text`. With `PEERPATH_BLESS=1`, writes the file first.
#[track_caller]
pub(crate) fn agrees(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var("PEERPATH_BLESS").is_ok_and(|value| value == "1") {
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(text.lines()).find(|(found, wanted)| found != wanted);
    assert!(
        found == text,
        "docs/{name} differs from the tables, first at {differs:#?}.\nRun this test with PEERPATH_BLESS=1 to rewrite it."
    );
}
