//! Checks ACS redirect between functions below one switch. A redirect sends their transfers to the root complex, or the P2PDMA
//! check refuses them.

mod below;

use std::collections::BTreeSet;

use self::below::{LISTED_PORTS, Switch};
use super::boot_options::clears_redirect_of;
use super::context::few_of;
use super::{Context, Verdict};
use crate::{Bdf, Capability, Cause, Function, PathName, PortType, Predictor, Request, boot_option};

pub(super) fn check(at: &Context<'_>) -> Vec<Verdict> {
    match (at.exporter, at.importer) {
        (Some(from), Some(to)) => vec![of_pair(at, from, to)],
        (None, None) => of_switches(at),
        _ => Vec::new(),
    }
}

fn of_pair(at: &Context<'_>, from: &Function, to: &Function) -> Verdict {
    let subject = format!("{} -> {}", from.bdf, to.bdf);
    let predictor = at.inventory.predictor(Request::default());
    // Two functions below one root port without a switch belong to one device, so no switch port routes packets between them.
    let common = predictor.common_node(from.bdf, to.bdf).and_then(|bdf| at.topology().function(bdf));
    let Some(common) = common.filter(|_| from.bdf != to.bdf) else {
        return Verdict::pass(subject, "No switch connects the two functions.");
    };
    match common.pcie {
        Capability::Unknown => return unreadable(subject, common.bdf),
        Capability::Present(pcie) if pcie.port_type == PortType::SwitchUpstream => {}
        _ => return Verdict::pass(subject, "No switch connects the two functions."),
    }
    let checked = predictor.functions_checked_for_acs(from.bdf, to.bdf).unwrap_or_default();
    let redirecting: BTreeSet<Bdf> = checked.iter().copied().filter(|bdf| redirects(at, *bdf)).collect();
    let is_unknown =
        |bdf: &&Bdf| at.topology().function(**bdf).is_some_and(|function| function.acs == Capability::Unknown);
    if !redirecting.is_empty() {
        let outcome = outcome(&predictor, from.bdf, to.bdf);
        let ports: Vec<_> = redirecting.iter().map(ToString::to_string).collect();
        let what = "the two functions, which are below one switch".to_owned();
        return verdict(at, subject, what, (&ports, ports.len()), outcome);
    }
    match checked.iter().find(is_unknown) {
        Some(bdf) => unreadable(subject, *bdf),
        None => Verdict::pass(subject, "No ACS redirect is set on the path between the two functions."),
    }
}

fn unreadable(subject: String, bdf: Bdf) -> Verdict {
    Verdict::unknown(subject, format!("ACS of {bdf} is not readable."), "Run as root, or take the snapshot as root.")
}

fn redirects(at: &Context<'_>, bdf: Bdf) -> bool {
    at.topology().function(bdf).is_some_and(|function| function.redirects().present().is_some())
}

/// Returns a finding for each switch with an ACS redirect between a function with memory and another function of interest below a
/// different port.
fn of_switches(at: &Context<'_>) -> Vec<Verdict> {
    let affected = below::switches_with_redirect(at.topology());
    if affected.is_empty() {
        return Vec::new();
    }
    let predictor = at.inventory.predictor(Request::default());
    affected.iter().map(|switch| of_switch(at, &predictor, switch)).collect()
}

fn of_switch(at: &Context<'_>, predictor: &Predictor<'_>, switch: &Switch) -> Verdict {
    let functions = at.topology().functions();
    let (from, to) = (functions[switch.pair.0].bdf, functions[switch.pair.1].bdf);
    let named = switch.functions.first.iter().map(|&at| &functions[at]);
    let names: Vec<_> = named.map(|function| format!("{} ({})", function.bdf, function.class_name())).collect();
    let count = switch.functions.count;
    let ports: Vec<_> = switch.redirecting.first.iter().map(|&at| functions[at].bdf.to_string()).collect();
    verdict(
        at,
        functions[switch.at].bdf.to_string(),
        format!("{count} functions below this switch ({})", few_of(&names, count)),
        (&ports, switch.redirecting.count),
        outcome(predictor, from, to),
    )
}

/// The path that the kernel chooses for the pair, and the cause of a refusal.
fn outcome(predictor: &Predictor<'_>, from: Bdf, to: Bdf) -> (PathName, Option<Cause>) {
    predictor.predict(from, to).map_or((PathName::Unknown, None), |prediction| (prediction.path, prediction.cause))
}

/// The remedy if the command line already names every port with ACS redirect.
const ALREADY_NAMED: &str =
    "The command line already names these ports in pci=disable_acs_redir=; see the check boot-options.";

/// Remedy for a pair whose ports with ACS redirect are all named in `pci=disable_acs_redir=`; `None` if one of them is not named.
pub(super) fn already_named(at: &Context<'_>, from: Bdf, to: Bdf) -> Option<&'static str> {
    let checked = at.inventory.predictor(Request::default()).functions_checked_for_acs(from, to)?;
    let redirecting = checked.into_iter().filter(|bdf| redirects(at, *bdf)).collect();
    clears_redirect_of(at, &redirecting).then_some(ALREADY_NAMED)
}

/// Creates the finding for `count` ports with ACS redirect. `ports` holds the first of them.
fn verdict(
    at: &Context<'_>,
    subject: String,
    what: String,
    (ports, count): (&[String], usize),
    (path, cause): (PathName, Option<Cause>),
) -> Verdict {
    let consequence = match (path, cause) {
        (PathName::Refused, Some(Cause::Topology)) => "the kernel refuses transfers between them",
        _ => "transfers between them go through the root complex",
    };
    const MERGE: &str =
        "The IOMMU groups of the functions then merge; keep ACS if they belong to different virtual machines.";
    let addresses = ports.iter().filter_map(|port| port.parse().ok()).collect();
    let remedy = if count == ports.len() && clears_redirect_of(at, &addresses) {
        ALREADY_NAMED.to_owned()
    } else if count <= LISTED_PORTS {
        format!("Boot with {}. {MERGE}", boot_option::without_redirect(ports))
    } else {
        format!(
            "Disable ACS in the firmware settings: a list of {count} ports exceeds the length of the kernel command line. {MERGE}"
        )
    };
    let verdict = Verdict::warn(
        subject,
        format!("ACS redirect is set on {} between {what}, so {consequence}.", few_of(ports, count)),
        remedy,
    );
    Verdict { cause: cause.filter(|cause| *cause == Cause::Topology), ..verdict }
}
