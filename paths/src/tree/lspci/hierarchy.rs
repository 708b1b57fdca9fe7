//! The bridge above each function, from the bus numbers of the bridges, and the virtual functions of each physical function.
//!
//! A bus without a listed bridge above it is a root bus, or the lspci output lacks the bridge. Such a bus counts as a root bus
//! only if the output shows that it is one and lists the first device of the bus, because the kernel looks this device up in its
//! allowlist.

use std::collections::{BTreeMap, BTreeSet};

use super::{Listing, Shown};
use crate::{Bdf, Capability, ConfigSpace, PortType};

/// Maximum number of bridges above a function. Bus numbers in a damaged output can form a cycle.
const DEPTH_LIMIT: usize = 32;
/// Maximum number of virtual functions of all physical functions.
const VIRTUAL_LIMIT: usize = 1 << 16;
/// Classes of functions of the chipset: host bridge, ISA bridge, SATA and SAS controllers, interrupt controller and IOMMU, other
/// system peripherals, SMBus, performance monitors.
const INCIDENTAL: [u16; 9] = [0x0600, 0x0601, 0x0106, 0x0107, 0x0800, 0x0806, 0x0880, 0x0c05, 0x1101];
const HOST_BRIDGE: u16 = 0x0600;
const PCI_BRIDGE: u16 = 0x0604;

/// What is above a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Above {
    RootBus,
    Bridge(Bdf),
    Unknown,
}

/// A bus: segment and number.
type Bus = (u32, u8);

/// The bridge hierarchy, derived from the output of lspci.
#[derive(Debug, Default)]
pub(super) struct Hierarchy {
    /// The bridge that leads to a bus.
    leading: BTreeMap<Bus, Bdf>,
    /// Buses that the lspci output shows to be root buses.
    roots: BTreeSet<Bus>,
    /// Buses below a bridge that the lspci output does not list, because the range of a bridge above contains them.
    covered: BTreeSet<Bus>,
    /// Buses with a PCIe function that is usually below a port.
    below_port: BTreeSet<Bus>,
    /// Segments with a bridge whose bus numbers are unknown.
    unclear: BTreeSet<u32>,
    /// Whether the lspci output lists every function of the host.
    is_whole: bool,
    /// Buses of which the lspci output lists function 00.0.
    starting: BTreeSet<Bus>,
    physical: BTreeMap<Bdf, Bdf>,
}

impl Hierarchy {
    pub(super) fn of(listing: &Listing) -> Self {
        let mut hierarchy = Self { roots: listing.roots.clone(), ..Self::default() };
        let mut virtual_left = VIRTUAL_LIMIT;
        for (&bdf, shown) in &listing.functions {
            let space = shown.config.space(shown.whole_dump);
            hierarchy.add(bdf, shown, &space);
            if let Capability::Present(distances) = space.virtual_functions() {
                for distance in distances.take(virtual_left) {
                    virtual_left -= 1;
                    let Some(below) = at_distance(bdf, distance) else { break };
                    if listing.functions.contains_key(&below) && below != bdf {
                        hierarchy.physical.insert(below, bdf);
                    }
                }
            }
        }
        hierarchy.is_whole = hierarchy.lists_all(listing);
        hierarchy
    }

    /// Whether the lspci output lists every function, not only those that its author selected. This is assumed if it lists the
    /// first function of the host, or a function unrelated to peer-to-peer transfers, and if no bridge is missing.
    fn lists_all(&self, listing: &Listing) -> bool {
        let starts = Bdf::new(0, 0, 0, 0).is_some_and(|first| listing.functions.contains_key(&first));
        let is_placed = |bdf: &Bdf| {
            let bus = (bdf.segment(), bdf.bus());
            let is_known = self.leading.contains_key(&bus) || self.roots.contains(&bus);
            is_known || self.physical.contains_key(bdf) || !self.is_below_missing(bus)
        };
        let is_incidental = |shown: &Shown| shown.class.is_some_and(|class| INCIDENTAL.contains(&class));
        starts || (listing.functions.values().any(is_incidental) && listing.functions.keys().all(is_placed))
    }

