//! Finds the bridge above a function by bus numbers, for trees whose paths do not show it.

use std::collections::{HashMap, HashSet};

use crate::{Function, PortType};

/// The bridges by the bus below them. The bus numbers are in the part of config space that is readable without privilege.
pub(super) struct BusNumbers {
    /// By segment and secondary bus, the first two bridges. The second one counts if the first is the function itself: a bridge
    /// in a damaged sysfs copy can be below itself.
    bridges: HashMap<(u32, u8), (usize, Option<usize>)>,
    /// Segments with a bridge whose bus numbers are unknown.
    incomplete: HashSet<u32>,
    /// Buses that are root buses for certain.
    roots: HashSet<(u32, u8)>,
}

impl BusNumbers {
    pub(super) fn of(functions: &[Function]) -> Self {
        let mut found =
            Self { bridges: HashMap::new(), incomplete: HashSet::new(), roots: certain_root_buses(functions) };
        for (at, bridge) in functions.iter().enumerate() {
            let segment = bridge.bdf.segment();
            match bridge.config.buses_below() {
                Some((0, _)) => {}
                Some((secondary, _)) => {
                    let key = (segment, secondary);
                    found
                        .bridges
                        .entry(key)
                        .and_modify(|(_, second)| *second = second.or(Some(at)))
                        .or_insert((at, None));
                }
                None if bridge.class.is_none_or(|class| class >> 8 == 0x0604) => {
                    found.incomplete.insert(segment);
                }
                None => {}
            }
        }
        found
    }

    /// Finds the bridge whose secondary bus is the function's bus. The second value is whether the function may be below a bridge
    /// that the search did not find.
    pub(super) fn above(&self, functions: &[Function], at: usize) -> (Option<usize>, bool) {
        let bdf = functions[at].bdf;
        let bridge = match self.bridges.get(&(bdf.segment(), bdf.bus())) {
            Some(&(first, second)) if first == at => second,
            Some(&(first, _)) => Some(first),
            None => None,
        };
        let bus = (bdf.segment(), bdf.bus());
        let may_miss = self.incomplete.contains(&bdf.segment()) || !self.roots.contains(&bus);
        (bridge, bridge.is_none() && may_miss)
    }
}

/// The buses that are root buses for certain, although no path shows it: those with a host bridge, a root port, or an integrated
/// endpoint or event collector of the root complex. An incomplete sysfs copy may lack the bridge above the functions of other
/// buses.
fn certain_root_buses(functions: &[Function]) -> HashSet<(u32, u8)> {
    let is_at_the_root = |function: &&Function| {
        function.bdf.bus() == 0
            || function.class.is_some_and(|class| class >> 8 == 0x0600)
            || function.pcie.present().is_some_and(|pcie| {
                matches!(pcie.port_type, PortType::RootPort | PortType::IntegratedEndpoint | PortType::EventCollector)
            })
    };
    functions.iter().filter(is_at_the_root).map(|function| (function.bdf.segment(), function.bdf.bus())).collect()
}
