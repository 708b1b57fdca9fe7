//! Text from a file, fit to be shown: no longer than it has to be, and nothing in it that steers whoever shows it.

/// Longest name of a device, an operation, a path.
const LONGEST_NAME: usize = 120;
/// Longest sentence, and longest command line.
const LONGEST_SENTENCE: usize = 2000;

/// A name, shortened.
pub fn name(text: &str) -> String {
    clean(text, LONGEST_NAME)
}

/// A sentence, shortened.
pub fn sentence(text: &str) -> String {
    clean(text, LONGEST_SENTENCE)
}

fn clean(text: &str, longest: usize) -> String {
    let mut kept: String = text.chars().take(longest).map(harmless).collect();
    if text.len() > kept.len() {
        let left = text.chars().count().saturating_sub(longest);
        if left > 0 {
            kept += &format!("… ({left} more characters)");
        }
    }
    kept
}

/// Control characters, and those that turn the direction of text round or hide in it, show as what they are: out of place.
fn harmless(letter: char) -> char {
    match letter {
        '\t' | '\n' | '\r' => ' ',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => '\u{fffd}',
        // Neither has a place in a document.
        '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_shortened_and_says_so() {
        assert_eq!(name("mlx5_0"), "mlx5_0");
        let long = name(&"é".repeat(1 << 20));
        assert!(long.chars().count() < 160, "{long}");
        assert!(long.contains("1048456 more characters"), "{long}");
    }

    #[test]
    fn nothing_steers_the_reader() {
        assert_eq!(name("a\u{1b}[31m\nb\u{202e}c\0"), "a\u{fffd}[31m b\u{fffd}c\u{fffd}");
    }
}
