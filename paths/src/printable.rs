//! Makes untrusted text printable in a terminal, in a log, and in a report.
//!
//! Other hosts and users may have written the names of files, devices and sources, the texts of a peer, and everything in a
//! snapshot or a result. An escape sequence in such text controls the terminal. A bidirectional or invisible character makes a
//! line look like another one.

/// Replaces what is not visible: white space becomes a space, and every character without a glyph of its own becomes U+FFFD.
/// These are control characters, formatting characters (bidirectional controls, zero-width characters, tags), private and
/// unassigned code points, and the invisible letters and marks. The result has one line.
///
/// ```
/// assert_eq!(peerpath_paths::printable("mlx5_0\n\u{1b}[31m\u{202e}"), "mlx5_0 \u{fffd}[31m\u{fffd}");
/// ```
pub fn printable(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// Makes text printable and limits its length. Text that was cut ends with the number of missing characters.
pub fn printable_within(text: &str, most_characters: usize) -> String {
    let mut kept: String = text.chars().take(most_characters).map(visible).collect();
    let missing = if text.len() > most_characters { text.chars().skip(most_characters).count() } else { 0 };
    if missing > 0 {
        kept += &format!("… ({missing} more characters)");
    }
    kept
}

/// As [`printable`], for text of several lines: keeps line feeds.
pub fn printable_lines(text: &str) -> String {
    text.chars().map(|character| if character == '\n' { character } else { visible(character) }).collect()
}

fn visible(character: char) -> char {
    match character {
        ' '..='~' => character,
        _ if character.is_whitespace() => ' ',
        _ if has_glyph(character) => character,
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// Whether a character has a glyph: the standard library prints it unchanged, and it is not one of the invisible letters and marks
/// of `is_ignorable`. The tables of the standard library cover everything else.
fn has_glyph(character: char) -> bool {
    // The character follows a letter, so that combining marks count as printable.
    let mut text = [b'a'; 5];
    let length = character.encode_utf8(&mut text[1..]).len();
    let text = std::str::from_utf8(&text[..=length]).unwrap_or_default();
    text.escape_debug().nth(1) == Some(character) && !is_ignorable(character)
}

/// Letters and marks without a glyph: those code points of `Default_Ignorable_Code_Point` that have the category of a letter or
/// a mark.
fn is_ignorable(character: char) -> bool {
    matches!(
        character,
        '\u{034f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn replaces_what_controls_a_terminal_or_reorders_a_line() {
        for text in [
            "\u{1b}",
            "\u{9b}",
            "\0",
            "\u{7f}",
            "\u{202e}",
            "\u{2066}",
            "\u{061c}",
            "\u{200b}",
            "\u{200d}",
            "\u{feff}",
            "\u{ad}",
            "\u{e0041}",
            "\u{e0100}",
            "\u{fe0f}",
            "\u{3164}",
            "\u{fff9}",
            "\u{ffff}",
            "\u{e000}",
        ] {
            assert_eq!(printable(text), "\u{fffd}", "{text:?}");
        }
        assert_eq!(printable("a\tb\r\nc\u{2028}d\u{a0}e\u{85}f"), "a b  c d e f");
        assert_eq!(printable_lines("a\u{1b}\nb\r"), "a\u{fffd}\nb ");
    }

    #[test]
    fn keeps_text_of_every_script() {
        for text in ["0000:03:00.0:2", "Größe", "e\u{301}", "данные", "数据", "データ", "ข้อมูล", "μs · → “x” \\ ' \""]
        {
            assert_eq!(printable(text), text);
        }
    }

    #[test]
    fn counts_missing_characters_of_long_text() {
        assert_eq!(printable_within("mlx5_0", 6), "mlx5_0");
        assert_eq!(printable_within("éééé", 4), "éééé");
        assert_eq!(printable_within("éééé\u{1b}", 3), "ééé… (2 more characters)");
    }

    proptest! {
        /// proptest takes the character properties from the tables of regex-syntax, not from those of the standard library.
        #[test]
        fn no_invisible_character_is_left(
            text in "[\\p{Cc}\\p{Cf}\\p{Co}\\p{Zl}\\p{Zp}\\p{Bidi_Control}\\p{Default_Ignorable_Code_Point}\\p{Noncharacter_Code_Point}]{1,40}"
        ) {
            prop_assert!(printable(&text).chars().all(|character| [' ', '\u{fffd}'].contains(&character)), "{text:?}");
        }

        #[test]
        fn letters_digits_marks_and_punctuation_are_kept(
            text in "[[\\p{Lu}\\p{Ll}\\p{Nd}\\p{P}\\p{Sm}\\p{Mn}]--\\p{Default_Ignorable_Code_Point}]{0,40}"
        ) {
            prop_assert_eq!(printable(&text), text);
        }

        #[test]
        fn a_second_pass_changes_nothing(text: String, limit in 0_usize..40) {
            let once = printable(&text);
            prop_assert_eq!(printable(&once), once.clone());
            prop_assert_eq!(once.chars().count(), text.chars().count());
            let cut = printable_within(&text, limit);
            prop_assert_eq!(printable(&cut), cut.clone());
            prop_assert_eq!(printable_lines(&once), once);
        }
    }
}
