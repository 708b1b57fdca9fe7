//! The boot options of Linux for PCI and IOMMUs, as their parsers accept them (Linux 7.2 and 7.3: `pci_setup` in
//! drivers/pci/pci.c, `pcibios_setup` of the architectures, `iommu_setup` in arch/x86/kernel/pci-dma.c with
//! `gart_parse_options`, `intel_iommu_setup`, `parse_amd_iommu_options`, `setup_irqremap`, drivers/iommu/iommu.c).

use crate::{Architecture, Cpu, KernelVersion};

/// Processors whose kernel parses an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Any,
    X86,
    Intel,
    Amd,
    Power,
    Arm64,
    S390,
}

impl On {
    /// Whether the kernel of this processor parses the option; `true` if the processor is unknown.
    pub(super) fn includes(self, cpu: Option<&Cpu>) -> bool {
        let Some(cpu) = cpu else { return true };
        let Some(architecture) = cpu.architecture else { return true };
        let x86_vendor = |vendors: &[&str]| {
            // The virtual IOMMU of a guest can be from another vendor than its processor.
            let fits = cpu.vendor.as_deref().is_none_or(|vendor| vendors.contains(&vendor));
            architecture == Architecture::X86 && (fits || cpu.is_guest())
        };
        match self {
            Self::Any => true,
            Self::X86 => architecture == Architecture::X86,
            Self::Intel => x86_vendor(&["GenuineIntel", "CentaurHauls", "Shanghai"]),
            Self::Amd => x86_vendor(&["AuthenticAMD", "HygonGenuine"]),
            Self::Power => matches!(architecture, Architecture::Power { .. }),
            Self::Arm64 => architecture == Architecture::Arm64,
            Self::S390 => architecture == Architecture::Other,
        }
    }

    /// The processors, as the object of "applies to".
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Any => "every processor",
            Self::X86 => "x86 processors",
            Self::Intel => "Intel processors",
            Self::Amd => "AMD processors",
            Self::Power => "POWER processors",
            Self::Arm64 => "Arm processors",
            Self::S390 => "s390 processors",
        }
    }
}

/// One accepted word of a parameter's value.
#[derive(Debug)]
struct Word {
    /// The word. It ends with `=` if a value follows, and with `*` if the kernel compares only the text before the star.
    text: &'static str,
    on: On,
    /// The first kernel that accepts the word; `None` for words that are older than Linux 4.0.
    since: Option<KernelVersion>,
}

#[derive(Debug)]
struct Parameter {
    name: &'static str,
    on: On,
    /// The accepted words, separated by commas in the value; empty if the value is not checked.
    words: &'static [Word],
}

const fn any(text: &'static str) -> Word {
    Word { text, on: On::Any, since: None }
}

const fn x86(text: &'static str) -> Word {
    Word { text, on: On::X86, since: None }
}

const fn on(on: On, text: &'static str) -> Word {
    Word { text, on, since: None }
}

const fn since(text: &'static str, major: u16, minor: u16) -> Word {
    Word { text, on: On::Any, since: Some(KernelVersion { major, minor }) }
}

const SWITCH: &[Word] =
    &[any("0"), any("1"), any("on"), any("off"), any("y*"), any("n*"), any("Y*"), any("N*"), any("t*"), any("f*")];

