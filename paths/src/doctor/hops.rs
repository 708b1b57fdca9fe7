//! The functions between exporter and importer, and what is set on them.

use super::Context;
use crate::{Bdf, Capability, Function, Pcie, PortType};

/// The bridges on which p2pdma looks for a redirect: up to the nearest one above both, that one included. Empty where
/// there is none.
pub(super) fn common_bridges<'a>(at: &Context<'a>) -> Vec<&'a Function> {
    let (Some(from), Some(to)) = (at.exporter, at.importer) else { return Vec::new() };
    let (up, down) = (at.topology().bridges_above(from.bdf), at.topology().bridges_above(to.bdf));
    let Some(common) = up.iter().find(|bridge| down.contains(bridge)).copied() else { return Vec::new() };
    let below = |bridges: Vec<Bdf>| bridges.into_iter().take_while(move |bridge| *bridge != common);
    let bridges = below(up).chain([common]).chain(below(down));
    bridges.filter_map(|bdf| at.topology().function(bdf)).collect()
}

/// What was seen of the PCIe capabilities on the way; `None` where one could not be read.
pub(super) fn pcie_hops(at: &Context<'_>) -> Option<Vec<(Bdf, Pcie)>> {
    let hops = at.report.as_ref().map(|report| report.hops.as_slice()).unwrap_or_default();
    let mut seen = Vec::new();
    for hop in hops {
        match at.topology().function(*hop)?.pcie {
            // Inside the root complex there is no link, and no payload size that a link would check.
            Capability::Present(pcie) if is_on_a_link(pcie.port_type) => seen.push((*hop, pcie)),
            Capability::Present(_) | Capability::Absent => {}
            Capability::Unknown => return None,
        }
    }
    Some(seen)
}

fn is_on_a_link(port_type: PortType) -> bool {
    !matches!(port_type, PortType::IntegratedEndpoint | PortType::EventCollector)
}
