//! The functions in a boot option such as `pci=disable_acs_redir=`, as `pci_dev_str_match` in drivers/pci/pci.c matches them.

use crate::{Bdf, Function, Topology};

/// One entry of a list of functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    /// `[SEGMENT:]BUS:DEVICE.FUNCTION`, followed by the device and function numbers of bridges below: `/DEVICE.FUNCTION`.
    Path { start: Bdf, below: Vec<(u8, u8)> },
    /// `pci:VENDOR:DEVICE[:SUBVENDOR:SUBDEVICE]`; 0 matches every ID.
    Ids { vendor: u16, device: u16, subsystem: (u16, u16) },
}

impl Pattern {
    /// Parses an entry; `None` if the kernel rejects it.
    pub(super) fn parse(text: &str) -> Option<Self> {
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

    /// The functions that the entry matches.
    pub(super) fn matches<'a>(&'a self, topology: &'a Topology) -> impl Iterator<Item = &'a Function> {
        topology.functions().iter().filter(|function| self.is_match(topology, function))
    }

    fn is_match(&self, topology: &Topology, function: &Function) -> bool {
        match self {
            Self::Path { start, below } => {
                let bridges = topology.bridges_above(function.bdf);
                let mut chain = [function.bdf].into_iter().chain(bridges);
                let place = |bdf: Bdf| (bdf.device(), bdf.function());
                below.iter().rev().all(|wanted| chain.next().is_some_and(|bdf| place(bdf) == *wanted))
                    && chain.next() == Some(*start)
            }
            Self::Ids { vendor, device, subsystem } => {
                let fits = |wanted: u16, id: Option<u16>| wanted == 0 || id == Some(wanted);
                let [subvendor, subdevice] =
                    function.config.subsystem_ids().map_or([None; 2], |ids| [Some(ids.0), Some(ids.1)]);
                fits(*vendor, function.vendor)
                    && fits(*device, function.device)
                    && fits(subsystem.0, subvendor)
                    && fits(subsystem.1, subdevice)
            }
        }
    }
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
