//! The tree view (`lspci -tv`). An entry belongs to the bus whose entries started at the same column in a line above.
//!
//! ```text
//! -[0000:00]-+-00.0  Intel Corporation ...
//!            \-01.0-[01-03]----00.0-[02-03]--+-00.0-[02]----00.0  NVIDIA Corporation ...
//!                                            \-01.0-[03]--
//! ```

use std::collections::BTreeMap;

use crate::Bdf;

/// What a line of the tree view shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A root bus: segment and bus.
    Root(u32, u8),
    /// A function and its name.
    Function(Bdf, Option<&'a str>),
    /// A bridge: primary, secondary and subordinate bus.
    Bridge(Bdf, (Option<u8>, u8, u8)),
}

/// What the entries at a column belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Roots,
    Bus(u32, u8),
}

/// The open buses of a tree view, by the column at which their entries start.
#[derive(Debug, Default)]
pub(super) struct Layout {
    columns: BTreeMap<usize, Place>,
}

impl Layout {
    /// Parses a line; empty if the line is not part of a tree view.
    pub(super) fn line<'a>(&mut self, line: &'a str) -> Vec<Item<'a>> {
        let mut items = Vec::new();
        let bytes = line.as_bytes();
        let Some(mut at) = bytes.iter().position(|byte| !matches!(byte, b' ' | b'|')) else { return items };
        let mut place = match bytes[at] {
            b'-' if matches!(bytes.get(at + 1), Some(b'[' | b'+')) => Place::Roots,
            b'+' | b'\\' if bytes.get(at + 1) == Some(&b'-') => match self.columns.get(&at) {
                Some(place) => *place,
                None => return items,
            },
            _ => return items,
        };
        self.columns.retain(|&column, _| column <= at);
        let mut bridge: Option<Bdf> = None;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'+' | b'\\' => {
                    self.columns.insert(at, place);
                    at += 1;
                }
                b'-' => at += 1,
                b'[' => {
                    let Some(length) = bytes[at..].iter().position(|&byte| byte == b']') else { break };
                    let Some(inner) = line.get(at + 1..at + length) else { break };
                    let Some(below) = buses(inner, place, bridge, &mut items) else { break };
                    place = below;
                    bridge = None;
                    at += length + 1;
                }
                b' ' => {
                    if let (Some(Item::Function(_, name)), Some(rest)) = (items.last_mut(), line.get(at..)) {
                        *name = Some(rest.trim()).filter(|name| !name.is_empty());
                    }
                    break;
                }
                _ => {
                    let Some(bdf) = line.get(at..at + 4).and_then(|text| address(text, place)) else { break };
                    items.push(Item::Function(bdf, None));
                    bridge = Some(bdf);
                    at += 4;
                }
            }
        }
        items
    }
}

/// Parses `0000:40`, a root bus, or `02-05`, the buses below a bridge. Within the buses of a bridge, `0000:04` is a bus whose
/// bridge is missing, such as a bus of virtual functions.
fn buses(text: &str, place: Place, bridge: Option<Bdf>, items: &mut Vec<Item<'_>>) -> Option<Place> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let bus = |text: &str| hex(text).and_then(|bus| u8::try_from(bus).ok());
    if let Some((segment, number)) = text.split_once(':') {
        let (segment, number) = (hex(segment)?, bus(number)?);
        if place == Place::Roots {
            items.push(Item::Root(segment, number));
        }
        return Some(Place::Bus(segment, number));
    }
    let bridge = bridge?;
    let (secondary, subordinate) = text.split_once('-').unwrap_or((text, text));
    let secondary = bus(secondary)?;
    items.push(Item::Bridge(bridge, (Some(bridge.bus()), secondary, bus(subordinate)?)));
    Some(Place::Bus(bridge.segment(), secondary))
}

/// Parses `01.0`.
fn address(text: &str, place: Place) -> Option<Bdf> {
    let Place::Bus(segment, bus) = place else { return None };
    let (device, function) = text.split_once('.')?;
    let plain = device.len() == 2 && device.bytes().chain(function.bytes()).all(|byte| byte.is_ascii_hexdigit());
    let number = |text: &str| u8::from_str_radix(text, 16).ok();
    plain.then(|| Bdf::new(segment, bus, number(device)?, number(function)?))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let mut layout = Layout::default();
        let show = |item| match item {
            Item::Root(segment, bus) => format!("root {segment:04x}:{bus:02x}"),
            Item::Function(bdf, name) => format!("{bdf} {}", name.unwrap_or("-")),
            Item::Bridge(bdf, (_, secondary, subordinate)) => format!("{bdf} [{secondary:02x}-{subordinate:02x}]"),
        };
        text.lines().flat_map(|line| layout.line(line)).map(show).collect()
    }

    #[test]
    fn follows_buses_by_column() {
        let text = "\
-+-[0001:80]-+-00.0  A
 |           \\-01.0-[81]--
 \\-[0000:00]-+-00.0  B
             +-01.0-[01-04]----00.0-[02-04]--+-00.0-[03]----00.0  C [10de:20b0]
             |                               \\-01.0-[04]----00.0  D
             \\-1f.3
";
        assert_eq!(
            read(text),
            [
                "root 0001:80",
                "0001:80:00.0 A",
                "0001:80:01.0 -",
                "0001:80:01.0 [81-81]",
                "root 0000:00",
                "0000:00:00.0 B",
                "0000:00:01.0 -",
                "0000:00:01.0 [01-04]",
                "0000:01:00.0 -",
                "0000:01:00.0 [02-04]",
                "0000:02:00.0 -",
                "0000:02:00.0 [03-03]",
                "0000:03:00.0 C [10de:20b0]",
                "0000:02:01.0 -",
                "0000:02:01.0 [04-04]",
                "0000:04:00.0 D",
                "0000:00:1f.3 -",
            ]
        );
    }

    #[test]
    fn a_bus_within_a_bridge_is_not_a_root_bus() {
        let text = "\
-[0000:00]---01.0-[01-03]--+-[0000:03]---00.0  A
                           \\-[0000:01]---00.0  B
";
        assert_eq!(
            read(text),
            ["root 0000:00", "0000:00:01.0 -", "0000:00:01.0 [01-03]", "0000:03:00.0 A", "0000:01:00.0 B"]
        );
    }

    #[test]
    fn other_lines_are_not_part_of_the_view() {
        assert!(read("- a\n+-00.0\n \\-01.0\n-- \n|\n\n-rw-r--r-- 1 root\n").is_empty());
    }
}
