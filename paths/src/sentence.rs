//! Turns the texts of errors and clauses into sentences.

/// The text with a capital first letter.
pub fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The text as a sentence: with a capital letter and one period at the end. An empty text stays empty.
pub fn sentence(text: &str) -> String {
    if text.is_empty() { String::new() } else { capitalized(text.trim_end_matches('.')) + "." }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_a_capital_letter_and_one_period() {
        assert_eq!(sentence("the file is empty"), "The file is empty.");
        assert_eq!(sentence("écrit."), "Écrit.");
        assert_eq!(sentence(""), "");
    }
}
