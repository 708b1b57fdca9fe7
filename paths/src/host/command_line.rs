//! The kernel command line.

/// The parameters in order, split as the kernel does: at white space outside of double quotes, up to a separate `--`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    parameters: Vec<(String, String)>,
}

impl CommandLine {
    /// Parses `/proc/cmdline`.
    pub fn parse(text: &str) -> Self {
        let mut quoted = false;
        let parameters = text.split(|character: char| {
            quoted ^= character == '"';
            !quoted && character.is_whitespace()
        });
        let parameters = parameters
            .map(|text| text.replace('"', ""))
            .filter(|text| !text.is_empty())
            .take_while(|text| text != "--")
            .map(|text| match text.split_once('=') {
                Some((name, value)) => (name.replace('-', "_"), value.to_owned()),
                None => (text.replace('-', "_"), String::new()),
            })
            .collect();
        Self { parameters }
    }

    /// The values of a parameter, in order. The kernel treats dashes and underscores in names alike; `name` has underscores.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.parameters.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether swiotlb is forced: one `swiotlb=` parameter has the mode `force`, and none has `noforce`, which takes precedence.
    pub fn swiotlb_forced(&self) -> bool {
        let modes: Vec<_> = self.values("swiotlb").map(swiotlb_mode).collect();
        modes.contains(&"force") && !modes.contains(&"noforce")
    }

    /// The parameters by name and value.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// The mode in a value of `swiotlb=`; it follows the optional numbers of slabs and areas.
fn swiotlb_mode(value: &str) -> &str {
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
    fn parses_swiotlb_as_the_kernel_does() {
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
    fn names_match_with_dash_and_underscore() {
        let line = CommandLine::parse("intel-iommu=on intel_iommu=sm_on");
        assert_eq!(line.values("intel_iommu").collect::<Vec<_>>(), ["on", "sm_on"]);
    }

    proptest! {
        #[test]
        fn accepts_any_text(text in ".*") {
            let _ = CommandLine::parse(&text).swiotlb_forced();
        }
    }
}
