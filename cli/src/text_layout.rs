//! Text that fits a width: with a hanging indent, or shortened.

/// Wraps words into lines of at most `width` columns. `head` starts the first line; the words start at column `indent`.
pub(crate) fn hanging(head: &str, indent: usize, words: &str, width: usize) -> String {
    let mut text = String::new();
    let mut line = format!("{head:<indent$}");
    let mut columns = indent;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if columns > indent && columns + 1 + length > width {
            text += &(line + "\n");
            line = " ".repeat(indent);
            columns = indent;
        }
        if columns > indent {
            line.push(' ');
            columns += 1;
        }
        line += word;
        columns += length;
    }
    text + &line + "\n"
}

/// The text, cut to at most `limit` characters with an ellipsis.
pub(crate) fn shortened(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_only_a_text_that_is_too_long() {
        assert_eq!(shortened("four", 4), "four");
        assert_eq!(shortened("fives", 4), "fiv…");
    }

    #[test]
    fn wraps_words_below_the_first_word() {
        assert_eq!(hanging("name", 6, "one two three", 13), "name  one two\n      three\n");
        assert_eq!(hanging("a", 2, "unbreakable", 5), "a unbreakable\n");
    }
}
