//! Statements about the route of packets, for the report of a pair and for the checks.

use crate::acs_route::{PortAction, SwitchRoute, translation_blocker};
use crate::{AcsControl, Bdf, Function, PathName, Topology};

/// The packets that a statement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packets {
    /// The importer's untranslated requests.
    Requests,
    /// The exporter's completions of the importer's reads.
    Completions,
    /// The importer's translated requests (ATS) and translation requests.
    Translated,
}

/// The consequence of a statement for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The packets arrive.
    Remark,
    /// The packets are blocked, may be rejected, or take a longer route than necessary.
    Problem {
        /// The remedy, as an imperative sentence.
        remedy: String,
    },
    /// The route depends on unreadable config space.
    Unknown,
}

/// A statement about the route of packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteFact {
    pub(crate) packets: Packets,
    /// The statement, as a clause without capital and period.
    pub(crate) clause: String,
    pub(crate) meaning: Meaning,
}

impl RouteFact {
    pub(crate) fn is_problem(&self) -> bool {
        matches!(self.meaning, Meaning::Problem { .. })
    }

    fn remark(packets: Packets, clause: String) -> Self {
        Self { packets, clause, meaning: Meaning::Remark }
    }

    fn problem(packets: Packets, clause: String, remedy: String) -> Self {
        Self { packets, clause, meaning: Meaning::Problem { remedy } }
    }

    fn unknown(packets: Packets, clause: String) -> Self {
        Self { packets, clause, meaning: Meaning::Unknown }
    }
}

/// The statements about the packets between an exporter and the importer `to`. `common` is the nearest common bridge, `route` the
/// route through it if it is a switch, and `path` the path that the kernel chooses.
pub(crate) fn route_facts(
    topology: &Topology,
    to: usize,
    common: Option<usize>,
    route: Option<&SwitchRoute<'_>>,
    path: PathName,
) -> impl Iterator<Item = RouteFact> {
    let importer = &topology.functions()[to];
    let requests = route.and_then(|route| requests(route, path));
    let completions = route.and_then(|route| completions(route, importer, path));
    [requests, completions, translated(topology, to, common, route)].into_iter().flatten()
}

fn requests(route: &SwitchRoute<'_>, path: PathName) -> Option<RouteFact> {
    let port = route.requests_enter.bdf;
    let fact = match (path, route.keeps_requests(path), route.untranslated_request()) {
        (PathName::HostBridgeBypass, Some(true), Some(PortAction::Block)) => {
            blocked(Packets::Requests, "requests", port)
        }
        (PathName::HostBridgeBypass, Some(true), _) => RouteFact::remark(
            Packets::Requests,
            format!(
                "the requests stay below the switch, although the kernel maps for the route through the host bridge: they enter \
                 the switch at {port}, which does not redirect them (ACS RR), and turn at {}",
                route.switch.bdf
            ),
        ),
        (PathName::HostBridgeBypass, None, _) => RouteFact::unknown(
            Packets::Requests,
            format!("whether the requests stay below the switch depends on the ACS of {port}, which is unknown"),
        ),
        (PathName::HostBridgeTranslated, _, Some(PortAction::Forward)) => RouteFact::remark(
            Packets::Requests,
            format!(
                "untranslated requests carry I/O virtual addresses, so the switch forwards them to the root complex, although {port} \
                 does not redirect requests (ACS RR)"
            ),
        ),
        _ => return None,
    };
    Some(fact)
}

/// The statement about completions. A root complex that sees the request but not its completion, or the completion but not its
/// request, may fail the read (comment on `mlx5_umem_needs_ats` in `drivers/infiniband/hw/mlx5/mlx5_ib.h`).
fn completions(route: &SwitchRoute<'_>, importer: &Function, path: PathName) -> Option<RouteFact> {
    let port = route.completions_enter;
    let untranslated_stay = route.keeps_requests(path);
    let translated_stay = uses_ats(importer) && route.translated_request() == Some(PortAction::Forward);
    let redirected = |requests: &str| {
        format!(
            "{requests} requests stay below the switch, but the completions of reads enter it at {}, which sends completions without \
             relaxed ordering to the root complex (ACS CR), and a root complex that has not seen the request may reject them",
            port.bdf
        )
    };
    let fact = match (route.redirects_completions()?, untranslated_stay) {
        (true, Some(true)) => RouteFact::problem(
            Packets::Completions,
            redirected("untranslated"),
            format!(
                "Clear completion redirect (bit 3 of the ACS Control register) of {} with setpci, or read with relaxed ordering only.",
                port.bdf
            ),
        ),
        (true, Some(false)) if translated_stay && importer.driver.as_deref() == Some("mlx5_core") => RouteFact::remark(
            Packets::Completions,
            redirected("translated") + "; mlx5 translates only memory that is registered with relaxed ordering",
        ),
        (true, Some(false)) if translated_stay => RouteFact::problem(
            Packets::Completions,
            redirected("translated"),
            "Read with relaxed ordering only, or boot with pci=noats.".to_owned(),
        ),
        (false, Some(false)) => {
            let clause = format!(
                "untranslated requests go through the root complex, but the completions of reads enter the switch at {}, which does \
                 not redirect them (ACS CR), and a root complex that does not see the completion may report an error",
                port.bdf
            );
            if supports(port, AcsControl::COMPLETION_REDIRECT) == Some(true) {
                let remedy =
                    format!("Set completion redirect (bit 3 of the ACS Control register) of {} with setpci.", port.bdf);
                RouteFact::problem(Packets::Completions, clause, remedy)
            } else {
                RouteFact::remark(Packets::Completions, clause)
            }
        }
        _ => return None,
    };
    Some(fact)
}

