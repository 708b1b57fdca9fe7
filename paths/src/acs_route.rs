//! The route of packets between two functions below one switch, judged at the ports where the packets enter the switch.
//!
//! A downstream port applies its ACS controls to the packets that it receives from below (PCIe 6.0, section 6.12.1.1). The
//! importer's requests enter the switch at the port above the importer, the completions of its reads at the port above the
//! exporter. P2PDMA applies another rule: it counts the redirect bits of all ports between the two functions, whether or not the
//! packets enter the switch there (`calc_map_type_and_dist` in `drivers/pci/p2pdma.c`).

use crate::{AcsControl, Capability, Function, PathName, PortType, Topology};

/// What a downstream port does with a packet that enters the switch at this port and is addressed to another port of the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortAction {
    /// The switch routes the packet to the other port.
    Forward,
    /// The switch sends the packet up, towards the root complex.
    Redirect,
    /// The port drops the packet and reports an ACS violation.
    Block,
}

/// The switch that joins exporter and importer, and the ports at which packets enter it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SwitchRoute<'a> {
    /// Upstream port of the switch.
    pub(crate) switch: &'a Function,
    /// Downstream port at which the importer's requests enter the switch.
    pub(crate) requests_enter: &'a Function,
    /// Downstream port at which the completions of the importer's reads enter the switch.
    pub(crate) completions_enter: &'a Function,
    /// Whether the host bridge shifts addresses: the switch routes by bus addresses, which then differ from the CPU addresses.
    shifted: bool,
}

impl<'a> SwitchRoute<'a> {
    /// The route between two functions whose nearest common bridge is `common`; `None` if this bridge is not a switch.
    pub(crate) fn below(topology: &'a Topology, from: usize, to: usize, common: usize) -> Option<Self> {
        let functions = topology.functions();
        functions[common].pcie.present().filter(|pcie| pcie.port_type == PortType::SwitchUpstream)?;
        let port_above = |at| {
            let port = topology.chain(at).take_while(|&at| at != common).last().map(|at| &functions[at]);
            port.filter(|port| port.is_bridge())
        };
        let offset = topology.roots()[topology.root_number(from)].offset;
        Some(Self {
            switch: &functions[common],
            requests_enter: port_above(to)?,
            completions_enter: port_above(from)?,
            shifted: offset.is_some_and(|offset| offset != 0),
        })
    }

    /// What the port does with an untranslated request to the bus address of the exporter's BAR; `None` if that depends on
    /// unreadable config space.
    pub(crate) fn untranslated_request(&self) -> Option<PortAction> {
        let control = match self.requests_enter.acs {
            Capability::Present(control) => control,
            Capability::Absent => return Some(PortAction::Forward),
            Capability::Unknown => return None,
        };
        let redirects = control.has(AcsControl::REQUEST_REDIRECT);
        // With egress control, request redirect applies only to requests to the ports in the Egress Control Vector.
        let selected = !control.has(AcsControl::EGRESS_CONTROL) || self.egress_vector_has_exporter()?;
        Some(match (selected, redirects) {
            (true, true) => PortAction::Redirect,
            (true, false) if control.has(AcsControl::EGRESS_CONTROL) => PortAction::Block,
            _ => PortAction::Forward,
        })
    }

    /// What the port does with a translated request (ATS). [`translation_blocker`] handles translation blocking.
    pub(crate) fn translated_request(&self) -> Option<PortAction> {
        match self.requests_enter.acs {
            Capability::Present(control) if control.direct_translated() => Some(PortAction::Forward),
            _ => self.untranslated_request(),
        }
    }

    /// Whether the completions of the importer's reads are sent to the root complex. Completions with the relaxed-ordering
    /// attribute are exempt; a completion copies the attribute from its request.
    pub(crate) fn redirects_completions(&self) -> Option<bool> {
        match self.completions_enter.acs {
            Capability::Present(control) => Some(control.has(AcsControl::COMPLETION_REDIRECT)),
            Capability::Absent => Some(false),
            Capability::Unknown => None,
        }
    }

    /// Whether the importer's untranslated requests stay below the switch on this path; a blocked request counts as staying.
    /// `None` for a path without peer-to-peer requests, or if config space is not readable.
    pub(crate) fn keeps_requests(&self, path: PathName) -> Option<bool> {
        match path {
            PathName::BusAddress => Some(true),
            // The DMA address is the CPU address. The switch routes it to the exporter only if it is also the bus address.
            PathName::HostBridgeBypass if self.shifted => Some(false),
            PathName::HostBridgeBypass => Some(self.untranslated_request()? != PortAction::Redirect),
            // No IOVA equals the address of a BAR: the kernel reserves the windows of the host bridges in the IOVA space
            // (`iova_reserve_pci_windows`).
            PathName::HostBridgeTranslated => Some(false),
            _ => None,
        }
    }

    fn egress_vector_has_exporter(&self) -> Option<bool> {
        self.requests_enter.config.acs_egress_vector_has(self.completions_enter.config.port_number()?)
    }
}

/// The nearest port above a function that has ACS translation blocking: the port blocks translation requests and translated
/// requests. Translation requests travel to the root complex, so every port above the function matters.
pub(crate) fn translation_blocker(topology: &Topology, at: usize) -> Option<&Function> {
    let ports = topology.chain(at).skip(1).map(|at| &topology.functions()[at]);
    let blocks = |control: AcsControl| control.has(AcsControl::TRANSLATION_BLOCKING);
    ports.into_iter().find(|port| port.acs.present().is_some_and(blocks))
}
