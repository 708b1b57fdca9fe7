//! The lines below the line of a function: `-v`, `-vv` and `-vvv`, the hex dump of `-x` to `-xxxx`, and the drivers of `-k`.

use super::capabilities::{self, Listed};
use super::{Header, KnownBytes, Shown};

/// Flags of the file `resource` (`include/linux/ioport.h`).
const FLAG_IO: u64 = 0x100;
const FLAG_MEMORY: u64 = 0x200;
const FLAG_PREFETCH: u64 = 0x2000;
const FLAG_64_BIT: u64 = 0x10_0000;
const FLAG_UNSET: u64 = 0x2000_0000;

/// How much `lspci` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// Without `-v`.
    Name,
    /// `-v`: flags, regions without their indexes, names of capabilities.
    Flags,
    /// `-vv` or `-vvv`: registers.
    Registers,
}

/// A line such as `Region 0: Memory at f6000000 (64-bit, prefetchable) [size=16M]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region {
    index: usize,
    start: u64,
    size_bytes: Option<u64>,
    flags: u64,
}

/// The facts from the lines about one function that were read so far.
pub(super) struct Block<'a> {
    shown: Shown,
    level: Level,
    /// Value of the Command register.
    command: Option<u16>,
    /// Whether the Status register shows a list of capabilities.
    has_capabilities: Option<bool>,
    buses: Option<(Option<u8>, u8, u8)>,
    regions: Vec<Region>,
    capabilities: Vec<Listed<'a>>,
    /// Whether a line after the regions was read. Then the list of regions is complete.
    after_regions: bool,
    /// Whether capabilities are missing: no permission, a damaged list, or an output that a user shortened.
    is_cut: bool,
    /// Whether the last line of the block was read.
    is_ended: bool,
    has_modules: bool,
}

impl<'a> Block<'a> {
    pub(super) fn new(header: Header) -> Self {
        let mut shown = Shown::default();
        shown.add(&header);
        Self {
            shown,
            level: Level::Name,
            command: None,
            has_capabilities: None,
            buses: None,
            regions: Vec::new(),
            capabilities: Vec::new(),
            after_regions: false,
            is_cut: false,
            is_ended: false,
            has_modules: false,
        }
    }

    pub(super) fn line(&mut self, line: &'a str) {
        let line = line.trim();
        if line.is_empty() {
            self.is_ended = true;
        } else if let Some((at, bytes)) = dump(line) {
            self.shown.config.dump(at, &bytes);
            self.is_ended = true;
        } else if is_omission(line) {
            self.is_cut = true;
        } else if let Some((key, value)) = line.split_once(':') {
            self.field(key, value.trim(), line);
        } else {
            self.other(line);
        }
    }

    fn field(&mut self, key: &str, value: &'a str, line: &'a str) {
        match key {
            "Kernel driver in use" => {
                self.shown.driver = Some(Some(value.to_owned()));
                self.is_ended = true;
            }
            "Kernel modules" => {
                self.has_modules = true;
                self.is_ended = true;
            }
            "Capabilities" => {
                self.after_regions = true;
                match Listed::parse(value) {
                    Some(listed) => self.capabilities.push(listed),
                    None => self.is_cut = true,
                }
            }
            _ if !self.capabilities.is_empty() => self.other(line),
            "Control" => {
                self.level = Level::Registers;
                self.command = command(value);
            }
            "Status" => self.has_capabilities = capabilities::flag(value.split(' '), "Cap"),
            "Flags" => self.flags(value),
            "NUMA node" => self.shown.numa_node = value.parse().ok(),
            "IOMMU group" => self.shown.group = value.parse().ok().map(Some),
            "Bus" => {
                self.after_regions = true;
                self.buses = buses(value);
            }
            "Expansion ROM at" => self.after_regions = true,
            _ => match key.strip_prefix("Region ").and_then(|index| index.parse().ok()) {
                Some(index) => self.regions.extend(region(index, value)),
                None => self.other(line),
            },
        }
    }

    /// Reads a line of a capability, or the end of a region that a mail program moved to the next line.
    fn other(&mut self, line: &'a str) {
        if let Some(last) = self.capabilities.last_mut() {
            last.body.push(line);
        } else if line.starts_with("!!! Unknown header type") {
            self.is_cut = true;
        } else if line.starts_with("Expansion ROM at") {
            self.after_regions = true;
        } else if let Some(region) = self.regions.last_mut().filter(|_| line.starts_with("[size=")) {
            region.size_bytes = region.size_bytes.or(size(line));
        }
    }

    /// Parses `bus master, fast devsel, latency 0, IRQ 24, NUMA node 0, IOMMU group 5`.
    fn flags(&mut self, value: &str) {
        self.level = self.level.max(Level::Flags);
        for flag in value.split(',').map(str::trim) {
            let number = |prefix| flag.strip_prefix(prefix).and_then(|number: &str| number.trim().parse().ok());
            self.shown.numa_node = self.shown.numa_node.or(number("NUMA node"));
            self.shown.group = self.shown.group.or(number("IOMMU group").map(Some));
        }
    }

    /// Returns the facts that the lines show. `followed` is whether another block follows, so that this one is complete.
    pub(super) fn end(mut self, followed: bool) -> Shown {
        let is_complete = (self.is_ended || followed) && !self.is_cut;
        if self.level > Level::Name {
            let shows_regions = is_complete || self.after_regions;
            if shows_regions && self.shown.group.is_none() {
                self.shown.group = Some(None);
            }
            if shows_regions && self.level == Level::Registers {
                self.shown.resource = resource(&self.regions);
            }
            if (is_complete || self.has_modules) && self.shown.driver.is_none() {
                self.shown.driver = Some(None);
            }
            self.shown.config.merge(&self.registers(is_complete));
        }
        self.shown
    }

