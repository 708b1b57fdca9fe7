//! Whether the kernel trusts the root complex to forward peer-to-peer transfers.

use crate::kernel_rules::host_bridges;
use crate::{Bdf, Function, Host, Route, Topology};

/// The routes that remain possible with the known facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Routes {
    pub(super) bus_address: bool,
    pub(super) host_bridge: bool,
    pub(super) none: bool,
}

impl Routes {
    pub(super) const BUS_ADDRESS: Self = Self { bus_address: true, host_bridge: false, none: false };

    /// The route, if only one is possible.
    pub(super) fn only(self) -> Option<Route> {
        match (self.bus_address, self.host_bridge, self.none) {
            (true, false, false) => Some(Route::BusAddress),
            (false, true, false) => Some(Route::HostBridge),
            (false, false, true) => Some(Route::NotSupported),
            _ => None,
        }
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self {
            bus_address: self.bus_address || other.bus_address,
            host_bridge: self.host_bridge || other.host_bridge,
            none: self.none || other.none,
        }
    }

    /// The possible routes of transfers through a root complex. `trusted` is whether the kernel trusts the root complex; `None`
    /// if unknown.
    fn through_root(trusted: Option<bool>) -> Self {
        Self { bus_address: false, host_bridge: trusted != Some(false), none: trusted != Some(true) }
    }
}

/// Facts that decide which root buses the kernel trusts to forward peer-to-peer transfers.
#[derive(Debug)]
pub(super) struct Trust {
    /// Whether the kernel trusts every host bridge because of the processor.
    pub(super) processor: Option<bool>,
    /// For each root bus, whether the allowlist contains it for a pair of functions below this root bus.
    alone: Vec<Option<bool>>,
    /// For each root bus, whether the allowlist contains it for a pair with one function below this and one below another root
    /// bus.
    with_another: Vec<Option<bool>>,
}

impl Trust {
    pub(super) fn of(host: &Host, topology: &Topology) -> Self {
        let listed =
            |same| topology.roots().iter().map(|root| listed(host, topology, &root.possible_first, same)).collect();
        Self { processor: processor(host), alone: listed(true), with_another: listed(false) }
    }

    /// Whether the allowlist permits a pair of root buses.
    pub(super) fn listed(&self, from: usize, to: usize) -> Option<bool> {
        if from == to {
            return self.alone[from];
        }
        match (self.with_another[from], self.with_another[to]) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }

    /// Whether the allowlist contains a root bus for a pair with another root bus.
    pub(super) fn listed_with_another(&self, root: usize) -> Option<bool> {
        self.with_another[root]
    }

    pub(super) fn routes(&self, from: usize, to: usize) -> Routes {
        Routes::through_root(match (self.processor, self.listed(from, to)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        })
    }
}

/// Whether the kernel trusts every host bridge because of the processor; `None` if the processor is unknown, or if the answer
/// depends on the backports of an old kernel.
fn processor(host: &Host) -> Option<bool> {
    let trusted = host.cpu.as_ref()?.trusted_for_p2p()?;
    let too_old = host.kernel.is_some_and(|kernel| kernel < host_bridges::TRUSTS_ZEN);
    if trusted && too_old { None } else { Some(trusted) }
}

/// Whether the allowlist contains the first device of a root bus; `None` if that depends on which of the possible devices is
/// first.
fn listed(host: &Host, topology: &Topology, possible_first: &[Bdf], same_host_bridge: bool) -> Option<bool> {
    let mut answers = possible_first
        .iter()
        .filter_map(|bdf| topology.function(*bdf))
        .map(|function| first_is_listed(host, function, same_host_bridge));
    // The kernel does not trust a root bus without devices.
    let first = answers.next().unwrap_or(Some(false))?;
    answers.all(|answer| answer == Some(first)).then_some(first)
}

fn first_is_listed(host: &Host, first: &Function, same_host_bridge: bool) -> Option<bool> {
    let (Some(vendor), Some(device)) = (first.vendor, first.device) else { return None };
    let listed = host_bridges::is_trusted(vendor, device, same_host_bridge, host.kernel);
    if listed == Some(false) || (first.bdf.device(), first.bdf.function()) == (0, 0) {
        return listed;
    }
    // The kernel accepts a first device other than 00.0 only if it is a root port.
    match first.is_root_port() {
        Some(true) => listed,
        Some(false) => Some(false),
        None => None,
    }
}