fn uses_ats(importer: &Function) -> bool {
    importer.ats.present().is_some_and(|ats| ats.enabled)
}

fn translated(
    topology: &Topology,
    to: usize,
    common: Option<usize>,
    route: Option<&SwitchRoute<'_>>,
) -> Option<RouteFact> {
    uses_ats(&topology.functions()[to]).then_some(())?;
    if let Some(port) = translation_blocker(topology, to) {
        let port = port.bdf;
        return Some(RouteFact::problem(
            Packets::Translated,
            format!(
                "the importer uses ATS, but {port} blocks its translation requests and translated requests as ACS violations (ACS TB)"
            ),
            format!(
                "Clear translation blocking (bit 1 of the ACS Control register) of {port} with setpci, or boot with pci=noats."
            ),
        ));
    }
    let Some(route) = route else {
        let clause = if common.is_some() {
            "the importer uses ATS, and no switch joins the functions, so their device or their common port determines the \
             route of translated requests"
        } else {
            "the importer uses ATS, and its translated requests take the same path through the root complex"
        };
        return Some(RouteFact::remark(Packets::Translated, clause.to_owned()));
    };
    Some(translated_below_switch(route))
}

fn translated_below_switch(route: &SwitchRoute<'_>) -> RouteFact {
    let port = route.requests_enter.bdf;
    match (route.translated_request(), route.untranslated_request()) {
        (Some(PortAction::Forward), Some(PortAction::Forward)) => RouteFact::remark(
            Packets::Translated,
            format!(
                "the importer uses ATS, and its translated requests stay below the switch: they enter it at {port}, which does not \
                 redirect requests (ACS RR)"
            ),
        ),
        (Some(PortAction::Forward), _) => RouteFact::remark(
            Packets::Translated,
            format!(
                "the importer uses ATS, and its translated requests stay below the switch: they enter it at {port}, which routes \
                 them directly (ACS DT)"
            ),
        ),
        (Some(PortAction::Redirect), _) => {
            let up = format!(
                "the importer uses ATS, and its translated requests go through the root complex: they enter the switch at {port}, \
                 which redirects them (ACS RR without DT)"
            );
            match supports(route.requests_enter, AcsControl::DIRECT_TRANSLATED) {
                Some(true) => RouteFact::problem(
                    Packets::Translated,
                    up,
                    format!("Set direct translated P2P (bit 6 of the ACS Control register) of {port} with setpci."),
                ),
                Some(false) => {
                    RouteFact::remark(Packets::Translated, up + " and does not support direct translated P2P")
                }
                None => RouteFact::remark(Packets::Translated, up),
            }
        }
        (Some(PortAction::Block), _) => blocked(Packets::Translated, "translated requests", port),
        (None, _) => RouteFact::unknown(
            Packets::Translated,
            format!(
                "the importer uses ATS, and the route of its translated requests depends on the ACS of {port}, which is unknown"
            ),
        ),
    }
}

fn blocked(packets: Packets, name: &str, port: Bdf) -> RouteFact {
    RouteFact::problem(
        packets,
        format!("{port} blocks the importer's {name} to the exporter as ACS violations (ACS egress control)"),
        format!("Clear egress control (bit 5 of the ACS Control register) of {port} with setpci."),
    )
}

/// Whether a port has a bit in its ACS Capability register; `None` if the register is not readable.
fn supports(port: &Function, bit: u16) -> Option<bool> {
    port.config.acs_register().present().map(|register| register.supported & bit != 0)
}
