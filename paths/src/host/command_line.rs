//! The kernel command line.

use crate::KernelVersion;
use crate::kernel_rules::{KernelRules, SwiotlbWords};

/// The parameters of the kernel command line, in order. They are split as the kernel does: at white space outside of double
/// quotes, up to a separate `--`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    parameters: Vec<(String, String)>,
}

/// The longest command line that is read, in bytes. `COMMAND_LINE_SIZE` is 2048 on x86 and arm64, and a few KiB elsewhere.
const LIMIT_BYTES: usize = 64 << 10;

impl CommandLine {
    /// Whether the text is short enough for a kernel command line. Longer text is not read.
    pub(crate) fn is_possible(text: &str) -> bool {
        text.len() <= LIMIT_BYTES
    }

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
    /// Depending on its version, the kernel compares the mode as a whole word or as a prefix; `None` if `kernel` is unknown and
    /// the results differ.
    pub fn swiotlb_forced(&self, kernel: Option<KernelVersion>) -> Option<bool> {
        let forced = |words| {
            let modes: Vec<_> = self.values("swiotlb").filter_map(|value| swiotlb_mode(value, words)).collect();
            modes.contains(&SwiotlbMode::Force) && !modes.contains(&SwiotlbMode::NoForce)
        };
        KernelRules::fact(kernel, |rules| forced(rules.swiotlb_words))
    }

    /// The parameter that sets the default type of IOMMU domains, and whether that type is identity; `None` if no parameter sets
    /// it, and the configuration of the kernel decides. The last parameter applies (`iommu_set_def_domain_type`,
    /// drivers/iommu/iommu.c, and `iommu_setup`, arch/x86/kernel/pci-dma.c). `x86`: whether the processor is or may be x86.
    pub(crate) fn default_domain(&self, x86: bool) -> Option<(&'static str, bool)> {
        let words = self.parameters().flat_map(|(name, value)| value.split(',').map(move |word| (name, word)));
        let setting = |(name, word): (&str, &str)| match name {
            "iommu" if x86 && word.starts_with("pt") => Some(("iommu=pt", true)),
            "iommu" if x86 && word.starts_with("nopt") => Some(("iommu=nopt", false)),
            "iommu.passthrough" => match *word.as_bytes() {
                [b'1' | b'y' | b'Y' | b't' | b'T', ..] | [b'o' | b'O', b'n' | b'N', ..] => {
                    Some(("iommu.passthrough=1", true))
                }
                [b'0' | b'n' | b'N' | b'f' | b'F', ..] | [b'o' | b'O', b'f' | b'F', ..] => {
                    Some(("iommu.passthrough=0", false))
                }
                _ => None,
            },
            _ => None,
        };
        words.filter_map(setting).last()
    }

    /// The parameters by name and value.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SwiotlbMode {
    Force,
    NoForce,
}

/// The mode in a value of `swiotlb=`; it follows the optional numbers of slabs and areas (`setup_io_tlb_npages`,
/// kernel/dma/swiotlb.c).
fn swiotlb_mode(value: &str, words: SwiotlbWords) -> Option<SwiotlbMode> {
    let mut rest = value;
    for _ in 0..2 {
        rest = after_number(rest);
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    let is = |word: &str| match words {
        SwiotlbWords::Whole => rest == word,
        SwiotlbWords::Prefix => rest.starts_with(word),
    };
    if is("force") {
        Some(SwiotlbMode::Force)
    } else if is("noforce") {
        Some(SwiotlbMode::NoForce)
    } else {
        None
    }
}

/// The text after a number, as `simple_strtoul` with base 0 reads it: hexadecimal after `0x`, octal after `0`, otherwise decimal.
fn after_number(text: &str) -> &str {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match hexadecimal.filter(|digits| digits.starts_with(|digit: char| digit.is_ascii_hexdigit())) {
        Some(digits) => digits.trim_start_matches(|digit: char| digit.is_ascii_hexdigit()),
        None if text.starts_with('0') => text.trim_start_matches(|digit: char| digit.is_digit(8)),
        None => text.trim_start_matches(|digit: char| digit.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V7_2: Option<KernelVersion> = Some(KernelVersion { major: 7, minor: 2 });
    const V7_3: Option<KernelVersion> = Some(KernelVersion { major: 7, minor: 3 });

    #[test]
    fn parses_swiotlb_as_the_kernel_does() {
        for (text, whole, prefix) in [
            ("swiotlb=force", true, true),
            ("quiet swiotlb=65536,force", true, true),
            ("swiotlb=0x8000,4,force", true, true),
            ("swiotlb=,force", true, true),
            ("swiotlb=65536force", true, true),
            ("swiotlb=\"force\"", true, true),
            ("swiotlb=1024 swiotlb=force", true, true),
            ("swiotlb=noforce", false, false),
            ("swiotlb=force swiotlb=noforce", false, false),
            ("swiotlb=65536", false, false),
            ("xswiotlb=force", false, false),
            ("-- swiotlb=force", false, false),
            ("note=\"a swiotlb=force b\"", false, false),
            ("", false, false),
            ("swiotlb=forced", false, true),
            ("swiotlb=force,track_hiwater", false, true),
            ("swiotlb=65536,2,force,track_hiwater", false, true),
            ("swiotlb=noforced swiotlb=force", true, false),
            ("swiotlb=Force", false, false),
            ("swiotlb=1,2,3,force", false, false),
            // An octal number ends before the digit 8, which then is the number of areas.
            ("swiotlb=08,force", true, true),
            ("swiotlb=08,4,force", false, false),
            ("swiotlb=0x,force", false, false),
        ] {
            let line = CommandLine::parse(text);
            assert_eq!(line.swiotlb_forced(V7_2), Some(whole), "{text:?} as whole word");
            assert_eq!(line.swiotlb_forced(V7_3), Some(prefix), "{text:?} as prefix");
            assert_eq!(line.swiotlb_forced(None), (whole == prefix).then_some(whole), "{text:?}");
        }
    }

    #[test]
    fn the_last_parameter_sets_the_default_domain() {
        for (text, x86, other) in [
            ("quiet iommu=pt", Some(("iommu=pt", true)), None),
            ("iommu=soft,pt", Some(("iommu=pt", true)), None),
            ("iommu=pt iommu=nopt", Some(("iommu=nopt", false)), None),
            ("iommu.passthrough=0 iommu=pt", Some(("iommu=pt", true)), Some(("iommu.passthrough=0", false))),
            ("iommu.passthrough=on", Some(("iommu.passthrough=1", true)), Some(("iommu.passthrough=1", true))),
            ("iommu.passthrough=x intel_iommu=on iommu.strict=1 iommu=force", None, None),
            ("-- iommu=pt", None, None),
        ] {
            let line = CommandLine::parse(text);
            assert_eq!(line.default_domain(true), x86, "{text:?}");
            assert_eq!(line.default_domain(false), other, "{text:?}");
        }
    }

    #[test]
    fn names_match_with_dash_and_underscore() {
        let line = CommandLine::parse("intel-iommu=on intel_iommu=sm_on");
        assert_eq!(line.values("intel_iommu").collect::<Vec<_>>(), ["on", "sm_on"]);
    }

    proptest! {
        #[test]
        fn accepts_any_text(text in "(swiotlb=)?.*") {
            let line = CommandLine::parse(&text);
            for kernel in [None, V7_2, V7_3] {
                let _ = line.swiotlb_forced(kernel);
            }
        }
    }
}
