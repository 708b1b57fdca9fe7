//! Names of causes, as in results, `doctor`, `paths` and the wire protocol.

use std::collections::BTreeSet;

use crate::golden;
use crate::result_file::{cells, references};

#[test]
fn cause_words_are_those_of_the_golden_list() {
    // The schema does not enumerate the causes, so the list comes from the library.
    let words: BTreeSet<&str> = peerpath_paths::Cause::ALL.iter().map(|cause| cause.as_str()).collect();
    let text: String = words.iter().map(|word| format!("{word}\n")).collect();
    golden::check("causes.txt", &text);
}

#[test]
fn causes_of_kept_results_are_in_the_golden_list() {
    let text = golden::read("causes.txt");
    let known: BTreeSet<&str> = golden::lines(&text).collect();
    for file in references() {
        for cell in cells(&file) {
            let blockers = cell["path"]["blockers"].as_array().cloned().unwrap_or_default();
            for word in blockers.iter().chain([&cell["cause"]]).filter_map(|word| word.as_str()) {
                assert!(known.contains(word), "{}: {word}", file.display());
            }
        }
    }
}
