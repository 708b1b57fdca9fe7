//! Finds the functions that a boot option such as `pci=disable_acs_redir=` names, as the kernel does (`pci_dev_str_match`).

use std::collections::{BTreeSet, HashMap};

use crate::{Bdf, Function, Host, Topology};

/// The option of `pci=` that clears the ACS redirect of the functions in its list.
pub(crate) const DISABLE_REDIRECT: &str = "disable_acs_redir=";

/// The functions whose ACS redirect the kernel command line clears.
pub(crate) fn cleared_at_boot(host: &Host, topology: &Topology) -> BTreeSet<Bdf> {
    let Some(line) = &host.command_line else { return BTreeSet::new() };
    let words = line.values("pci").flat_map(|value| value.split(','));
    // The kernel keeps the last list only, and stops at an entry that it cannot parse.
    let Some(list) = words.filter_map(|word| word.strip_prefix(DISABLE_REDIRECT)).last() else {
        return BTreeSet::new();
    };
    let index = Index::of(topology);
    let patterns = list.split(';').map_while(Pattern::parse);
    patterns.flat_map(|pattern| index.matches(&pattern)).map(|function| function.bdf).collect()
}

/// One entry of a list of functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// `[SEGMENT:]BUS:DEVICE.FUNCTION[/DEVICE.FUNCTION]...`: a function, then one per level below it. The last one is selected.
    Path { start: Bdf, below: Vec<(u8, u8)> },
    /// `pci:VENDOR:DEVICE[:SUBVENDOR:SUBDEVICE]`; 0 matches every ID.
    Ids { vendor: u16, device: u16, subsystem: (u16, u16) },
}

impl Pattern {
    /// Parses an entry; `None` if the kernel rejects it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(ids) = text.strip_prefix("pci:") {
            let ids: Vec<u16> = ids.split(':').map(|id| u16::from_str_radix(id, 16).ok()).collect::<Option<_>>()?;
            return match *ids.as_slice() {
                [vendor, device] => Some(Self::Ids { vendor, device, subsystem: (0, 0) }),
                [vendor, device, subvendor, subdevice] => {
                    Some(Self::Ids { vendor, device, subsystem: (subvendor, subdevice) })
                }
                _ => None,
            };
        }
        let mut parts = text.split('/');
        let start = address(parts.next()?)?;
        let below = parts.map(device_and_function).collect::<Option<_>>()?;
        Some(Self::Path { start, below })
    }
}

/// Index of a host's functions by the bridge above them and by IDs, so that a lookup does not scan all functions.
pub(crate) struct Index<'a> {
    topology: &'a Topology,
    /// The functions directly below a bridge, by device and function number.
    below: HashMap<(usize, (u8, u8)), Vec<usize>>,
    by_ids: HashMap<(u16, u16), Vec<usize>>,
    /// Whether the IDs of all functions are known.
    pub(crate) ids_known: bool,
}

impl<'a> Index<'a> {
    pub(crate) fn of(topology: &'a Topology) -> Self {
        let mut index = Self { topology, below: HashMap::new(), by_ids: HashMap::new(), ids_known: true };
        for (at, function) in topology.functions().iter().enumerate() {
            if let Some(above) = topology.above(at) {
                index.below.entry((above, (function.bdf.device(), function.bdf.function()))).or_default().push(at);
            }
            match function.vendor.zip(function.device) {
                Some(ids) => index.by_ids.entry(ids).or_default().push(at),
                None => index.ids_known = false,
            }
        }
        index
    }

    /// Whether a function has these IDs.
    pub(crate) fn has_ids(&self, vendor: u16, device: u16) -> bool {
        self.by_ids.contains_key(&(vendor, device))
    }

    /// The functions that the entry matches, ordered by address.
    pub(crate) fn matches(&self, pattern: &Pattern) -> Vec<&'a Function> {
        let functions = self.topology.functions();
        match pattern {
            Pattern::Path { start, below } => {
                let start: Vec<usize> = self.topology.position(*start).into_iter().collect();
                let mut found = below.iter().fold(start, |bridges, place| {
                    bridges.iter().filter_map(|&bridge| self.below.get(&(bridge, *place))).flatten().copied().collect()
                });
                found.sort_unstable();
                found.into_iter().map(|at| &functions[at]).collect()
            }
            Pattern::Ids { vendor: 0, .. } | Pattern::Ids { device: 0, .. } => {
                functions.iter().filter(|function| has_ids(pattern, function)).collect()
            }
            Pattern::Ids { vendor, device, .. } => {
                let same = self.by_ids.get(&(*vendor, *device)).into_iter().flatten();
                same.map(|&at| &functions[at]).filter(|function| has_ids(pattern, function)).collect()
            }
        }
    }
}

/// Whether a function has the IDs of an entry.
fn has_ids(pattern: &Pattern, function: &Function) -> bool {
    let Pattern::Ids { vendor, device, subsystem } = pattern else { return false };
    let fits = |wanted: u16, id: Option<u16>| wanted == 0 || id == Some(wanted);
    let [subvendor, subdevice] = function.config.subsystem_ids().map_or([None; 2], |ids| [Some(ids.0), Some(ids.1)]);
    fits(*vendor, function.vendor)
        && fits(*device, function.device)
        && fits(subsystem.0, subvendor)
        && fits(subsystem.1, subdevice)
}

/// Parses an address; the kernel accepts hexadecimal numbers without leading zeros, and no segment for segment 0.
fn address(text: &str) -> Option<Bdf> {
    let (buses, place) = text.rsplit_once(':')?;
    let (device, function) = device_and_function(place)?;
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let (segment, bus) = match buses.split_once(':') {
        Some((segment, bus)) => (hex(segment)?, hex(bus)?),
        None => (0, hex(buses)?),
    };
    Bdf::new(segment, u8::try_from(bus).ok()?, device, function)
}

fn device_and_function(text: &str) -> Option<(u8, u8)> {
    let (device, function) = text.split_once('.')?;
    let hex = |text: &str| u8::from_str_radix(text, 16).ok();
    Some((hex(device)?, hex(function)?)).filter(|(device, function)| *device < 32 && *function < 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_addresses_paths_and_ids() {
        let start = |text: &str| text.parse().unwrap();
        assert_eq!(Pattern::parse("1:2.3"), Some(Pattern::Path { start: start("0000:01:02.3"), below: Vec::new() }));
        assert_eq!(
            Pattern::parse("0001:00:01.0/02.0/1f.7"),
            Some(Pattern::Path { start: start("0001:00:01.0"), below: vec![(2, 0), (0x1f, 7)] })
        );
        assert_eq!(
            Pattern::parse("pci:1000:c030"),
            Some(Pattern::Ids { vendor: 0x1000, device: 0xc030, subsystem: (0, 0) })
        );
        for text in ["", "pci:1000", "1:2", "1:20.0", "x", "noats", "0000:01:00.0 "] {
            assert_eq!(Pattern::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn accepts_any_text(text in "([0-9a-f]{1,5}|[:./]|pci:|.){0,12}") {
            let _ = Pattern::parse(&text);
        }
    }
}