    fn registers(&self, is_complete: bool) -> KnownBytes {
        let mut config = KnownBytes::default();
        const CARDBUS: u16 = 0x0607;
        const PCI_BRIDGE: u16 = 0x0604;
        let header_type = match (self.buses, self.shown.class) {
            (Some(_), Some(CARDBUS)) => Some(2),
            (Some(_), _) => Some(1),
            (None, Some(CARDBUS | PCI_BRIDGE) | None) => None,
            (None, Some(_)) => Some(0),
        };
        match (header_type, self.buses) {
            (Some(header_type), Some(buses)) => config.set_bridge(header_type, buses),
            (Some(header_type), None) => config.set(0x0e, &[header_type]),
            _ => {}
        }
        if let Some(command) = self.command.filter(|_| !self.shown.is_virtual) {
            config.set_word(4, command);
        }
        let lists_none = is_complete && self.level == Level::Flags && self.capabilities.is_empty();
        let has_capabilities = match self.has_capabilities {
            None if lists_none => Some(false),
            None if !self.capabilities.is_empty() => Some(true),
            has => has,
        };
        if let Some(has) = has_capabilities {
            config.set_word(6, if has { 0x10 } else { 0 });
        }
        if has_capabilities == Some(true) {
            let pointer = if header_type == Some(2) { 0x14 } else { 0x34 };
            capabilities::encode(&self.capabilities, pointer, is_complete, &mut config);
        }
        config
    }
}

/// Parses `Mem+ BusMaster+ ...`; `None` unless every flag that the readers use is shown.
fn command(value: &str) -> Option<u16> {
    const FLAGS: [(&str, u16); 11] = [
        ("I/O", 0x01),
        ("Mem", 0x02),
        ("BusMaster", 0x04),
        ("SpecCycle", 0x08),
        ("MemWINV", 0x10),
        ("VGASnoop", 0x20),
        ("ParErr", 0x40),
        ("Stepping", 0x80),
        ("SERR", 0x100),
        ("FastB2B", 0x200),
        ("DisINTx", 0x400),
    ];
    capabilities::flags(value.split(' '), &FLAGS, 0x07)
}

/// Parses `primary=00, secondary=01, subordinate=05, sec-latency=0`.
fn buses(value: &str) -> Option<(Option<u8>, u8, u8)> {
    let number = |name: &str| {
        let part = value.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))?;
        u8::from_str_radix(part, 16).ok()
    };
    Some((number("primary"), number("secondary")?, number("subordinate")?))
}

/// Parses the text after `Region 0:`.
fn region(index: usize, value: &str) -> Option<Region> {
    let (kind, rest) = match value.strip_prefix("Memory at ") {
        Some(rest) => (FLAG_MEMORY, rest),
        None => (FLAG_IO, value.strip_prefix("I/O ports at ")?),
    };
    let start = match rest.split(' ').next()? {
        "<unassigned>" | "<ignored>" => 0,
        digits => u64::from_str_radix(digits, 16).ok()?,
    };
    let wide = if rest.contains("(64-bit") { FLAG_64_BIT } else { 0 };
    let prefetch = if rest.contains(", prefetchable") { FLAG_PREFETCH } else { 0 };
    let unset = if start == 0 { FLAG_UNSET } else { 0 };
    Some(Region { index, start, size_bytes: size(rest), flags: kind | wide | prefetch | unset })
}

/// Parses `[size=16M]`.
fn size(text: &str) -> Option<u64> {
    let text = text.split("[size=").nth(1)?.split(']').next()?;
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|&size_bytes| size_bytes > 0)
}

/// The lines of the file `resource`; `None` if the size of a region is unknown.
fn resource(regions: &[Region]) -> Option<String> {
    let mut lines = [(0, 0, 0); 6];
    for region in regions {
        let last = region.start.checked_add(region.size_bytes? - 1)?;
        *lines.get_mut(region.index)? = (region.start, last, region.flags);
    }
    Some(lines.iter().map(|(start, last, flags)| format!("{start:#018x} {last:#018x} {flags:#018x}\n")).collect())
}

/// Parses `40: 10 00 42 01`: the offset, and up to 16 bytes.
fn dump(line: &str) -> Option<(usize, Vec<u8>)> {
    let (offset, rest) = line.split_once(": ")?;
    let at = usize::from_str_radix(offset, 16).ok().filter(|_| matches!(offset.len(), 2 | 3))?;
    let byte = |text: &str| u8::from_str_radix(text, 16).ok().filter(|_| text.len() == 2);
    let bytes: Vec<u8> = rest.split_whitespace().map_while(byte).take(16).collect();
    (at % 16 == 0 && !bytes.is_empty()).then_some((at, bytes))
}

/// Whether a user shortened the output at this line: `[...]`, `<snip>`, or the pager's `--More--`.
fn is_omission(line: &str) -> bool {
    let inner = line.trim_matches(['[', ']', '<', '>', '(', ')', '-', ' ', '*', '#', ':']);
    matches!(inner, "..." | ".." | "…")
        || ["snip", "snipped", "cut", "more", "truncated"].iter().any(|word| inner.eq_ignore_ascii_case(word))
}
