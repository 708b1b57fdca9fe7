//! The processor, from `/proc/cpuinfo`.

use std::collections::HashMap;

/// Keys of the lines of `/proc/cpuinfo` that this module reads. A snapshot keeps at least these lines.
pub(crate) const KEYS: &[&str] = &[
    "vendor_id",
    "cpu family",
    "model name",
    "flags",
    "CPU implementer",
    "cpu",
    "platform",
    "type",
    "hart",
    "isa",
    "Model",
    "machine",
    "Hardware",
];

/// The first processor of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Vendor: `AuthenticAMD` or `GenuineIntel` (x86), `IBM/S390`; `None` on other architectures.
    pub vendor: Option<String>,
    /// CPU family, including the extended family; x86 only.
    pub family: Option<u32>,
    /// Model name, as the processor reports it.
    pub model_name: Option<String>,
    /// Feature flags; x86 only.
    pub flags: Vec<String>,
    /// DMA operations specific to the platform; `None` if the platform uses the generic code.
    pub legacy_dma: Option<LegacyDma>,
    /// Architecture of the processor; `None` if the text of `/proc/cpuinfo` does not show it.
    pub architecture: Option<Architecture>,
    /// Name of the machine or board, where `/proc/cpuinfo` contains one (`Raspberry Pi 5 Model B`).
    pub machine: Option<String>,
}

/// Architecture of a processor. Boot options and IOMMUs depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// x86, 32 or 64 bits.
    X86,
    /// 64-bit Arm.
    Arm64,
    /// POWER.
    Power {
        /// Whether a hypervisor owns the machine (platform `pSeries`).
        is_guest: bool,
    },
    /// Another architecture.
    Other,
}

/// A platform whose DMA operations are not the generic ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LegacyDma {
    /// POWER, which maps DMA through TCE tables. They accept MMIO without a check (`iommu_map_phys`,
    /// arch/powerpc/kernel/iommu.c).
    PowerTce,
    /// SPARC, which rejects MMIO (arch/sparc/kernel/iommu.c, pci_sun4v.c).
    Sparc,
    /// Alpha, which rejects MMIO (arch/alpha/kernel/pci_iommu.c).
    Alpha,
}

impl LegacyDma {
    /// Name of the platform's DMA operations, as the subject of a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PowerTce => "POWER's TCE tables",
            Self::Sparc => "SPARC's IOMMU",
            Self::Alpha => "Alpha's PCI IOMMU",
        }
    }

    /// Whether the platform's DMA operations reject every mapping of MMIO.
    pub fn rejects_mmio(self) -> bool {
        match self {
            Self::PowerTce => false,
            Self::Sparc | Self::Alpha => true,
        }
    }
}

impl Cpu {
    /// CPU family of the first Zen processors, the oldest AMD family that P2PDMA trusts.
    const ZEN_FAMILY: u32 = 0x17;

    /// Parses `/proc/cpuinfo`: the first processor, and the lines at the end that describe the whole machine (POWER prints them).
    pub fn parse(text: &str) -> Self {
        let pairs =
            || text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.trim(), value.trim()));
        let mut first: HashMap<&str, &str> = HashMap::new();
        for (key, value) in pairs() {
            first.entry(key).or_insert(value);
        }
        let get = |key: &str| first.get(key).map(|value| (*value).to_owned());
        Self {
            vendor: get("vendor_id"),
            family: first.get("cpu family").and_then(|family| family.parse().ok()),
            model_name: get("model name"),
            flags: first.get("flags").map(|flags| flags.split(' ').map(str::to_owned).collect()).unwrap_or_default(),
            legacy_dma: legacy(&first),
            architecture: architecture(&first),
            machine: get("Model").or_else(|| get("machine")).or_else(|| get("Hardware")),
        }
    }

    /// Whether P2PDMA trusts every host bridge of the processor. It trusts AMD processors since Zen, but neither Hygon nor other
    /// vendors. `None` if the family is unknown.
    pub fn trusted_for_p2p(&self) -> Option<bool> {
        match (self.vendor.as_deref(), self.family) {
            (Some("AuthenticAMD"), Some(family)) => Some(family >= Self::ZEN_FAMILY),
            (Some("AuthenticAMD"), None) => None,
            _ => Some(false),
        }
    }

    /// Whether the architecture is x86, 32 or 64 bits.
    pub fn is_x86(&self) -> bool {
        self.architecture == Some(Architecture::X86)
    }

    /// Whether the processor is that of a virtual machine, by the flag `hypervisor`; `false` on other architectures than x86.
    pub fn is_guest(&self) -> bool {
        self.has("hypervisor")
    }

    /// Whether the processor has a feature flag.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }
}

