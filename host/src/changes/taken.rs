//! The state of a function before its driver is replaced by vfio-pci, or unbound while the domain type of its group changes.

use peerpath_paths::{Bdf, is_tolerated_driver};
use serde::{Deserialize, Serialize};

use super::driver;
use super::names::optional_name;
use super::network::{self, Network};
use crate::Error;
use crate::host_tree::HostTree;

/// State of a function before it is unbound from its driver, including the network configuration that disappears with the
/// driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    #[serde(default, deserialize_with = "optional_name")]
    pub(super) driver: Option<String>,
    /// Value of `driver_override`. Journals of older versions contain it only for changes that set the override.
    #[serde(default, deserialize_with = "optional_name")]
    driver_override: Option<String>,
    /// Network configuration. Journals of older versions contain it only for a change of a domain type.
    #[serde(default)]
    network: Network,
}

impl Taken {
    /// Reads the current state.
    ///
    /// # Errors
    /// Part of the network configuration cannot be restored, or a program that restores it is not installed.
    pub(crate) fn before(host: &HostTree, bdf: Bdf) -> Result<Self, Error> {
        let driver = host.driver(bdf)?;
        let is_kernel_driver =
            driver.as_ref().is_some_and(|name| !is_tolerated_driver(name) && !name.starts_with("uio"));
        let network = if is_kernel_driver { Network::before(host, bdf)? } else { Network::default() };
        Ok(Self { driver, driver_override: driver::driver_override(host, bdf)?, network })
    }

    /// Whether the function is bound to the driver that it had before.
    pub(super) fn is_bound(&self, host: &HostTree, bdf: Bdf) -> Result<bool, Error> {
        Ok(self.driver.is_some() && host.driver(bdf)? == self.driver)
    }

    /// Unbinds the driver, unless another one was bound meanwhile.
    pub(super) fn unbind(&self, host: &HostTree, bdf: Bdf) -> Result<(), Error> {
        match &self.driver {
            Some(driver) if self.is_bound(host, bdf)? => driver::unbind(host, bdf, driver),
            _ => Ok(()),
        }
    }

    /// Waits until the kernel has removed the software RDMA devices that disappear with the driver.
    pub(super) fn wait_for_removal(&self, host: &HostTree, bdf: Bdf) -> Result<(), Error> {
        network::wait_for_removal(host, bdf, &self.network)
    }

    /// Unbinds the function from its driver and binds it to vfio-pci.
    pub(crate) fn bind_to_vfio_pci(&self, host: &HostTree, bdf: Bdf) -> Result<(), Error> {
        driver::bind_to_vfio_pci(host, bdf)?;
        self.wait_for_removal(host, bdf)
    }

    /// Binds the driver, unless another one was bound meanwhile.
    pub(super) fn bind(&self, host: &HostTree, bdf: Bdf) -> Result<(), Error> {
        match &self.driver {
            Some(driver) if host.driver(bdf)?.is_none() => {
                // A killed process may not have waited for the removal. A software RDMA device that is about to disappear would
                // then look like a restored one. Ignore a timeout: another program may have created a device of that name.
                let _ = self.wait_for_removal(host, bdf);
                driver::bind_to(host, bdf, driver)
            }
            _ => Ok(()),
        }
    }

    /// Restores the network configuration, if the function is bound to its driver.
    pub(super) fn restore_network(&self, host: &HostTree, bdf: Bdf) -> Result<(), Error> {
        if self.is_bound(host, bdf)? { network::restore(host, bdf, &self.network) } else { Ok(()) }
    }

    /// Restores the driver, the driver override and the network configuration of a function that was bound to vfio-pci.
    ///
    /// # Errors
    /// [`Error::OtherDriver`] if another program has bound another driver meanwhile. That driver stays bound.
    pub(super) fn revert(&self, host: &HostTree, bdf: Bdf) -> Result<(), Error> {
        if let Some(other) = host.driver(bdf)?
            && Some(&other) != self.driver.as_ref()
            && !host.tree().has_vfio_driver(bdf)
        {
            return Err(Error::OtherDriver { bdf, driver: other, before: self.driver.clone() });
        }
        driver::release(host, bdf, self.driver.as_deref(), self.driver_override.as_deref())?;
        self.bind(host, bdf)?;
        self.restore_network(host, bdf)
    }

    #[cfg(test)]
    pub(super) fn of_driver(driver: Option<&str>) -> Self {
        Self { driver: driver.map(str::to_owned), driver_override: None, network: Network::default() }
    }
}
