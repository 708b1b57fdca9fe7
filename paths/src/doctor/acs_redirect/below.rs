//! Finds the switches with an ACS redirect between functions of interest below them. One pass from the endpoints up to the root
//! buses visits each function once, because a host may have long chains of cascaded switches.

use std::collections::BTreeMap;

use super::super::devices_of_interest::{has_memory, is_of_interest};
use crate::{Function, PortType, Topology};

/// Maximum number of ports in one boot option: 1.6 KiB of a kernel command line of at most 2 KiB on most architectures.
pub(super) const LISTED_PORTS: usize = 128;
/// Maximum number of functions that a finding names.
const NAMED_FUNCTIONS: usize = 8;

/// The first elements of a set of functions, and the size of the set. The elements are positions in the topology, which orders
/// functions by address.
#[derive(Debug, Default)]
pub(super) struct Firsts<const LIMIT: usize> {
    pub(super) first: Vec<usize>,
    pub(super) count: usize,
}

impl<const LIMIT: usize> Firsts<LIMIT> {
    fn add(&mut self, at: usize) {
        self.join(&Self { first: vec![at], count: 1 });
    }

    /// Adds another set. The two sets have no common element.
    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.first.extend(&other.first);
        self.first.sort_unstable();
        self.first.truncate(LIMIT);
    }
}

/// A switch with at least two functions of interest below different ports.
pub(super) struct Switch {
    /// Position of the upstream port in the topology.
    pub(super) at: usize,
    pub(super) functions: Firsts<NAMED_FUNCTIONS>,
    /// The functions and ports with ACS redirect, up to and including the upstream port.
    pub(super) redirecting: Firsts<LISTED_PORTS>,
    /// A function with memory, and a function below another port.
    pub(super) pair: (usize, usize),
}

/// The functions of interest below a bridge.
#[derive(Default)]
struct Below {
    functions: Firsts<NAMED_FUNCTIONS>,
    redirecting: Firsts<LISTED_PORTS>,
    /// One entry per child of the bridge that is a function of interest or has one below it: the first such function, and the
    /// first one with memory.
    branches: Vec<(usize, Option<usize>)>,
}

impl Below {
    /// The first function with memory, and the first function of another branch.
    fn pair(&self) -> Option<(usize, usize)> {
        let with_memory =
            self.branches.iter().enumerate().filter_map(|(branch, (_, memory))| Some(((*memory)?, branch)));
        let (from, own) = with_memory.min()?;
        let others = self.branches.iter().enumerate().filter(|(branch, _)| *branch != own);
        Some((from, others.map(|(_, (first, _))| *first).min()?))
    }
}

/// The switches with a redirecting port and a pair of functions, ordered by address.
pub(super) fn switches_with_redirect(topology: &Topology) -> Vec<Switch> {
    let functions = topology.functions();
    let depth = topology.accumulate_down(|_, above: Option<usize>| above.map_or(0, |above| above + 1));
    let mut order: Vec<usize> = (0..functions.len()).collect();
    order.sort_unstable_by_key(|&at| std::cmp::Reverse(depth[at]));
    let mut pending: BTreeMap<usize, Below> = BTreeMap::new();
    let mut switches = Vec::new();
    for at in order {
        let function = &functions[at];
        let mut below = pending.remove(&at).unwrap_or_default();
        let pair = below.pair().filter(|_| is_switch(function));
        let mut memory = below.branches.iter().filter_map(|(_, memory)| *memory).min();
        let redirects = function.redirects().present().is_some();
        if redirects && (below.functions.count > 0 || is_of_interest(function)) {
            below.redirecting.add(at);
        }
        let Below { functions: all, redirecting, .. } = below;
        if let Some(above) = topology.above(at) {
            let mut own = Firsts::default();
            own.join(&all);
            if is_of_interest(function) {
                own.add(at);
                memory = memory.into_iter().chain(has_memory(function).then_some(at)).min();
            }
            if let Some(&first) = own.first.first() {
                let above = pending.entry(above).or_default();
                above.functions.join(&own);
                above.redirecting.join(&redirecting);
                above.branches.push((first, memory));
            }
        }
        if let Some(pair) = pair.filter(|_| redirecting.count > 0) {
            switches.push(Switch { at, functions: all, redirecting, pair });
        }
    }
    switches.sort_unstable_by_key(|switch| switch.at);
    switches
}

fn is_switch(function: &Function) -> bool {
    function.pcie.present().is_some_and(|pcie| pcie.port_type == PortType::SwitchUpstream)
}
