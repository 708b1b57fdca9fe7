//! The kernel's command line.

/// Parameters in order, as the kernel splits them: at white space outside of double quotes, up to a lone `--`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    parameters: Vec<(String, String)>,
}

impl CommandLine {
    /// Reads `/proc/cmdline`.
    pub fn parse(text: &str) -> Self {
        let mut quoted = false;
        let words = text.split(|character: char| {
            quoted ^= character == '"';
            !quoted && character.is_whitespace()
        });
        let parameters = words
            .map(|word| word.replace('"', ""))
            .filter(|word| !word.is_empty())
            .take_while(|word| word != "--")
            .map(|word| match word.split_once('=') {
                Some((name, value)) => (name.replace('-', "_"), value.to_owned()),
                None => (word.replace('-', "_"), String::new()),
            })
            .collect();
        Self { parameters }
    }

    /// Every value that a parameter is given, in order. Dashes and underscores in the name are the same to the kernel.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.parameters.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether `swiotlb=` ends in `force`. One `noforce` switches bouncing off for good, wherever it stands.
    pub fn swiotlb_forced(&self) -> bool {
        let words: Vec<_> = self.values("swiotlb").map(swiotlb_word).collect();
        words.contains(&"force") && !words.contains(&"noforce")
    }

    /// The parameters by name and value.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// What stands behind the optional number of slabs and the optional number of areas.
fn swiotlb_word(value: &str) -> &str {
    let mut rest = value;
    for _ in 0..2 {
        rest = match rest.strip_prefix("0x") {
            Some(digits) => digits.trim_start_matches(|digit: char| digit.is_ascii_hexdigit()),
            None => rest.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        };
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn swiotlb_is_read_as_the_kernel_reads_it() {
        for (text, forced) in [
            ("swiotlb=force", true),
            ("quiet swiotlb=65536,force", true),
            ("swiotlb=0x8000,4,force", true),
            ("swiotlb=,force", true),
            ("swiotlb=65536force", true),
            ("swiotlb=\"force\"", true),
            ("swiotlb=1024 swiotlb=force", true),
            ("swiotlb=noforce", false),
            ("swiotlb=force swiotlb=noforce", false),
            ("swiotlb=forced", false),
            ("swiotlb=65536", false),
            ("xswiotlb=force", false),
            ("-- swiotlb=force", false),
            ("note=\"a swiotlb=force b\"", false),
            ("", false),
        ] {
            assert_eq!(CommandLine::parse(text).swiotlb_forced(), forced, "{text:?}");
        }
    }

    #[test]
    fn names_match_with_either_dash() {
        let line = CommandLine::parse("intel-iommu=on intel_iommu=sm_on");
        assert_eq!(line.values("intel_iommu").collect::<Vec<_>>(), ["on", "sm_on"]);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = CommandLine::parse(&text).swiotlb_forced();
        }
    }
}
