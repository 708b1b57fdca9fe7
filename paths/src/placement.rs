//! Whether two functions can move below a common switch, and what to do if they cannot.

use crate::{Bdf, Function, Platform, Topology};

/// What determines the positions of two functions in the topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The user: cards can move to other slots.
    Slots,
    /// The hardware: the function is on a root bus, that is, part of the processor or the chipset.
    Integrated(Bdf),
    /// The VMD controller that provides the root bus of the function.
    BehindVmd { function: Bdf, controller: Bdf },
    /// The platform: a hypervisor, or a board.
    Fixed(Platform),
    /// The configuration of a virtual machine, which its owner can change.
    VirtualMachine,
}

impl Placement {
    /// The placement of two functions at these positions.
    pub(crate) fn of(platform: Option<Platform>, topology: &Topology, pair: [usize; 2]) -> Self {
        match platform {
            Some(platform) if platform.has_configurable_bridges() => return Self::VirtualMachine,
            Some(platform) if platform.instead_of_moving().is_some() => return Self::Fixed(platform),
            _ => {}
        }
        let functions = pair.map(|at| &topology.functions()[at]);
        let behind_vmd = functions.iter().find_map(|function| Some((function.bdf, topology.vmd_above(function)?)));
        if let Some((function, controller)) = behind_vmd {
            return Self::BehindVmd { function, controller };
        }
        let mut integrated =
            pair.iter().zip(functions).filter(|(at, function)| is_integrated(topology, **at, function));
        integrated.next().map_or(Self::Slots, |(_, function)| Self::Integrated(function.bdf))
    }

    /// The change of position that gives the pair another path, as an imperative clause; `None` if no change is possible.
    pub(crate) fn change(self) -> Option<String> {
        match self {
            Self::Slots => {
                Some("move both functions below one switch without ACS redirect for a bus-address path".to_owned())
            }
            Self::VirtualMachine => Some(
                "put both functions below one virtual switch without ACS (in QEMU: x3130-upstream and xio3130-downstream) for a bus-address path"
                    .to_owned(),
            ),
            Self::BehindVmd { function, controller } => Some(format!(
                "switch VMD ({controller}) off in the firmware, so that {function} is on a root bus of the processor, for a path by the rules of that root bus"
            )),
            Self::Integrated(_) | Self::Fixed(_) => None,
        }
    }

    /// What to do if the kernel refuses the pair and no setting changes that, as imperative sentences.
    pub(crate) fn instead(self) -> String {
        match self {
            Self::Slots => {
                "Use functions below one switch without ACS redirect or another host, or transfer through host memory."
                    .to_owned()
            }
            Self::VirtualMachine | Self::BehindVmd { .. } => "Transfer through host memory.".to_owned(),
            Self::Integrated(function) => format!(
                "Transfer through host memory: {function} is part of the processor or the chipset, so no other slot is an alternative."
            ),
            Self::Fixed(platform) => platform.instead_of_moving().unwrap_or("Transfer through host memory.").to_owned(),
        }
    }
}

fn is_integrated(topology: &Topology, at: usize, function: &Function) -> bool {
    function.physical_function.is_none() && topology.above(at).is_none() && !topology.parent_unknown(at)
}