fn architecture(first: &HashMap<&str, &str>) -> Option<Architecture> {
    let has = |key: &str| first.contains_key(key);
    match legacy(first) {
        Some(LegacyDma::PowerTce) => {
            Some(Architecture::Power { is_guest: first.get("platform").is_some_and(|platform| *platform == "pSeries") })
        }
        Some(_) => Some(Architecture::Other),
        // s390 has the key `vendor_id` too.
        None if has("vendor_id") => Some(match first.get("vendor_id") {
            Some(&"IBM/S390") => Architecture::Other,
            _ => Architecture::X86,
        }),
        None if has("CPU implementer") => Some(Architecture::Arm64),
        None if has("hart") || has("isa") => Some(Architecture::Other),
        None => None,
    }
}

fn legacy(first: &HashMap<&str, &str>) -> Option<LegacyDma> {
    let starts = |key: &str, prefix: &str| first.get(key).is_some_and(|value| value.starts_with(prefix));
    let is = |key: &str, values: &[&str]| first.get(key).is_some_and(|value| values.contains(value));
    if is("platform", &["pSeries", "PowerNV"]) || starts("cpu", "POWER") {
        Some(LegacyDma::PowerTce)
    } else if is("type", &["sun4u", "sun4v"]) {
        Some(LegacyDma::Sparc)
    } else if is("cpu", &["Alpha"]) {
        Some(LegacyDma::Alpha)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trusted(vendor: &str, family: &str) -> Option<bool> {
        Cpu::parse(&format!("processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\n")).trusted_for_p2p()
    }

    #[test]
    fn trusts_only_amd_since_zen() {
        assert_eq!(trusted("AuthenticAMD", "23"), Some(true));
        assert_eq!(trusted("AuthenticAMD", "26"), Some(true));
        assert_eq!(trusted("AuthenticAMD", "22"), Some(false));
        assert_eq!(trusted("AuthenticAMD", "21"), Some(false));
        assert_eq!(trusted("HygonGenuine", "24"), Some(false));
        assert_eq!(trusted("GenuineIntel", "23"), Some(false));
        assert_eq!(trusted("AuthenticAMD", "0x17"), None);
        assert_eq!(Cpu::parse("CPU implementer\t: 0x41\n").trusted_for_p2p(), Some(false));
    }

    #[test]
    fn uses_the_first_processor() {
        let cpu = Cpu::parse("vendor_id : AuthenticAMD\ncpu family : 23\n\nvendor_id : GenuineIntel\ncpu family : 6\n");
        assert_eq!(cpu.trusted_for_p2p(), Some(true));
    }

    #[test]
    fn recognizes_power_and_sparc() {
        let text = "processor\t: 0\ncpu\t\t: POWER9 (architected), altivec supported\n\ntimebase\t: 512000000\nplatform\t: pSeries\n";
        assert_eq!(Cpu::parse(text).legacy_dma, Some(LegacyDma::PowerTce));
        assert_eq!(Cpu::parse("cpu\t\t: UltraSparc T2\ntype\t\t: sun4v\n").legacy_dma, Some(LegacyDma::Sparc));
        assert_eq!(Cpu::parse("vendor_id : GenuineIntel\n").legacy_dma, None);
    }

    #[test]
    fn s390_is_not_x86_although_it_has_a_vendor() {
        assert!(
            Cpu::parse("vendor_id       : IBM/S390\n# processors    : 4\n").architecture == Some(Architecture::Other)
        );
        assert!(Cpu::parse("vendor_id\t: HygonGenuine\n").is_x86());
    }

    proptest! {
        #[test]
        fn accepts_any_text(text in "(vendor_id|cpu family|flags|:| |\n|.){0,60}") {
            let _ = Cpu::parse(&text).trusted_for_p2p();
        }
    }
}
