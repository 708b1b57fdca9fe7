//! Bridges and links between exporter and importer.

use super::Context;
use crate::{Bdf, Capability, Function, Pcie, PortType};

/// The bridges that p2pdma checks for an ACS redirect: up to and including the nearest common bridge. Empty without a common
/// bridge.
pub(super) fn common_bridges<'a>(at: &Context<'a>) -> Vec<&'a Function> {
    let (Some(from), Some(to)) = (at.exporter, at.importer) else { return Vec::new() };
    let (up, down) = (at.topology().bridges_above(from.bdf), at.topology().bridges_above(to.bdf));
    let Some(common) = up.iter().find(|bridge| down.contains(bridge)).copied() else { return Vec::new() };
    let below = |bridges: Vec<Bdf>| bridges.into_iter().take_while(move |bridge| *bridge != common);
    let bridges = below(up).chain([common]).chain(below(down));
    bridges.filter_map(|bdf| at.topology().function(bdf)).collect()
}

/// The PCIe capabilities of the functions with a link on the path; `None` if one is not readable.
pub(super) fn pcie_hops(at: &Context<'_>) -> Option<Vec<(Bdf, Pcie)>> {
    let hops = at.report.as_ref().map(|report| report.hops.as_slice()).unwrap_or_default();
    let mut found = Vec::new();
    for hop in hops {
        match at.topology().function(*hop)?.pcie {
            // Root Complex Integrated Endpoints have no link, so no link partner limits their payload size.
            Capability::Present(pcie) if is_on_a_link(pcie.port_type) => found.push((*hop, pcie)),
            Capability::Present(_) | Capability::Absent => {}
            Capability::Unknown => return None,
        }
    }
    Some(found)
}

fn is_on_a_link(port_type: PortType) -> bool {
    !matches!(port_type, PortType::IntegratedEndpoint | PortType::EventCollector)
}
