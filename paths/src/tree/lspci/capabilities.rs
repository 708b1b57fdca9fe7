//! The capabilities of a function as bytes of config space, with the layout of the PCI Express Base Specification, chapter 7.
//!
//! Only the registers that the readers use are encoded. A capability that the lspci output lists without its registers has a
//! header, and its registers are unknown.

use super::KnownBytes;

/// Names of capabilities and their IDs. Every capability that [`crate::ConfigSpace`] looks for must be in the table; all others
/// get the ID of the null capability, which no reader looks for.
const CONVENTIONAL: &[(&str, u8)] = &[
    ("Power Management", 0x01),
    ("Vital Product Data", 0x03),
    ("MSI:", 0x05),
    ("PCI-X", 0x07),
    ("Vendor Specific Information", 0x09),
    ("Subsystem:", 0x0d),
    ("Express", 0x10),
    ("MSI-X:", 0x11),
];
const EXTENDED: &[(&str, u16)] = &[
    ("Advanced Error Reporting", 0x01),
    ("Device Serial Number", 0x03),
    ("Vendor Specific Information", 0x0b),
    ("Access Control Services", 0x0d),
    ("Alternative Routing-ID Interpretation", 0x0e),
    ("Address Translation Service", 0x0f),
    ("Single Root I/O Virtualization", 0x10),
    ("Page Request Interface", 0x13),
    ("Physical Resizable BAR", 0x15),
    ("Process Address Space ID", 0x1b),
    ("Downstream Port Containment", 0x1d),
    ("Designated Vendor-Specific", 0x23),
    ("Integrity & Data Encryption", 0x30),
];
const EXPRESS: u8 = 0x10;
const PCI_X: u8 = 0x07;
const ACS: u16 = 0x0d;
const ATS: u16 = 0x0f;
const SRIOV: u16 = 0x10;
const DVSEC: u16 = 0x23;

const CONVENTIONAL_BYTES: u16 = 256;
/// The last possible offset of an entry in each list. The lists of a shortened output continue there, in unknown bytes.
const CONTINUES_AT: u8 = 0xfc;
const EXTENDED_CONTINUES_AT: u16 = 0xffc;

/// A capability and the lines below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed<'a> {
    offset: u16,
    name: &'a str,
    pub(super) body: Vec<&'a str>,
}

impl<'a> Listed<'a> {
    /// Parses `[70] Express (v2) Root Port (Slot+), MSI 00` or `[148 v1] Access Control Services`; `None` if the list ends here
    /// because it is not readable or damaged.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (place, name) = text.strip_prefix('[')?.split_once(']')?;
        let digits = place.split(' ').next()?;
        let offset = u16::from_str_radix(digits, 16).ok().filter(|offset| (0x40..0x1000).contains(offset))?;
        let name = name.trim();
        let is_damaged = ["<chain looped>", "<chain broken>", "<access denied>"].contains(&name);
        (!is_damaged && offset % 4 == 0).then_some(Self { offset, name, body: Vec::new() })
    }

    fn is_extended(&self) -> bool {
        self.offset >= CONVENTIONAL_BYTES
    }

    fn words(&self) -> impl Iterator<Item = &'a str> {
        self.body.iter().flat_map(|line| line.split_whitespace())
    }

    /// The words after a label such as `ACSCtl:`, up to the next label.
    fn section(&self, label: &str) -> impl Iterator<Item = &'a str> + Clone {
        let is_label = |word: &&str| {
            word.strip_suffix(':').is_some_and(|name| {
                name.starts_with(|first: char| first.is_ascii_uppercase())
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
            })
        };
        let words: Vec<&str> =
            self.words().skip_while(|word| *word != label).skip(1).take_while(|word| !is_label(word)).collect();
        words.into_iter()
    }

    /// The number after two or more words, such as `Number of VFs:`.
    fn number(&self, before: &str) -> Option<u16> {
        let wanted: Vec<&str> = before.split(' ').collect();
        let words: Vec<&str> = self.words().collect();
        let at = words.windows(wanted.len()).position(|window| window == wanted)?;
        words.get(at + wanted.len())?.trim_end_matches(',').parse().ok()
    }
}

/// Whether `name+` (true) or `name-` (false) is among the words.
pub(super) fn flag<'a>(mut words: impl Iterator<Item = &'a str>, name: &str) -> Option<bool> {
    words.find_map(|word| match word.trim_end_matches([',', ';']).strip_prefix(name)? {
        "+" => Some(true),
        "-" => Some(false),
        _ => None,
    })
}

