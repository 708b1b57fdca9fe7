//! Facts about a host that the caller supplies in addition to its files: the kernel command line and the processor.

use std::collections::BTreeMap;
use std::io;

use super::{Node, Source};
use crate::host::cpu;

/// Files that replace or complete those of another source.
pub(super) struct Overlay {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) below: Box<dyn Source>,
}

impl Overlay {
    /// Whether a file of the overlay is below the path.
    fn is_above_a_file(&self, path: &str) -> bool {
        self.files
            .keys()
            .any(|file| path.is_empty() || file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }
}

impl Source for Overlay {
    fn node(&self, path: &str) -> io::Result<Node> {
        if self.files.contains_key(path) {
            return Ok(Node::File);
        }
        match self.below.node(path) {
            Err(_) if self.is_above_a_file(path) => Ok(Node::Directory),
            node => node,
        }
    }

    fn load(&self, path: &str) -> Option<Vec<u8>> {
        self.files.get(path).cloned().or_else(|| self.below.load(path))
    }

    /// Does not list the files of the overlay: no reader lists the directories that contain them.
    fn names(&self, path: &str) -> io::Result<Vec<String>> {
        self.below.names(path)
    }

    fn resolve(&self, path: &str) -> Option<String> {
        if self.files.contains_key(path) { Some(path.to_owned()) } else { self.below.resolve(path) }
    }
}

/// Keys in the output of `lscpu`, and the keys of `/proc/cpuinfo` with the same meaning.
const LSCPU_KEYS: &[(&str, &str)] = &[
    ("Vendor ID", "vendor_id"),
    ("CPU family", "cpu family"),
    ("Model name", "model name"),
    ("Flags", "flags"),
    ("Architecture", "Architecture"),
];

/// The key of `/proc/cpuinfo` for a key of that file or of `lscpu`.
fn known_key(key: &str) -> Option<&'static str> {
    let lscpu = LSCPU_KEYS.iter().find(|(theirs, _)| *theirs == key).map(|(_, known)| *known);
    lscpu.or_else(|| cpu::KEYS.iter().copied().find(|known| *known == key))
}

/// Whether a line is one of `/proc/cpuinfo` or `lscpu` that names the processor.
pub(super) fn is_about_the_processor(line: &str) -> bool {
    let key = line.split(':').next().unwrap_or_default().trim_end();
    line.contains(':')
        && matches!(
            known_key(key),
            Some("vendor_id" | "cpu family" | "model name" | "CPU implementer" | "hart" | "isa" | "Architecture")
        )
}

/// The text of `/proc/cpuinfo` for a description of a processor. The description is one of: the content of `/proc/cpuinfo`; the
/// output of `lscpu`; a line of the kernel log that contains the CPU family; `VENDOR:FAMILY`, e.g. `AuthenticAMD:25`; a model
/// name. `None` if the description does not show the vendor.
pub(super) fn cpuinfo(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let kept = from_lines(text);
    if !kept.is_empty() {
        return Some(kept);
    }
    vendor_and_family(text).or_else(|| from_model(text.lines().next()?))
}

/// The lines of `/proc/cpuinfo` or `lscpu` that `Cpu::parse` uses. `lscpu` prints a vendor for every processor, `/proc/cpuinfo`
/// only for x86 and s390, so the architecture decides whether the vendor is kept.
fn from_lines(text: &str) -> String {
    let pairs = || text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.trim(), value.trim()));
    let architecture = pairs().find(|(key, _)| *key == "Architecture").map(|(_, value)| value);
    let has_vendor = match architecture {
        Some(name) => matches!(name, "x86_64" | "i386" | "i486" | "i586" | "i686" | "s390" | "s390x"),
        None => true,
    };
    let mut kept = String::new();
    for (key, value) in pairs() {
        let Some(known) = known_key(key) else { continue };
        match known {
            "Architecture" if value.starts_with("aarch64") => kept += &implementer(),
            "Architecture" if value.starts_with("riscv") => kept += "hart\t: 0\n",
            "Architecture" => {}
            "vendor_id" if !has_vendor => {}
            "vendor_id" if key == "Vendor ID" && is_arm_vendor(value) => kept += &implementer(),
            _ => kept += &format!("{known}\t: {value}\n"),
        }
        // lscpu prints the processor of a POWER machine as the name of the model.
        if key == "Model name" && value.starts_with("POWER") {
            kept += &format!("cpu\t: {value}\n");
        }
    }
    kept
}

/// A line that only an Arm processor has. `Cpu::parse` does not use the number.
fn implementer() -> String {
    "CPU implementer\t: 0x41\n".to_owned()
}

