//! A network interface of a function: its link, addresses, routes and permanent neighbours.

use std::time::Duration;

use peerpath_paths::Bdf;
use serde::{Deserialize, Serialize};

use super::link::Link;
use super::{TIMEOUT, ip_arguments, until};
use crate::Error;
use crate::changes::names::{name, optional_name, routes};
use crate::host_tree::{HostTree, read_trimmed};
use crate::in_use::{Below, is_up};

/// Time for udev to rename an interface. After this time, this crate renames the interface.
const NAMING_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 3000 });

/// A network interface. Addresses, routes and neighbours are stored as arguments of `ip`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Interface {
    #[serde(deserialize_with = "name")]
    name: String,
    /// `dev_port`, which distinguishes the interfaces of one function. Names can change.
    port: u64,
    #[serde(default, deserialize_with = "optional_name")]
    mac: Option<String>,
    #[serde(default, deserialize_with = "optional_name")]
    mtu: Option<String>,
    up: bool,
    /// Absent in journals of older versions.
    #[serde(default)]
    link: Link,
    addresses: Vec<String>,
    #[serde(deserialize_with = "routes")]
    routes: Vec<String>,
    /// Absent in journals of older versions.
    #[serde(default)]
    neighbours: Vec<String>,
}

/// Reason why an interface cannot be restored.
pub(super) enum NotRestorable {
    Part(String),
    Error(Error),
}

impl From<Error> for NotRestorable {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Interface {
    pub(super) fn before(host: &HostTree, name: &str) -> Result<Self, NotRestorable> {
        let shown = host.query("ip", &["-details", "-json", "address", "show", "dev", name])?;
        let link = Link::parse(&shown).map_err(NotRestorable::Part)?;
        let addresses = ip_arguments::addresses(name, &shown).map_err(NotRestorable::Part)?;
        let prefix_routes = addresses.iter().any(|address| address.contains(" noprefixroute"));
        let mut routes = Vec::new();
        for family in ["-4", "-6"] {
            let listed = host.query("ip", &["-json", family, "route", "show", "table", "all", "dev", name])?;
            routes.extend(ip_arguments::routes(family, &listed, prefix_routes).map_err(NotRestorable::Part)?);
        }
        // A route through a gateway requires the route to that gateway.
        routes.sort_by_key(|route| route.contains(" via "));
        let listed = host.query("ip", &["-json", "neighbour", "show", "dev", name, "nud", "permanent"])?;
        Ok(Self {
            name: name.to_owned(),
            port: port(host, name)?,
            mac: attribute(host, name, "address")?.filter(|mac| !mac.is_empty()),
            mtu: attribute(host, name, "mtu")?,
            up: is_up(host, name)?,
            link,
            addresses,
            routes,
            neighbours: ip_arguments::neighbours(&listed).map_err(NotRestorable::Part)?,
        })
    }

    /// Whether both interfaces have the same `dev_port`, which then does not distinguish them.
    pub(super) fn has_the_port_of(&self, other: &Self) -> bool {
        self.port == other.port
    }

    /// Restores the configuration on the interface that the driver created. Restores every part, even if another part fails.
    ///
    /// # Errors
    /// Returns the error of the first part that cannot be restored.
    pub(super) fn restore(&self, host: &HostTree, bdf: Bdf) -> Result<(), Error> {
        let name = &self.name;
        let found = until(bdf, &format!("the network interface {name}"), TIMEOUT, || self.find(host, bdf))?;
        if &found != name {
            self.rename(host, bdf, &found)?;
        }
        let mut outcome = Ok(());
        let mut note = |done: Result<(), Error>| {
            if outcome.is_ok() {
                outcome = done;
            }
        };
        for (attribute_name, before) in [("address", &self.mac), ("mtu", &self.mtu)] {
            note(before.as_ref().map_or(Ok(()), |before| set_attribute(host, name, attribute_name, before)));
        }
        note(self.link.restore(host, name));
        note(set_up(host, name, self.up));
        let mut replace = |start: &[&str], arguments: &str| {
            let arguments: Vec<_> =
                start.iter().copied().chain(arguments.split_whitespace()).chain(["dev", name]).collect();
            note(host.change("ip", &arguments));
        };
        for address in &self.addresses {
            replace(&["address", "replace"], address);
        }
        for route in &self.routes {
            let (family, route) = route.split_once(' ').unwrap_or(("-4", route));
            replace(&[family, "route", "replace"], route);
        }
        for neighbour in &self.neighbours {
            replace(&["neighbour", "replace"], neighbour);
        }
        outcome
    }

    fn find(&self, host: &HostTree, bdf: Bdf) -> Result<Option<String>, Error> {
        for name in Below::read(host, bdf)?.interfaces {
            if port(host, &name)? == self.port {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Restores the name of an interface, unless udev does. udev usually renames an interface after the kernel creates it.
    fn rename(&self, host: &HostTree, bdf: Bdf, found: &str) -> Result<(), Error> {
        let named = until(bdf, "the interface name", NAMING_TIMEOUT, || {
            Ok(self.find(host, bdf)?.filter(|name| *name == self.name))
        });
        if named.is_ok() {
            return Ok(());
        }
        let found = self.find(host, bdf)?.unwrap_or_else(|| found.to_owned());
        host.change("ip", &["link", "set", "dev", &found, "down"])?;
        host.change("ip", &["link", "set", "dev", &found, "name", &self.name])
    }
}

fn attribute(host: &HostTree, interface: &str, name: &str) -> Result<Option<String>, Error> {
    read_trimmed(&host.path(format!("sys/class/net/{interface}/{name}")))
}

fn port(host: &HostTree, interface: &str) -> Result<u64, Error> {
    Ok(attribute(host, interface, "dev_port")?.and_then(|port| port.parse().ok()).unwrap_or(0))
}

/// Sets an attribute of an interface, unless it already has this value.
fn set_attribute(host: &HostTree, interface: &str, name: &str, value: &str) -> Result<(), Error> {
    if attribute(host, interface, name)?.as_deref() == Some(value) {
        return Ok(());
    }
    host.change("ip", &["link", "set", "dev", interface, name, value])
}

fn set_up(host: &HostTree, interface: &str, up: bool) -> Result<(), Error> {
    if is_up(host, interface)? == up {
        return Ok(());
    }
    host.change("ip", &["link", "set", "dev", interface, if up { "up" } else { "down" }])
}
