//! What a function carries into networks: its interfaces with addresses and routes, and the RDMA devices on them. All of
//! that goes with the function's driver, and is made again when the driver is back.

mod words;

use std::time::{Duration, Instant};

use peerpath_paths::Bdf;
use serde::{Deserialize, Serialize};

use super::Subject;
use crate::Error;
use crate::host_tree::{HostTree, names, read_trimmed};
use crate::in_use::{Below, RdmaDevice, rdma_devices};

/// How long a driver gets to bring its interface back, and a link to come up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long udev gets to give an interface its name before we do.
const NAMING_PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 3000 });
const STEP: Duration = Duration::from_millis(20);

/// What was there before the driver went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Network {
    interfaces: Vec<Interface>,
    rdma: Vec<Rdma>,
}

/// A network interface. Addresses and routes are kept in the words in which `ip` takes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Interface {
    name: String,
    /// Tells interfaces of one function apart; names can change.
    port: u64,
    mac: Option<String>,
    mtu: Option<String>,
    up: bool,
    addresses: Vec<String>,
    routes: Vec<String>,
}

/// An RDMA device of the function, or in software upon one of its interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rdma {
    name: String,
    /// Of one in software: `rxe` or `siw`, and the interface.
    software: Option<(String, String)>,
    /// Its first port was active.
    active: bool,
}

impl Network {
    /// What is there.
    ///
    /// # Errors
    /// Something of it could not be made again; or a program that would make it again is not there.
    pub(super) fn before(host: &HostTree, bdf: Bdf) -> Result<Self, Error> {
        let below = Below::read(host, bdf)?;
        let cannot = |what: String| Error::CannotPutBack { subject: Subject::Function(bdf), what };
        if below.interfaces.is_empty() && is_ethernet(host, bdf)? {
            return Err(cannot("its network interface is in another network namespace".to_owned()));
        }
        let mut interfaces = Vec::new();
        for name in &below.interfaces {
            let upper = names(&host.path(format!("sys/class/net/{name}")))?;
            if let Some(upper) = upper.iter().find_map(|entry| entry.strip_prefix("upper_")) {
                return Err(cannot(format!("{upper} stands upon its interface {name}")));
            }
            let interface = Interface::before(host, name).map_err(|error| match error {
                Unkept::What(what) => cannot(what),
                Unkept::Error(error) => error,
            })?;
            if interfaces.iter().any(|other: &Interface| other.port == interface.port) {
                return Err(cannot(format!("its interface {name} cannot be told from another one")));
            }
            interfaces.push(interface);
        }
        let rdma = rdma_devices(host, &below)?;
        if rdma.iter().any(|device| device.software.is_some()) {
            host.run("rdma", &["-V"])?;
        }
        let rdma = rdma.into_iter().map(|RdmaDevice { name, software }| {
            let active = is_active(host, &name)?;
            Ok(Rdma { name, software, active })
        });
        Ok(Self { interfaces, rdma: rdma.collect::<Result<_, Error>>()? })
    }
}

/// Why an interface cannot be made again.
enum Unkept {
    What(String),
    Error(Error),
}

impl From<Error> for Unkept {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Interface {
    fn before(host: &HostTree, name: &str) -> Result<Self, Unkept> {
        let printed = host.run("ip", &["-json", "address", "show", "dev", name])?;
        let addresses = words::addresses(name, &printed).map_err(Unkept::What)?;
        let prefix_routes = addresses.iter().any(|address| address.contains(" noprefixroute"));
        let mut routes = Vec::new();
        for family in ["-4", "-6"] {
            let listed = host.run("ip", &["-json", family, "route", "show", "table", "all", "dev", name])?;
            routes.extend(words::routes(family, &listed, prefix_routes).map_err(Unkept::What)?);
        }
        // A gateway has to be within reach before anything goes by it.
        routes.sort_by_key(|route| route.contains(" via "));
        Ok(Self {
            name: name.to_owned(),
            port: port(host, name)?,
            mac: attribute(host, name, "address")?.filter(|mac| !mac.is_empty()),
            mtu: attribute(host, name, "mtu")?,
            up: is_up(host, name)?,
            addresses,
            routes,
        })
    }