const PCI: &[Word] = &[
    any("nomsi"),
    any("noats*"),
    any("noaer"),
    any("earlydump"),
    any("realloc="),
    any("realloc*"),
    any("nodomains"),
    any("noari*"),
    since("notph*", 6, 13),
    any("cbiosize="),
    any("cbmemsize="),
    any("resource_alignment="),
    any("ecrc="),
    any("hpiosize="),
    any("hpmmiosize="),
    any("hpmmioprefsize="),
    any("hpmemsize="),
    any("hpbussize="),
    any("pcie_bus_tune_off*"),
    any("pcie_bus_safe*"),
    any("pcie_bus_perf*"),
    any("pcie_bus_peer2peer*"),
    any("pcie_scan_all*"),
    since("disable_acs_redir=", 4, 19),
    since("config_acs=", 6, 11),
    x86("off"),
    x86("bfsort"),
    x86("nobfsort"),
    x86("bios"),
    x86("nobios"),
    x86("biosirq"),
    x86("pirqaddr="),
    x86("conf1"),
    x86("conf2"),
    x86("nommconf"),
    x86("check_enable_amd_mmconf"),
    x86("noacpi"),
    x86("noearly"),
    x86("usepirqmask"),
    x86("irqmask="),
    x86("lastbus="),
    x86("rom"),
    x86("norom"),
    x86("nobar"),
    x86("assign-busses"),
    x86("use_crs"),
    x86("nocrs"),
    x86("use_e820"),
    x86("no_e820"),
    x86("big_root_window"),
    x86("routeirq"),
    x86("skip_isa_align"),
    x86("noioapicquirk"),
    x86("ioapicreroute"),
    x86("noioapicreroute"),
    on(On::Arm64, "debug"),
    on(On::Arm64, "firmware"),
    on(On::S390, "norid"),
    on(On::S390, "nomio"),
    on(On::S390, "force_floating"),
];

const IOMMU: &[Word] = &[
    x86("off*"),
    x86("force*"),
    x86("noforce*"),
    x86("biomerge*"),
    x86("panic*"),
    x86("nopanic*"),
    x86("merge*"),
    x86("nomerge*"),
    x86("forcesac*"),
    x86("allowdac*"),
    x86("nodac*"),
    x86("usedac*"),
    x86("soft*"),
    x86("pt*"),
    x86("nopt*"),
    x86("leak*"),
    x86("fullflush*"),
    x86("nofullflush*"),
    x86("noagp*"),
    x86("noaperture*"),
    x86("memaper*"),
    on(On::Power, "nobypass*"),
    on(On::Power, "novmerge*"),
    on(On::Power, "vmerge*"),
];

const INTEL_IOMMU: &[Word] = &[
    any("on*"),
    any("off*"),
    any("igfx_off*"),
    any("intgpu_off*"),
    any("forcedac*"),
    any("strict*"),
    any("sp_off*"),
    any("sm_on*"),
    any("sm_off*"),
    any("tboot_noforce*"),
    any("nobounce*"),
];

const AMD_IOMMU: &[Word] = &[
    any("fullflush*"),
    any("off*"),
    any("force_enable*"),
    any("force_isolation*"),
    any("pgtbl_v1*"),
    any("pgtbl_v2*"),
    any("irtcachedis*"),
    any("nohugepages*"),
    any("v2_pgsizes_only*"),
];

const fn parameter(name: &'static str, on: On, words: &'static [Word]) -> Parameter {
    Parameter { name, on, words }
}

/// Parameters by name, with underscores in place of dashes.
static PARAMETERS: &[Parameter] = &[
    parameter("pci", On::Any, PCI),
    parameter("iommu", On::Any, IOMMU),
    parameter("intel_iommu", On::Intel, INTEL_IOMMU),
    parameter("amd_iommu", On::Amd, AMD_IOMMU),
    parameter("amd_iommu_dump", On::Amd, &[]),
    parameter("amd_iommu_intr", On::Amd, &[any("legacy*"), any("vapic*")]),
    parameter("iommu.passthrough", On::Any, SWITCH),
    parameter("iommu.strict", On::Any, SWITCH),
    parameter("iommu.forcedac", On::Any, SWITCH),
    parameter("iommu.debug_pagealloc", On::Any, SWITCH),
    parameter("s390_iommu", On::S390, &[any("strict")]),
    parameter("s390_iommu_aperture", On::S390, &[]),
    parameter(
        "intremap",
        On::X86,
        &[any("on*"), any("off*"), any("nosid*"), any("no_x2apic_optout*"), any("nopost*"), any("posted_msi*")],
    ),
    parameter("nointremap", On::X86, &[]),
    parameter("pcie_aspm", On::Any, &[any("off"), any("force")]),
    parameter("pcie_ports", On::Any, &[any("compat*"), any("native*"), any("dpc-native*"), any("auto")]),
    parameter("pcie_port_pm", On::Any, &[any("off"), any("force")]),
    parameter("pcie_pme", On::Any, &[any("nomsi*")]),
];

