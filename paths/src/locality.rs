//! How far two functions are apart, with the abbreviations of `nvidia-smi topo -m`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Capability, PortType, Topology};

/// Distance between two functions, from near to far, with the abbreviations of `nvidia-smi topo -m`. It follows from bridges,
/// root buses and NUMA nodes alone, so it does not say which path the kernel chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Locality {
    /// At most one PCIe bridge or switch between the functions.
    Pix,
    /// Several PCIe bridges or switches, and no host bridge.
    Pxb,
    /// The host bridge of both functions.
    Phb,
    /// Two host bridges of one NUMA node.
    Node,
    /// Two host bridges of different NUMA nodes.
    Sys,
}

impl Locality {
    /// Every distance, from near to far.
    pub const ALL: [Self; 5] = [Self::Pix, Self::Pxb, Self::Phb, Self::Node, Self::Sys];

    /// The abbreviation of `nvidia-smi topo -m`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pix => "PIX",
            Self::Pxb => "PXB",
            Self::Phb => "PHB",
            Self::Node => "NODE",
            Self::Sys => "SYS",
        }
    }

    /// Meaning of the abbreviation, as a phrase.
    pub fn about(self) -> &'static str {
        match self {
            Self::Pix => "at most one PCIe bridge or switch between them",
            Self::Pxb => "several PCIe bridges or switches, no host bridge",
            Self::Phb => "through their common host bridge",
            Self::Node => "through two host bridges of one NUMA node",
            Self::Sys => "between NUMA nodes",
        }
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Distances between the functions of one host.
#[derive(Debug)]
pub(crate) struct Distances {
    /// For each function, the number of functions from this one up to the function on the root bus, both included. The upstream
    /// and the downstream port of a switch count as one.
    bridges: Vec<u32>,
}

impl Distances {
    pub(crate) fn of(topology: &Topology) -> Self {
        let depth = topology.accumulate_down(|_, above: Option<u32>| above.map_or(0, |above| above + 1));
        let is = |at: usize, wanted: PortType, by_depth: bool| match topology.functions()[at].pcie {
            Capability::Present(pcie) => pcie.port_type == wanted,
            Capability::Absent => false,
            // Below a root port, the upstream and the downstream ports of switches alternate.
            Capability::Unknown => by_depth,
        };
        let upstream = |at: usize| is(at, PortType::SwitchUpstream, depth[at] % 2 == 1);
        let downstream = |at: usize| is(at, PortType::SwitchDownstream, depth[at] > 0 && depth[at].is_multiple_of(2));
        Self {
            bridges: topology.accumulate_down(|at, above| {
                // The upstream port counts for the whole switch.
                let counted = topology.above(at).is_some_and(upstream) && downstream(at);
                above.unwrap_or(0) + u32::from(!counted)
            }),
        }
    }

    /// The distance between two functions. `common` is the nearest bridge above both, or one of the two functions if it is above
    /// the other. `None` for a function and itself, or if the distance depends on unknown bridges or NUMA nodes.
    pub(crate) fn between(
        &self,
        topology: &Topology,
        from: usize,
        to: usize,
        common: Option<usize>,
    ) -> Option<Locality> {
        if from == to {
            return None;
        }
        if let Some(common) = common {
            let below = |at: usize| match topology.above(at) {
                Some(above) if at != common => self.bridges[above].saturating_sub(self.bridges[common]),
                _ => 0,
            };
            let is_bridge = common != from && common != to;
            let bridges = below(from) + below(to) + u32::from(is_bridge);
            return Some(if bridges <= 1 { Locality::Pix } else { Locality::Pxb });
        }
        if topology.parent_unknown(topology.top(from)) || topology.parent_unknown(topology.top(to)) {
            return None;
        }
        if topology.root_number(from) == topology.root_number(to) {
            return Some(Locality::Phb);
        }
        let node = |at: usize| topology.functions()[at].numa_node;
        Some(if node(from)? == node(to)? { Locality::Node } else { Locality::Sys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_contains_the_word() {
        for word in Locality::ALL {
            assert_eq!(serde_json::to_value(word).unwrap(), word.as_str());
        }
    }
}