    /// Makes it again on the interface that the driver brought back.
    fn bring_back(&self, host: &HostTree, bdf: Bdf) -> Result<(), Error> {
        let name = &self.name;
        let found = until(bdf, &format!("the network interface {name}"), PATIENCE, || self.find(host, bdf))?;
        if &found != name {
            self.rename(host, bdf, &found)?;
        }
        let ip = |words: &str| {
            let words: Vec<_> = words.split_whitespace().collect();
            host.run("ip", &words).map(drop)
        };
        for (attribute_name, before) in [("address", &self.mac), ("mtu", &self.mtu)] {
            if let Some(before) = before
                && attribute(host, name, attribute_name)?.as_ref() != Some(before)
            {
                ip(&format!("link set dev {name} {attribute_name} {before}"))?;
            }
        }
        if is_up(host, name)? != self.up {
            ip(&format!("link set dev {name} {}", if self.up { "up" } else { "down" }))?;
        }
        let mut outcome = Ok(());
        for address in &self.addresses {
            outcome = outcome.and(ip(&format!("address replace {address} dev {name}")));
        }
        for route in &self.routes {
            let (family, route) = route.split_once(' ').unwrap_or(("-4", route));
            outcome = outcome.and(ip(&format!("{family} route replace {route} dev {name}")));
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

    /// udev gives names a moment after the kernel; what it leaves is ours to do.
    fn rename(&self, host: &HostTree, bdf: Bdf, found: &str) -> Result<(), Error> {
        let named =
            until(bdf, "its name", NAMING_PATIENCE, || Ok(self.find(host, bdf)?.filter(|name| *name == self.name)));
        if named.is_ok() {
            return Ok(());
        }
        let found = self.find(host, bdf)?.unwrap_or_else(|| found.to_owned());
        host.run("ip", &["link", "set", "dev", &found, "down"])?;
        host.run("ip", &["link", "set", "dev", &found, "name", &self.name]).map(drop)
    }
}

/// Waits until the RDMA devices in software are gone: they go a moment after the interface below them.
pub(super) fn wait_until_gone(host: &HostTree, bdf: Bdf, network: &Network) -> Result<(), Error> {
    for Rdma { name, .. } in network.rdma.iter().filter(|device| device.software.is_some()) {
        until(
            bdf,
            &format!("the end of the RDMA device {name}"),
            PATIENCE,
            || Ok((!exists(host, name)).then_some(())),
        )?;
    }
    Ok(())
}

/// Makes again what was there, as far as it is not there.
///
/// # Errors
/// The first thing that could not be made again; it kept nothing else from being made.
pub(super) fn bring_back(host: &HostTree, bdf: Bdf, network: &Network) -> Result<(), Error> {
    let mut outcome = Ok(());
    for interface in &network.interfaces {
        outcome = outcome.and(interface.bring_back(host, bdf));
    }
    for Rdma { name, software, .. } in &network.rdma {
        if let Some((kind, interface)) = software
            && !exists(host, name)
        {
            let added = host.run("rdma", &["link", "add", name, "type", kind, "netdev", interface]);
            outcome = outcome.and(added.map(drop));
        }
    }
    // What failed may be what a link would wait for in vain.
    outcome?;
    for Rdma { name, .. } in network.rdma.iter().filter(|device| device.active) {
        let what = format!("the link of the RDMA device {name}");
        until(bdf, &what, PATIENCE, || Ok(is_active(host, name)?.then_some(())))?;
    }
    Ok(())
}

fn until<T>(
    bdf: Bdf,
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(Error::NotBack { bdf, what: what.to_owned(), waited_s: patience.as_secs() });
        }
        std::thread::sleep(STEP);
    }
}

fn is_ethernet(host: &HostTree, bdf: Bdf) -> Result<bool, Error> {
    Ok(host.function_number(bdf, "class")?.is_some_and(|class| class >> 8 == 0x0200))
}

fn attribute(host: &HostTree, interface: &str, name: &str) -> Result<Option<String>, Error> {
    read_trimmed(&host.path(format!("sys/class/net/{interface}/{name}")))
}

fn port(host: &HostTree, interface: &str) -> Result<u64, Error> {
    Ok(attribute(host, interface, "dev_port")?.and_then(|port| port.parse().ok()).unwrap_or(0))
}

fn is_up(host: &HostTree, interface: &str) -> Result<bool, Error> {
    crate::in_use::is_up(host, interface)
}

fn exists(host: &HostTree, device: &str) -> bool {
    host.path(format!("sys/class/infiniband/{device}")).exists()
}

fn is_active(host: &HostTree, device: &str) -> Result<bool, Error> {
    let state = read_trimmed(&host.path(format!("sys/class/infiniband/{device}/ports/1/state")))?;
    Ok(state.is_some_and(|state| state.ends_with("ACTIVE")))
}