/// What the kernel does with a word of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The kernel has the option.
    Known,
    /// The kernel has no such option.
    Unknown,
    /// The option applies only to other processors.
    OtherProcessor(On),
    /// Newer kernels have the option.
    Newer(KernelVersion),
}

/// What the kernel does with a parameter; `None` if this table does not cover parameters of its kind.
pub(super) fn parameter_named(name: &str, cpu: Option<&Cpu>) -> Option<Meaning> {
    if let Some(parameter) = PARAMETERS.iter().find(|parameter| parameter.name == name) {
        return Some(if parameter.on.includes(cpu) { Meaning::Known } else { Meaning::OtherProcessor(parameter.on) });
    }
    // A module parameter. This table covers only those of the module `iommu`.
    if name.contains('.') {
        return name.starts_with("iommu.").then_some(Meaning::Unknown);
    }
    const TOPICS: [&str; 9] = ["iommu", "smmu", "acs", "pci", "pcie", "ats", "noacs", "noats", "vtd"];
    name.split('_').any(|part| TOPICS.contains(&part)).then_some(Meaning::Unknown)
}

/// What the kernel does with one word of a parameter's value.
pub(super) fn word(name: &str, text: &str, cpu: Option<&Cpu>, kernel: Option<KernelVersion>) -> Meaning {
    let Some(parameter) = PARAMETERS.iter().find(|parameter| parameter.name == name) else { return Meaning::Unknown };
    if parameter.words.is_empty() {
        return Meaning::Known;
    }
    let matches = |word: &&Word| match (word.text.strip_suffix('*'), word.text.ends_with('=')) {
        (Some(prefix), _) => text.starts_with(prefix),
        (None, true) => text.starts_with(word.text),
        (None, false) => text == word.text,
    };
    let mut other = Meaning::Unknown;
    for word in parameter.words.iter().filter(matches) {
        if !word.on.includes(cpu) {
            other = Meaning::OtherProcessor(word.on);
            continue;
        }
        match word.since.filter(|since| kernel.is_some_and(|kernel| kernel < *since)) {
            Some(since) => other = Meaning::Newer(since),
            None => return Meaning::Known,
        }
    }
    other
}