/// Whether `lscpu` prints this vendor for Arm processors (`hw_implementer` in sys-utils/lscpu-arm.c of util-linux).
fn is_arm_vendor(vendor: &str) -> bool {
    const VENDORS: &[&str] = &[
        "ARM",
        "Broadcom",
        "Cavium",
        "DEC",
        "FUJITSU",
        "HiSilicon",
        "NVIDIA",
        "APM",
        "Qualcomm",
        "Apple",
        "Phytium",
        "Ampere",
    ];
    VENDORS.contains(&vendor)
}

/// Parses `AuthenticAMD:25`, `amd:0x19` or `GenuineIntel`.
fn vendor_and_family(text: &str) -> Option<String> {
    let (vendor, family) = match text.split_once(':') {
        Some((vendor, family)) => (vendor, Some(number(family.trim())?)),
        None => (text, None),
    };
    let vendor = match vendor.trim().to_ascii_lowercase().as_str() {
        "amd" | "authenticamd" => "AuthenticAMD",
        "intel" | "genuineintel" => "GenuineIntel",
        "hygon" | "hygongenuine" => "HygonGenuine",
        _ => return None,
    };
    Some(lines(vendor, family, None))
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn lines(vendor: &str, family: Option<u32>, model: Option<&str>) -> String {
    let mut text = format!("vendor_id\t: {vendor}\n");
    text.extend(family.map(|family| format!("cpu family\t: {family}\n")));
    text.extend(model.map(|model| format!("model name\t: {model}\n")));
    text
}

/// Parses a name such as `AMD EPYC 7763 64-Core Processor`, or a line of the kernel log that contains one.
fn from_model(text: &str) -> Option<String> {
    let name = text.rsplit("CPU0: ").next().unwrap_or(text).split(" (family").next().unwrap_or(text).trim();
    let words: Vec<&str> = name.split(|character: char| !character.is_ascii_alphanumeric()).collect();
    let has = |wanted: &[&str]| wanted.iter().any(|wanted| words.iter().any(|word| word.eq_ignore_ascii_case(wanted)));
    let logged = text.split("(family: ").nth(1).and_then(|rest| number(rest.split([',', ')']).next()?.trim()));
    if has(&["AMD", "EPYC", "Ryzen", "Threadripper", "Opteron"]) {
        return Some(lines("AuthenticAMD", logged.or_else(|| amd_family(&words)), Some(name)));
    }
    if has(&["Hygon"]) {
        return Some(lines("HygonGenuine", logged, Some(name)));
    }
    if has(&["Intel", "Xeon", "Pentium", "Celeron"]) {
        return Some(lines("GenuineIntel", logged, Some(name)));
    }
    if words.iter().any(|word| word.starts_with("POWER") && word[5..].starts_with(|digit: char| digit.is_ascii_digit()))
    {
        return Some(format!("cpu\t: {name}\n"));
    }
    const ARM: &[&str] = &[
        "ARM",
        "ARMv8",
        "aarch64",
        "Neoverse",
        "Cortex",
        "Ampere",
        "Altra",
        "Graviton",
        "Kunpeng",
        "Grace",
        "ThunderX2",
    ];
    has(ARM).then(|| format!("{}model name\t: {name}\n", implementer()))
}

/// The CPU family of an AMD model, from the numbering of its series; `None` if the number does not show it.
fn amd_family(words: &[&str]) -> Option<u32> {
    const ZEN: u32 = 23;
    const ZEN_3: u32 = 25;
    const ZEN_5: u32 = 26;
    let position = |wanted: &str| words.iter().position(|word| word.eq_ignore_ascii_case(wanted));
    let number_after =
        |at: usize| words[at..].iter().find(|word| word.len() >= 4 && word.starts_with(|c: char| c.is_ascii_digit()));
    let digit = |word: &str, at: usize| word.chars().nth(at).and_then(|digit| digit.to_digit(10));
    if let Some(at) = position("EPYC") {
        let generation = |name: &str| words[at..].contains(&name);
        if generation("Rome") || generation("Naples") {
            return Some(ZEN);
        } else if generation("Milan") || generation("Genoa") {
            return Some(ZEN_3);
        } else if generation("Turin") {
            return Some(ZEN_5);
        }
        // The fourth character of 7763, 7H12, 9654P or 9V74 is the generation.
        return match digit(number_after(at)?, 3)? {
            1 | 2 => Some(ZEN),
            3 | 4 => Some(ZEN_3),
            5 => Some(ZEN_5),
            _ => None,
        };
    }
    if let Some(at) = position("Threadripper") {
        return match digit(number_after(at)?, 0)? {
            1..=3 => Some(ZEN),
            5 | 7 => Some(ZEN_3),
            9 => Some(ZEN_5),
            _ => None,
        };
    }
    if let Some(at) = position("Ryzen") {
        let model = number_after(at)?;
        // The numbers of laptop models do not show the generation of the core.
        let is_desktop = matches!(&model[4..], "" | "X" | "XT" | "X3D" | "G" | "GE" | "F" | "GT");
        return match digit(model, 0)? {
            1..=3 => Some(ZEN),
            5 | 7 | 8 if is_desktop => Some(ZEN_3),
            9 if is_desktop => Some(ZEN_5),
            _ => None,
        };
    }
    let model = number_after(position("Opteron")?)?;
    match (digit(model, 0)?, digit(model, 1)?) {
        (3 | 4 | 6, 2 | 3) => Some(21),
        (4 | 6, 1) => Some(16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Architecture, Cpu};
    use proptest::prelude::*;

    fn vendor_family(text: &str) -> Option<(Option<String>, Option<u32>)> {
        cpuinfo(text).map(|text| Cpu::parse(&text)).map(|cpu| (cpu.vendor, cpu.family))
    }

    #[test]
    fn understands_descriptions_of_amd_processors() {
        for (text, family) in [
            ("AuthenticAMD:25", Some(25)),
            ("amd:0x17", Some(23)),
            ("AMD EPYC 7551 32-Core Processor", Some(23)),
            ("AMD EPYC 7H12 64-Core Processor", Some(23)),
            ("AMD EPYC 7763 64-Core Processor", Some(25)),
            ("AMD EPYC 9654P 96-Core Processor", Some(25)),
            ("AMD EPYC 9575F 64-Core Processor", Some(26)),
            ("AMD EPYC-Milan Processor", Some(25)),
            ("AMD Ryzen Threadripper PRO 7995WX 96-Cores", Some(25)),
            ("AMD Ryzen 9 5950X 16-Core Processor", Some(25)),
            ("AMD Ryzen 7 5700U with Radeon Graphics", None),
            ("AMD Opteron(tm) Processor 6276", Some(21)),
            (
                "[    0.1] smpboot: CPU0: AMD EPYC 7742 64-Core Processor (family: 0x17, model: 0x31, stepping: 0x0)",
                Some(23),
            ),
            ("Architecture: x86_64\nVendor ID:   AuthenticAMD\nModel name: AMD EPYC 7763\nCPU family:  25\n", Some(25)),
            ("processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\n", Some(23)),
        ] {
            assert_eq!(vendor_family(text), Some((Some("AuthenticAMD".into()), family)), "{text}");
        }
    }

    #[test]
    fn understands_other_processors() {
        assert_eq!(
            vendor_family("Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz").unwrap().0.as_deref(),
            Some("GenuineIntel")
        );
        assert_eq!(vendor_family("GenuineIntel:6"), Some((Some("GenuineIntel".into()), Some(6))));
        assert_eq!(Cpu::parse(&cpuinfo("Ampere Altra Q80-30").unwrap()).trusted_for_p2p(), Some(false));
        assert!(Cpu::parse(&cpuinfo("POWER9, altivec supported").unwrap()).legacy_dma.is_some());
        assert!(Cpu::parse(&cpuinfo("Model name: POWER9\n").unwrap()).legacy_dma.is_some());
        assert_eq!((cpuinfo("a fast one"), cpuinfo(" "), cpuinfo("x:25")), (None, None, None));
    }

    #[test]
    fn lscpu_of_another_architecture_is_not_taken_for_x86() {
        let architecture = |text: &str| cpuinfo(text).and_then(|text| Cpu::parse(&text).architecture);
        let arm = "Architecture:   aarch64\nVendor ID:   ARM\n  Model name:  Neoverse-N1\n";
        assert_eq!(architecture(arm), Some(Architecture::Arm64));
        assert_eq!(architecture("Vendor ID:   Ampere\nModel name: Ampere-1a\n"), Some(Architecture::Arm64));
        assert_eq!(architecture("Architecture: s390x\nVendor ID: IBM/S390\n"), Some(Architecture::Other));
        assert_eq!(architecture("Architecture: riscv64\n"), Some(Architecture::Other));
        assert_eq!(architecture("Architecture: x86_64\nVendor ID: GenuineIntel\n"), Some(Architecture::X86));
        let power = architecture("Architecture: ppc64le\nModel name: POWER9, altivec supported\n");
        assert!(matches!(power, Some(Architecture::Power { .. })));
    }

    proptest! {
        #[test]
        fn accepts_any_text(text in "(AMD|EPYC|Ryzen|Opteron|POWER|CPU0: |\\(family: |:| |\n|[0-9A-Z]|.){0,20}") {
            let _ = cpuinfo(&text);
        }
    }
}