    fn add(&mut self, bdf: Bdf, shown: &Shown, space: &ConfigSpace) {
        let bus = (bdf.segment(), bdf.bus());
        if (bdf.device(), bdf.function()) == (0, 0) {
            self.starting.insert(bus);
        }
        let class = shown.class.or(space.class().map(|class| (class >> 8) as u16));
        match space.buses_below() {
            Some((secondary, subordinate)) if secondary != 0 => {
                self.leading.entry((bdf.segment(), secondary)).or_insert(bdf);
                let inner = secondary.saturating_add(1)..=subordinate;
                self.covered.extend(inner.map(|bus| (bdf.segment(), bus)));
            }
            Some(_) => {}
            None if class == Some(PCI_BRIDGE) => {
                self.unclear.insert(bdf.segment());
            }
            None => {}
        }
        match space.port_type().present() {
            Some(PortType::RootPort | PortType::IntegratedEndpoint | PortType::EventCollector) => {
                self.roots.insert(bus);
            }
            _ if bdf.bus() == 0 || class == Some(HOST_BRIDGE) => {
                self.roots.insert(bus);
            }
            Some(PortType::Endpoint | PortType::SwitchUpstream | PortType::SwitchDownstream) => {
                self.below_port.insert(bus);
            }
            _ => {}
        }
    }

    /// Whether the bridge that leads to a bus is missing, if the bus is not a root bus.
    fn is_below_missing(&self, bus: Bus) -> bool {
        self.covered.contains(&bus) || self.below_port.contains(&bus)
    }

    fn above(&self, bdf: Bdf) -> Above {
        let bus = (bdf.segment(), bdf.bus());
        if let Some(&bridge) = self.leading.get(&bus).filter(|bridge| **bridge != bdf) {
            return Above::Bridge(bridge);
        }
        let lists_roots = || self.roots.range((bus.0, 0)..=(bus.0, u8::MAX)).next().is_some();
        let may_be_below = self.is_below_missing(bus) || self.unclear.contains(&bus.0);
        let is_root = self.roots.contains(&bus) || (!may_be_below && lists_roots());
        let lists_first = self.is_whole || self.starting.contains(&bus);
        if is_root && lists_first { Above::RootBus } else { Above::Unknown }
    }

    /// The physical function of a virtual function.
    pub(super) fn physical_function(&self, bdf: Bdf) -> Option<Bdf> {
        self.physical.get(&bdf).copied()
    }

    /// The directory of a function in sysfs. If the bridge above a function is unknown, the directory is below that of a
    /// nonexistent bridge, which `Topology::read` reports as an unknown bridge. The directory is outside of `sys/devices`, where
    /// `Topology::read` searches for functions without a link.
    pub(super) fn directory(&self, bdf: Bdf) -> String {
        let mut at = self.physical_function(bdf).unwrap_or(bdf);
        let mut parts = vec![bdf.to_string()];
        let is_known = loop {
            match self.above(at) {
                Above::Bridge(bridge) if parts.len() <= DEPTH_LIMIT => {
                    parts.push(bridge.to_string());
                    at = bridge;
                }
                Above::RootBus => break true,
                Above::Bridge(_) | Above::Unknown => break false,
            }
        };
        let bus = format!("pci{:04x}:{:02x}", at.segment(), at.bus());
        if is_known {
            parts.push(format!("sys/devices/{bus}"));
        } else {
            parts.push("ffffffff:ff:1f.7".to_owned());
            parts.push(format!("sys/unknown/{bus}"));
        }
        parts.reverse();
        parts.join("/")
    }
}

/// The function whose routing ID is `distance` after that of another function.
fn at_distance(bdf: Bdf, distance: u32) -> Option<Bdf> {
    let id = u32::from(bdf.bus()) << 8 | u32::from(bdf.device()) << 3 | u32::from(bdf.function());
    let id = u16::try_from(id.checked_add(distance)?).ok()?;
    Bdf::new(bdf.segment(), (id >> 8) as u8, (id >> 3 & 31) as u8, (id & 7) as u8)
}