/// Advice for the probable intention behind an option without effect, as imperative sentences; empty if the intention is unknown.
pub(super) fn wanted(name: &str, word: &str, cpu: Option<&Cpu>) -> &'static str {
    const PASSTHROUGH: &str = "For identity domains, boot with iommu.passthrough=1.";
    const ACS: &str = "To clear ACS redirect, name the ports: pci=disable_acs_redir=PORT, further ports after `;`, in GRUB's configuration in single quotes.";
    let x86 = On::X86.includes(cpu);
    match (name, word) {
        ("iommu_pt" | "iommu", "" | "on" | "1") if name == "iommu_pt" && x86 => {
            "For identity domains, boot with iommu=pt."
        }
        ("iommu_pt", _) => PASSTHROUGH,
        ("iommu", "pt") => PASSTHROUGH,
        ("iommu", "on" | "1" | "enable") if On::Intel.includes(cpu) && cpu.is_some() => {
            "To enable VT-d, boot with intel_iommu=on."
        }
        ("intel_iommu" | "amd_iommu", "pt") => "For identity domains, boot with iommu=pt.",
        ("intel_iommu", "1" | "enable" | "enabled") => "To enable VT-d, boot with intel_iommu=on.",
        ("amd_iommu", "on" | "1" | "enable" | "enabled") => "The kernel uses the AMD IOMMU without an option.",
        ("intel_iommu_pt" | "amd_iommu_pt", _) => "For identity domains, boot with iommu=pt.",
        ("intel_iommu_on" | "iommu_on", _) => "To enable VT-d, boot with intel_iommu=on.",
        ("pcie_acs_override", _) => {
            "Only kernels with the ACS override patch have this option. It splits IOMMU groups without isolating them, and \
             changes no ACS bit."
        }
        ("pci", "acs" | "noacs" | "no_acs" | "disable_acs" | "acs_off" | "acs=off" | "disable_acs_redir")
        | ("noacs" | "pci_noacs" | "no_acs" | "disable_acs" | "pcie_acs" | "pci_acs" | "pci_disable_acs", _) => ACS,
        ("disable_acs_redir" | "config_acs", _) => "Write it as part of pci=, for example pci=disable_acs_redir=PORT.",
        ("noats" | "pci_noats" | "pcie_ats" | "ats", _) => "To switch ATS off, boot with pci=noats.",
        ("pcie_bus_perf", _) => "Boot with pci=pcie_bus_perf instead.",
        ("pcie_bus_safe", _) => "Boot with pci=pcie_bus_safe instead.",
        ("pcie_bus_peer2peer", _) => "Boot with pci=pcie_bus_peer2peer instead.",
        ("pcie_bus_tune_off", _) => "Boot with pci=pcie_bus_tune_off instead.",
        ("pcie_scan_all", _) => "Boot with pci=pcie_scan_all instead.",
        ("pci_nommconf", _) => "Boot with pci=nommconf instead.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cpu(text: &str) -> Cpu {
        Cpu::parse(text)
    }

    fn meaning(name: &str, text: &str) -> Meaning {
        word(name, text, Some(&cpu("vendor_id : GenuineIntel\n")), None)
    }

    #[test]
    fn compares_words_as_the_kernel_does() {
        for (name, text) in [
            ("pci", "noats"),
            ("pci", "realloc"),
            ("pci", "realloc=off"),
            ("pci", "pcie_bus_perf"),
            ("pci", "nommconf"),
            ("iommu", "pt"),
            ("intel_iommu", "on"),
            ("pcie_aspm", "off"),
            ("iommu.passthrough", "1"),
        ] {
            assert_eq!(meaning(name, text), Meaning::Known, "{name}={text}");
        }
        for (name, text) in [("pci", "noacs"), ("pci", "nomsix"), ("iommu", "on"), ("intel_iommu", "pt")] {
            assert_eq!(meaning(name, text), Meaning::Unknown, "{name}={text}");
        }
    }

    #[test]
    fn options_depend_on_processor_and_kernel() {
        let arm = cpu("CPU implementer\t: 0x41\n");
        assert_eq!(word("iommu", "pt", Some(&arm), None), Meaning::OtherProcessor(On::X86));
        assert_eq!(word("iommu", "pt", None, None), Meaning::Known);
        assert_eq!(parameter_named("intel_iommu", Some(&arm)), Some(Meaning::OtherProcessor(On::Intel)));
        let old = Some(KernelVersion { major: 6, minor: 8 });
        let new = KernelVersion { major: 6, minor: 11 };
        assert_eq!(word("pci", "config_acs=0x@pci:0:0", None, old), Meaning::Newer(new));
    }

    #[test]
    fn ignores_parameters_of_other_kinds() {
        for name in ["quiet", "nvme_core.io_timeout", "vfio_pci.ids", "pcie_aspm.policy", "acpi", "impact"] {
            assert_eq!(parameter_named(name, None), None, "{name}");
        }
        assert_eq!(parameter_named("iommu_pt", None), Some(Meaning::Unknown));
        assert_eq!(parameter_named("pcie_acs_override", None), Some(Meaning::Unknown));
    }

    proptest! {
        #[test]
        fn accepts_any_text(name in "(pci|iommu|intel_iommu|.){1,3}", text in ".{0,20}") {
            let _ = (parameter_named(&name, None), word(&name, &text, None, None), wanted(&name, &text, None));
        }
    }
}
