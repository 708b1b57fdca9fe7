//! Check of ACS redirect between functions below one switch: the redirect sends their transfers to the root complex, or makes
//! p2pdma refuse them.

use std::collections::{BTreeMap, BTreeSet};

use super::boot_options::clears_redirect_of;
use super::context::few;
use super::devices_of_interest::{has_memory, is_of_interest};
use super::{Context, Verdict};
use crate::{Bdf, Capability, Cause, Function, PathName, PortType, Predictor, Request, boot_option};

/// The functions of interest below a switch.
#[derive(Default)]
struct Below<'a> {
    functions: Vec<&'a Function>,
    /// The ports directly below the upstream port that lead to the functions.
    branches: BTreeSet<Bdf>,
    /// The ports with ACS redirect, from above the functions up to and including the upstream port.
    redirecting: BTreeSet<Bdf>,
}

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
    // Below a root port without a switch, two functions share a device, and no port of a switch can keep their packets.
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
        return verdict(at, subject, "the two functions, which are below one switch".to_owned(), &redirecting, outcome);
    }
    match checked.iter().find(is_unknown) {
        Some(bdf) => unreadable(subject, *bdf),
        None => Verdict::pass(subject, "No ACS redirect is set between the two functions below their switch."),
    }
}

fn unreadable(subject: String, bdf: Bdf) -> Verdict {
    Verdict::unknown(subject, format!("ACS of {bdf} is not readable."), "Run as root, or take the snapshot as root.")
}

fn redirects(at: &Context<'_>, bdf: Bdf) -> bool {
    at.topology().function(bdf).is_some_and(|function| function.redirects().present().is_some())
}

/// Checks every switch with a function that has memory and another function of interest below different ports.
fn of_switches(at: &Context<'_>) -> Vec<Verdict> {
    let topology = at.topology();
    let mut switches: BTreeMap<Bdf, Below<'_>> = BTreeMap::new();
    for function in topology.functions().iter().filter(|function| is_of_interest(function)) {
        let mut below = function.bdf;
        let mut redirecting: Vec<Bdf> = [function.bdf].into_iter().filter(|bdf| redirects(at, *bdf)).collect();
        for bdf in topology.bridges_above(function.bdf) {
            redirecting.extend([bdf].into_iter().filter(|bdf| redirects(at, *bdf)));
            let port_type = topology.function(bdf).and_then(|bridge| bridge.pcie.present()).map(|pcie| pcie.port_type);
            if port_type == Some(PortType::SwitchUpstream) {
                let switch = switches.entry(bdf).or_default();
                switch.functions.push(function);
                switch.branches.insert(below);
                switch.redirecting.extend(redirecting.iter().copied());
            }
            below = bdf;
        }
    }
    let affected = switches.into_iter().filter(|(_, below)| {
        below.branches.len() > 1
            && !below.redirecting.is_empty()
            && below.functions.iter().any(|function| has_memory(function))
    });
    let affected: Vec<_> = affected.collect();
    if affected.is_empty() {
        return Vec::new();
    }
    let predictor = at.inventory.predictor(Request::default());
    affected.iter().filter_map(|(switch, below)| of_switch(at, &predictor, *switch, below)).collect()
}

fn of_switch(at: &Context<'_>, predictor: &Predictor<'_>, switch: Bdf, below: &Below<'_>) -> Option<Verdict> {
    let partner = |from: &Function| {
        let meets = |to: &&&Function| predictor.common_node(from.bdf, to.bdf) == Some(switch);
        below.functions.iter().find(meets).map(|to| (from.bdf, to.bdf))
    };
    let (from, to) = below.functions.iter().filter(|function| has_memory(function)).find_map(|from| partner(from))?;
    let names: Vec<_> =
        below.functions.iter().map(|function| format!("{} ({})", function.bdf, function.class_name())).collect();
    Some(verdict(
        at,
        switch.to_string(),
        format!("{} functions below this switch ({})", below.functions.len(), few(&names)),
        &below.redirecting,
        outcome(predictor, from, to),
    ))
}

/// What the kernel does with such a pair.
fn outcome(predictor: &Predictor<'_>, from: Bdf, to: Bdf) -> (PathName, Option<Cause>) {
    predictor.predict(from, to).map_or((PathName::Unknown, None), |prediction| (prediction.path, prediction.cause))
}

/// The remedy if the command line already names every port with ACS redirect.
const ALREADY_NAMED: &str =
    "The command line already names these ports in pci=disable_acs_redir=; see the check boot-options.";

/// The remedy for ACS redirect between a pair if the command line already clears it; `None` if the command line does not.
pub(super) fn already_named(at: &Context<'_>, from: Bdf, to: Bdf) -> Option<&'static str> {
    let checked = at.inventory.predictor(Request::default()).functions_checked_for_acs(from, to)?;
    let redirecting = checked.into_iter().filter(|bdf| redirects(at, *bdf)).collect();
    clears_redirect_of(at, &redirecting).then_some(ALREADY_NAMED)
}

fn verdict(
    at: &Context<'_>,
    subject: String,
    what: String,
    redirecting: &BTreeSet<Bdf>,
    (path, cause): (PathName, Option<Cause>),
) -> Verdict {
    let ports: Vec<_> = redirecting.iter().map(ToString::to_string).collect();
    let consequence = match (path, cause) {
        (PathName::Refused, Some(Cause::Topology)) => "the kernel refuses transfers between them",
        _ => "transfers between them go through the root complex",
    };
    let verdict = Verdict::warn(
        subject,
        format!("ACS redirect is set on {} between {what}, so {consequence}.", few(&ports)),
        if clears_redirect_of(at, redirecting) {
            ALREADY_NAMED.to_owned()
        } else {
            format!(
                "Boot with {}. The IOMMU groups of the functions then merge; keep ACS if they belong to different virtual machines.",
                boot_option::without_redirect(&ports)
            )
        },
    );
    Verdict { cause: cause.filter(|cause| *cause == Cause::Topology), ..verdict }
}