/// The register that the flags describe; `None` unless every bit of `required` is shown.
pub(super) fn flags<'a>(
    words: impl Iterator<Item = &'a str> + Clone,
    names: &[(&str, u16)],
    required: u16,
) -> Option<u16> {
    let (mut value, mut shown) = (0, 0);
    for (name, bit) in names {
        if let Some(set) = flag(words.clone(), name) {
            shown |= bit;
            value |= if set { *bit } else { 0 };
        }
    }
    (shown & required == required).then_some(value)
}

/// Writes the lists and the registers of the capabilities. `pointer` is the offset of the pointer to the first one. If the lspci
/// output is not complete, the lists continue in unknown bytes.
pub(super) fn encode(listed: &[Listed<'_>], pointer: usize, is_complete: bool, config: &mut KnownBytes) {
    let conventional: Vec<_> = listed.iter().take_while(|listed| !listed.is_extended()).collect();
    let extended: Vec<_> = listed.iter().skip(conventional.len()).filter(|listed| listed.is_extended()).collect();
    let Some(first) = conventional.first() else { return };
    config.set(pointer, &[first.offset as u8]);
    let mut ids = Vec::new();
    for (at, capability) in conventional.iter().enumerate() {
        let next = match conventional.get(at + 1) {
            Some(next) => next.offset as u8,
            None if is_complete || !extended.is_empty() => 0,
            None => CONTINUES_AT,
        };
        let id = conventional_id(capability.name);
        config.set(usize::from(capability.offset), &[id, next]);
        if id == EXPRESS {
            express(capability, config);
        }
        ids.push(id);
    }
    // lspci looks for extended capabilities only in PCIe and PCI-X functions.
    if extended.is_empty() && is_complete && (ids.contains(&EXPRESS) || ids.contains(&PCI_X)) {
        config.set_double(usize::from(CONVENTIONAL_BYTES), 0);
    }
    for (at, capability) in extended.iter().enumerate() {
        let next = match extended.get(at + 1) {
            Some(next) => next.offset,
            None if is_complete => 0,
            None => EXTENDED_CONTINUES_AT,
        };
        let id = extended_id(capability.name);
        config.set_double(usize::from(capability.offset), u32::from(id) | 1 << 16 | u32::from(next) << 20);
        match id {
            ACS => acs(capability, config),
            ATS => ats(capability, config),
            SRIOV => sriov(capability, config),
            DVSEC => dvsec(capability, config),
            _ => {}
        }
    }
}

/// Writes the vendor and the ID of a DVSEC: `Designated Vendor-Specific: Vendor=1e98 ID=0000 Rev=1 Len=56: CXL`.
fn dvsec(capability: &Listed<'_>, config: &mut KnownBytes) {
    let at = usize::from(capability.offset);
    let number = |mark: &str| {
        let (_, rest) = capability.name.split_once(mark)?;
        u16::from_str_radix(rest.get(..4)?, 16).ok()
    };
    for (offset, mark) in [(0x04, " Vendor="), (0x08, " ID=")] {
        if let Some(number) = number(mark) {
            config.set_word(at + offset, number);
        }
    }
}

fn conventional_id(name: &str) -> u8 {
    let number = || name.strip_prefix("Capability ID 0x").or_else(|| name.strip_prefix('#'));
    let named = CONVENTIONAL.iter().find(|(known, _)| name.starts_with(known)).map(|(_, id)| *id);
    named.or_else(|| number()?.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok())).unwrap_or_default()
}

fn extended_id(name: &str) -> u16 {
    let number = || name.strip_prefix("Extended Capability ID 0x").or_else(|| name.strip_prefix('#'));
    let named = EXTENDED.iter().find(|(known, _)| name.starts_with(known)).map(|(_, id)| *id);
    let digits = || number()?.split(' ').next();
    named.or_else(|| digits().and_then(|digits| u16::from_str_radix(digits, 16).ok())).unwrap_or_default()
}

