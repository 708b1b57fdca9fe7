//! Lists of sources, separated by commas.

use crate::Source;

/// Splits names of sources at the commas between them. A comma between two ranges of a BAR belongs to the name. A comma in the
/// path of a socket does too, unless the name of a source follows the comma.
pub fn split_sources(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(',') {
        let (name, rest) = (&text[start..at], &text[at + 1..]);
        let next = rest.split(',').next().unwrap_or_default();
        let is_part_of_name = if name.starts_with("socket:") {
            next.parse::<Source>().is_err()
        } else {
            name.contains('@') && !next.contains(':')
        };
        if !is_part_of_name {
            names.push(name);
            start = at + 1;
        }
    }
    names.push(&text[start..]);
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_comma_between_ranges_or_in_a_path_does_not_end_the_name() {
        for (text, names) in [
            ("host:1M", &["host:1M"][..]),
            ("host:1M,heap:2M", &["host:1M", "heap:2M"]),
            ("03:00.0:2@0+4K,8K+4K,host:1M", &["03:00.0:2@0+4K,8K+4K", "host:1M"]),
            ("03:00.0:2@0+4K,04:00.0:0@0+4K,8K+4K", &["03:00.0:2@0+4K", "04:00.0:0@0+4K,8K+4K"]),
            ("socket:/run/a,b,host:1M", &["socket:/run/a,b", "host:1M"]),
            ("host:1M,", &["host:1M", ""]),
            ("", &[""]),
        ] {
            assert_eq!(split_sources(text), names, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn splits_what_was_joined(ranges in proptest::collection::vec((0u64..9, 1u64..9), 0..3), sizes in proptest::collection::vec(1u64..99, 0..3)) {
            let ranges: Vec<_> = ranges.iter().map(|(offset, length)| format!("{offset}+{length}")).collect();
            let at = if ranges.is_empty() { "" } else { "@" };
            let mut names = vec![format!("0000:03:00.0:2{at}{}", ranges.join(","))];
            names.extend(sizes.iter().map(|size| format!("host:{size}K")));
            let list = names.join(",");
            prop_assert_eq!(split_sources(&list), names);
        }

        #[test]
        fn omits_nothing_but_commas(text in ".*") {
            let names = split_sources(&text).join(",");
            prop_assert_eq!(names, text);
        }
    }
}
