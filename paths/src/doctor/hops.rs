//! Links between exporter and importer.

use super::Context;
use crate::{Bdf, Capability, Pcie, PortType};

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