fn express(capability: &Listed<'_>, config: &mut KnownBytes) {
    const CONTROL: [(&str, u16); 9] = [
        ("CorrErr", 0x01),
        ("NonFatalErr", 0x02),
        ("FatalErr", 0x04),
        ("UnsupReq", 0x08),
        ("RlxdOrd", 0x10),
        ("ExtTag", 0x100),
        ("PhantFunc", 0x200),
        ("AuxPwr", 0x400),
        ("NoSnoop", 0x800),
    ];
    let at = usize::from(capability.offset);
    let port_type = port_type(capability.name);
    if let Some(port_type) = port_type {
        config.set_word(at + 0x02, 2 | port_type << 4);
    }
    if let Some(payload) = payload(capability.section("DevCap:"), "MaxPayload") {
        config.set_double(at + 0x04, u32::from(payload));
    }
    let control = capability.section("DevCtl:");
    let sizes = payload(control.clone(), "MaxPayload").zip(payload(control.clone(), "MaxReadReq"));
    if let Some(((payload, read_request), flags)) = sizes.zip(flags(control, &CONTROL, 0x10)) {
        config.set_word(at + 0x08, flags | payload << 5 | read_request << 12);
    }
    let has_link = !matches!(port_type, Some(INTEGRATED_ENDPOINT | EVENT_COLLECTOR));
    if has_link {
        for (label, register) in [("LnkCap:", 0x0c), ("LnkSta:", 0x12)] {
            if let Some(link) = link(capability.section(label)) {
                config.set_word(at + register, link);
            }
        }
    }
}

const INTEGRATED_ENDPOINT: u16 = 0x9;
const EVENT_COLLECTOR: u16 = 0xa;

fn port_type(name: &str) -> Option<u16> {
    // Longer names precede the names that they contain.
    const NAMES: [(&str, u16); 9] = [
        ("PCI-Express to PCI/PCI-X Bridge", 0x7),
        ("PCI/PCI-X to PCI-Express Bridge", 0x8),
        ("Root Complex Integrated Endpoint", INTEGRATED_ENDPOINT),
        ("Root Complex Event Collector", EVENT_COLLECTOR),
        ("Root Port", 0x4),
        ("Upstream Port", 0x5),
        ("Downstream Port", 0x6),
        ("Legacy Endpoint", 0x1),
        ("Endpoint", 0x0),
    ];
    NAMES.iter().find(|(known, _)| name.contains(known)).map(|(_, port_type)| *port_type)
}

/// The encoding of `MaxPayload 256 bytes`: 0 is 128 bytes, 5 is 4096.
fn payload<'a>(mut words: impl Iterator<Item = &'a str>, name: &str) -> Option<u16> {
    words.find(|word| *word == name)?;
    let bytes: u16 = words.next()?.parse().ok()?;
    (0..=5).find(|encoded| 128 << encoded == bytes)
}

/// The speed and width of `Speed 16GT/s (ok), Width x8 (ok)` as in the Link Capabilities and Link Status registers.
fn link<'a>(words: impl Iterator<Item = &'a str> + Clone) -> Option<u16> {
    let after =
        |name: &str| words.clone().skip_while(|word| *word != name).nth(1).map(|word| word.trim_end_matches(','));
    let speed = match after("Speed")? {
        "2.5GT/s" => 1,
        "5GT/s" => 2,
        "8GT/s" => 3,
        "16GT/s" => 4,
        "32GT/s" => 5,
        "64GT/s" => 6,
        "unknown" => 0,
        _ => return None,
    };
    let width: u16 = after("Width")?.strip_prefix('x')?.parse().ok()?;
    (width < 64).then_some(speed | width << 4)
}

fn acs(capability: &Listed<'_>, config: &mut KnownBytes) {
    const FLAGS: [(&str, u16); 7] = [
        ("SrcValid", 0x01),
        ("TransBlk", 0x02),
        ("ReqRedir", 0x04),
        ("CmpltRedir", 0x08),
        ("UpstreamFwd", 0x10),
        ("EgressCtrl", 0x20),
        ("DirectTrans", 0x40),
    ];
    for (label, register) in [("ACSCap:", 4), ("ACSCtl:", 6)] {
        if let Some(value) = flags(capability.section(label), &FLAGS, 0x7f) {
            config.set_word(usize::from(capability.offset) + register, value);
        }
    }
}

fn ats(capability: &Listed<'_>, config: &mut KnownBytes) {
    if let Some(enabled) = flag(capability.section("ATSCtl:"), "Enable") {
        config.set_word(usize::from(capability.offset) + 6, if enabled { 0x8000 } else { 0 });
    }
}

fn sriov(capability: &Listed<'_>, config: &mut KnownBytes) {
    let at = usize::from(capability.offset);
    if let Some(enabled) = flag(capability.section("IOVCtl:"), "Enable") {
        config.set_word(at + 0x08, u16::from(enabled));
    }
    for (before, register) in [("Number of VFs:", 0x10), ("VF offset:", 0x14), ("stride:", 0x16)] {
        if let Some(number) = capability.number(before) {
            config.set_word(at + register, number);
        }
    }
}
