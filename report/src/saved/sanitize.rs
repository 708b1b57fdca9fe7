//! Text from a file, made safe to print: of limited length, and without characters that control a terminal or reorder text.

/// Maximum length of the name of a device, an operation or a path, in characters.
const MAX_NAME: usize = 120;
/// Maximum length of a sentence or command line, in characters.
const MAX_SENTENCE: usize = 2000;

/// Makes a name safe to print: at most 120 characters, control and bidirectional characters replaced by U+FFFD.
///
/// A cut name ends with the number of missing characters.
pub fn clean_name(text: &str) -> String {
    clean(text, MAX_NAME)
}

/// Makes a sentence safe to print, as [`clean_name`] does, with at most 2000 characters.
pub fn clean_sentence(text: &str) -> String {
    clean(text, MAX_SENTENCE)
}

fn clean(text: &str, limit: usize) -> String {
    let mut kept: String = text.chars().take(limit).map(harmless).collect();
    if text.len() > kept.len() {
        let left = text.chars().count().saturating_sub(limit);
        if left > 0 {
            kept += &format!("… ({left} more characters)");
        }
    }
    kept
}

/// White space becomes a space. Control characters, invisible characters and those that reorder text become U+FFFD.
fn harmless(character: char) -> char {
    match character {
        '\t' | '\n' | '\r' => ' ',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => '\u{fffd}',
        // Not valid in XML or HTML.
        '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        character if character.is_control() => '\u{fffd}',
        character => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortens_long_text_and_counts_missing_characters() {
        assert_eq!(clean_name("mlx5_0"), "mlx5_0");
        let long = clean_name(&"é".repeat(1 << 20));
        assert!(long.chars().count() < 160, "{long}");
        assert!(long.contains("1048456 more characters"), "{long}");
    }

    #[test]
    fn replaces_control_and_bidirectional_characters() {
        assert_eq!(clean_name("a\u{1b}[31m\nb\u{202e}c\0"), "a\u{fffd}[31m b\u{fffd}c\u{fffd}");
    }
}
