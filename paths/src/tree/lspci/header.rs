//! The line of a function: `3b:00.0 3D controller [0302]: NVIDIA Corporation GA100 [10de:20b0] (rev a1)`, with names, with
//! numbers (`-n`) or with both (`-nn`).

use super::names;
use crate::Bdf;

/// The line of a function. `None` means unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) bdf: Bdf,
    pub(super) class: Option<u16>,
    pub(super) programming_interface: Option<u8>,
    pub(super) vendor: Option<u16>,
    pub(super) device: Option<u16>,
    /// Vendor and device ID, if the line shows them as numbers: several devices can have one name.
    pub(super) numbers: Option<(u16, u16)>,
    /// Whether the name is that of a virtual function.
    pub(super) is_virtual: bool,
    /// The IOMMU group, which a widespread script prints before the line.
    pub(super) group: Option<u32>,
}

impl Header {
    /// Parses a line; `None` if the line is not that of a function.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (group, line) = without_group(line.trim_start());
        let (address, rest) = line.split_once(' ')?;
        // Other lines that start with an address have no class.
        let bdf = address.parse().ok().filter(|_| address.is_ascii())?;
        let (class, name) = rest.split_once(": ")?;
        let header = Self::named(bdf, name);
        Some(Self { class: parse_class(class), group, ..header })
    }

    /// Creates a header from the name of a function, as a tree view shows it after the address.
    pub(super) fn named(bdf: Bdf, name: &str) -> Self {
        let (ids, rest) = match number_pair(name.split(' ').next().unwrap_or_default()) {
            Some(ids) => (Some(ids), name),
            None => bracketed_ids(name),
        };
        let end = [" (rev ", " (prog-if "].iter().filter_map(|mark| rest.find(mark)).min().unwrap_or(rest.len());
        let (vendor, device) = match ids {
            Some((vendor, device)) => (Some(vendor), Some(device)),
            None => names::vendor_and_device(rest[..end].trim_end()),
        };
        let interface = name.rsplit_once("(prog-if ").and_then(|(_, rest)| rest.get(..2));
        Self {
            bdf,
            class: None,
            programming_interface: interface.and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            // The registers of a virtual function contain all ones instead of the IDs.
            vendor: vendor.filter(|&id| id != 0xffff),
            device: device.filter(|&id| id != 0xffff),
            numbers: ids.filter(|&(vendor, device)| vendor != 0xffff && device != 0xffff),
            is_virtual: name.contains("Virtual Function"),
            group: None,
        }
    }
}

/// Removes `IOMMU Group 12 ` from the start of a line.
fn without_group(line: &str) -> (Option<u32>, &str) {
    let parse = || {
        let rest = line.strip_prefix("IOMMU Group ").or_else(|| line.strip_prefix("IOMMU group "))?;
        let (number, rest) = rest.split_once(' ')?;
        Some((number.trim_end_matches(':').parse().ok()?, rest.trim_start()))
    };
    parse().map_or((None, line), |(group, rest)| (Some(group), rest))
}

fn parse_class(text: &str) -> Option<u16> {
    let digits = text.rsplit_once('[').and_then(|(_, rest)| rest.strip_suffix(']')).unwrap_or(text);
    let digits = digits.strip_prefix("Class ").unwrap_or(digits);
    if digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return u16::from_str_radix(digits, 16).ok();
    }
    names::class(text)
}

/// Vendor and device ID of `10de:20b0`.
fn number_pair(text: &str) -> Option<(u16, u16)> {
    let (vendor, device) = text.split_once(':')?;
    let id = |text: &str| {
        let plain = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| u16::from_str_radix(text, 16).ok())?
    };
    Some((id(vendor)?, id(device)?))
}

/// The IDs of `NAME [10de:20b0] (rev a1)`, and the name before them. A line that is cut off may lack the last bracket.
fn bracketed_ids(name: &str) -> (Option<(u16, u16)>, &str) {
    /// Length of `10de:20b0`.
    const LENGTH: usize = 9;
    for (at, _) in name.rmatch_indices('[') {
        let inner = &name[at + 1..];
        let ends = matches!(inner.as_bytes().get(LENGTH), None | Some(b']'));
        if let Some(ids) = inner.get(..LENGTH).filter(|_| ends).and_then(number_pair) {
            return (Some(ids), &name[..at]);
        }
    }
    (None, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(line: &str) -> Option<(Option<u16>, Option<u16>, Option<u16>)> {
        Header::parse(line).map(|header| (header.class, header.vendor, header.device))
    }

    #[test]
    fn parses_names_numbers_and_both() {
        let right = Some((Some(0x0604), Some(0x1b36), Some(0x000c)));
        assert_eq!(ids("0000:01:00.0 0604: 1b36:000c (rev 03)"), right);
        let name = "Red Hat, Inc. QEMU PCIe Root port";
        assert_eq!(ids(&format!("01:00.0 PCI bridge: {name} (rev 03)")), right);
        assert_eq!(ids(&format!("  01:00.0 PCI bridge [0604]: {name} [1b36:000c] (rev 03)")), right);
        assert_eq!(
            ids("10000:e1:00.0 Class [0880]: Device [1af4:1110]"),
            Some((Some(0x0880), Some(0x1af4), Some(0x1110)))
        );
        assert_eq!(ids("02:00.2 0200: ffff:ffff (rev ff)"), Some((Some(0x0200), None, None)));
    }

    #[test]
    fn parses_programming_interface_and_group() {
        let line = "IOMMU Group 12 02:00.0 Non-Volatile memory controller [0108]: Device [1b36:0010] (prog-if 02 [NVM Express])";
        let header = Header::parse(line).unwrap();
        assert_eq!((header.programming_interface, header.group), (Some(2), Some(12)));
    }

    #[test]
    fn other_lines_are_not_functions() {
        for line in [
            "",
            "\tCapabilities: [40] Express",
            "00: 86 80 c0 29",
            "Slot:\t00:00.0",
            "1:2 a: b",
            "[ 1.0] pci 0000:00:00.0: x",
        ] {
            assert_eq!(Header::parse(line), None, "{line}");
        }
    }
}
