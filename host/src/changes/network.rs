//! The network configuration of a function: its interfaces with addresses and routes, and the RDMA devices on them. All of
//! this disappears when the driver is unbound, and is restored after the driver is bound again.

mod interface;
mod ip_arguments;
mod link;

use std::time::{Duration, Instant};

use peerpath_paths::Bdf;
use serde::{Deserialize, Serialize};

use self::interface::{Interface, NotRestorable};
use super::Subject;
use super::names::{name, optional_pair};
use crate::Error;
use crate::host_tree::{HostTree, names, read_trimmed};
use crate::in_use::{Below, RdmaDevice, rdma_devices};

/// Timeout for a driver to create its interface, and for a link to come up.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Interval between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Network configuration of a function before its driver was unbound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Network {
    interfaces: Vec<Interface>,
    rdma: Vec<Rdma>,
}

/// An RDMA device of the function, or a software RDMA device on one of its interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rdma {
    #[serde(deserialize_with = "name")]
    name: String,
    /// Kind (`rxe` or `siw`) and network interface of a software RDMA device; `None` for hardware.
    #[serde(default, deserialize_with = "optional_pair")]
    software: Option<(String, String)>,
    /// Whether port 1 was active.
    active: bool,
}

impl Network {
    /// Reads the current configuration.
    ///
    /// # Errors
    /// Part of the configuration cannot be restored, or a program that restores it is not installed.
    pub(super) fn before(host: &HostTree, bdf: Bdf) -> Result<Self, Error> {
        let below = Below::read(host, bdf)?;
        let cannot = |what: String| Error::NotRestorable { subject: Subject::Function(bdf), what };
        if below.interfaces.is_empty() && is_ethernet(host, bdf)? {
            return Err(cannot("its network interface is in another network namespace".to_owned()));
        }
        let mut interfaces = Vec::new();
        for name in &below.interfaces {
            let upper = names(&host.path(format!("sys/class/net/{name}")))?;
            if let Some(upper) = upper.iter().find_map(|entry| entry.strip_prefix("upper_")) {
                return Err(cannot(format!("{upper} is stacked on its interface {name}")));
            }
            let interface = Interface::before(host, name).map_err(|error| match error {
                NotRestorable::Part(what) => cannot(what),
                NotRestorable::Error(error) => error,
            })?;
            if interfaces.iter().any(|other: &Interface| other.has_the_port_of(&interface)) {
                return Err(cannot(format!(
                    "its interface {name} has the same dev_port as another interface of the function"
                )));
            }
            interfaces.push(interface);
        }
        let rdma = rdma_devices(host, &below)?;
        if rdma.iter().any(|device| device.software.is_some()) {
            host.query("rdma", &["-V"])?;
        }
        let rdma = rdma.into_iter().map(|RdmaDevice { name, software }| {
            let active = is_active(host, &name)?;
            Ok(Rdma { name, software, active })
        });
        Ok(Self { interfaces, rdma: rdma.collect::<Result<_, Error>>()? })
    }
}

/// Waits until the kernel has removed the software RDMA devices, which takes some time after the removal of their interface.
pub(super) fn wait_for_removal(host: &HostTree, bdf: Bdf, network: &Network) -> Result<(), Error> {
    for Rdma { name, .. } in network.rdma.iter().filter(|device| device.software.is_some()) {
        until(bdf, &format!("the removal of the RDMA device {name}"), TIMEOUT, || {
            Ok((!exists(host, name)).then_some(()))
        })?;
    }
    Ok(())
}

/// Restores the parts of the configuration that are missing.
///
/// # Errors
/// Returns the error of the first part that cannot be restored, after all other parts are restored.
pub(super) fn restore(host: &HostTree, bdf: Bdf, network: &Network) -> Result<(), Error> {
    let mut outcome = Ok(());
    for interface in &network.interfaces {
        outcome = outcome.and(interface.restore(host, bdf));
    }
    for Rdma { name, software, .. } in &network.rdma {
        if let Some((kind, interface)) = software
            && !exists(host, name)
        {
            let added = host.change("rdma", &["link", "add", name, "type", kind, "netdev", interface]);
            outcome = outcome.and(added);
        }
    }
    // If a part is missing, a link that depends on it never comes up, so do not wait for links.
    outcome?;
    for Rdma { name, .. } in network.rdma.iter().filter(|device| device.active) {
        let what = format!("the link of the RDMA device {name}");
        until(bdf, &what, TIMEOUT, || Ok(is_active(host, name)?.then_some(())))?;
    }
    Ok(())
}

fn until<T>(
    bdf: Bdf,
    what: &str,
    timeout: Duration,
    mut check: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = check()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(Error::NotRestored { bdf, what: what.to_owned(), waited_s: timeout.as_secs() });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn is_ethernet(host: &HostTree, bdf: Bdf) -> Result<bool, Error> {
    Ok(host.function_number(bdf, "class")?.is_some_and(|class| class >> 8 == 0x0200))
}

fn exists(host: &HostTree, device: &str) -> bool {
    host.path(format!("sys/class/infiniband/{device}")).exists()
}

fn is_active(host: &HostTree, device: &str) -> Result<bool, Error> {
    let state = read_trimmed(&host.path(format!("sys/class/infiniband/{device}/ports/1/state")))?;
    Ok(state.is_some_and(|state| state.ends_with("ACTIVE")))
}
