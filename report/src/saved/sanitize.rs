//! Makes text from a file safe to print: replaces control characters and limits the length.

use peerpath_paths::printable_within;

/// Maximum length of the name of a device, an operation or a path, in characters.
const MAX_NAME: usize = 120;
/// Maximum length of a sentence or command line, in characters.
const MAX_SENTENCE: usize = 2000;

/// Makes a name printable, with at most 120 characters. A cut name ends with the number of missing characters.
pub fn clean_name(text: &str) -> String {
    printable_within(text, MAX_NAME)
}

/// Makes a sentence printable, as [`clean_name`] does, with at most 2000 characters.
pub fn clean_sentence(text: &str) -> String {
    printable_within(text, MAX_SENTENCE)
}
