//! The end of a run: the path and the figures of each pair in a sentence.

use peerpath_paths::printable;
use peerpath_report::document::Document;

use crate::text_layout::hanging;

/// Maximum number of pairs of source and target. The report shows all of them.
const MOST_PAIRS: usize = 8;

/// The conclusions of a result; empty if the result could not be read or has no cell.
pub(super) fn render(document: &Document, width: usize) -> String {
    let sentences = document.conclusions();
    let mut text = String::new();
    for sentence in sentences.iter().take(MOST_PAIRS) {
        text += &hanging("", 2, &printable(sentence), width);
    }
    if sentences.len() > MOST_PAIRS {
        text +=
            &format!("and {} more pairs of source and target: see `peerpath report`\n", sentences.len() - MOST_PAIRS);
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}
