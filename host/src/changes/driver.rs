//! The single steps of giving a function to a driver. Each can be repeated, so that an interrupted series can be finished
//! or undone.

use peerpath_paths::Bdf;

use super::Change;
use crate::Error;
use crate::host_tree::{HostTree, read_trimmed};
use crate::viability::{self, VFIO_PCI};

/// What has to be put back later.
pub(crate) fn state(host: &HostTree, bdf: Bdf) -> Result<Change, Error> {
    Ok(Change::Driver { driver: host.driver(bdf)?, driver_override: driver_override(host, bdf)? })
}

/// The driver that alone may have the function, where one is set.
fn driver_override(host: &HostTree, bdf: Bdf) -> Result<Option<String>, Error> {
    let text = read_trimmed(&host.function(bdf).join("driver_override"))?;
    Ok(text.filter(|text| !text.is_empty() && text != "(null)"))
}

/// `VfioPciMissing` unless the driver is there to take functions.
pub(crate) fn require_vfio_pci(host: &HostTree) -> Result<(), Error> {
    if host.path(format!("sys/bus/pci/drivers/{VFIO_PCI}")).exists() { Ok(()) } else { Err(Error::VfioPciMissing) }
}

/// Gives the function to vfio-pci.
pub(crate) fn take(host: &HostTree, bdf: Bdf) -> Result<(), Error> {
    // First the override: a driver that is being loaded must not get the function between the next two steps.
    set_override(host, bdf, Some(VFIO_PCI))?;
    if let Some(driver) = host.driver(bdf)? {
        unbind(host, bdf, &driver)?;
    }
    bind_to(host, bdf, VFIO_PCI)
}

/// Puts back what was there before.
pub(super) fn give_back(
    host: &HostTree,
    bdf: Bdf,
    driver: Option<&str>,
    override_before: Option<&str>,
) -> Result<(), Error> {
    let now = host.driver(bdf)?;
    let ours = now.is_some() && viability::has_vfio_driver(host, bdf)?;
    if let Some(vfio) = now.as_ref().filter(|now| ours && driver != Some(now)) {
        unbind(host, bdf, vfio)?;
    }
    // Somebody else's override is left alone.
    if driver_override(host, bdf)?.as_deref() == Some(VFIO_PCI) {
        set_override(host, bdf, override_before)?;
    }
    match driver {
        // A driver that somebody gave the function meanwhile is left alone.
        Some(driver) if host.driver(bdf)?.is_none() => bind_to(host, bdf, driver),
        _ => Ok(()),
    }
}

/// Takes the function from its VFIO driver and gives it back to it: the kernel forgets what it had decided about it.
pub(crate) fn rebind(host: &HostTree, bdf: Bdf, driver: &str) -> Result<(), Error> {
    match host.driver(bdf)? {
        Some(now) if now == driver => unbind(host, bdf, driver)?,
        // Whoever took it meanwhile keeps it.
        Some(_) => return Ok(()),
        None => {}
    }
    bind_to(host, bdf, driver)
}

fn set_override(host: &HostTree, bdf: Bdf, driver: Option<&str>) -> Result<(), Error> {
    let path = host.function(bdf).join("driver_override");
    // An empty line clears it.
    host.write(&path, &format!("{}\n", driver.unwrap_or_default())).map_err(|source| Error::Bind {
        bdf,
        operation: "setting driver_override",
        source,
    })
}

pub(super) fn unbind(host: &HostTree, bdf: Bdf, driver: &str) -> Result<(), Error> {
    let path = host.path(format!("sys/bus/pci/drivers/{driver}/unbind"));
    match host.write(&path, &bdf.to_string()) {
        Ok(()) => Ok(()),
        // It lost its driver meanwhile, which is what was wanted.
        Err(_) if host.driver(bdf)?.is_none() => Ok(()),
        Err(source) => Err(Error::Bind { bdf, operation: "taking it from its driver", source }),
    }
}

pub(super) fn bind_to(host: &HostTree, bdf: Bdf, driver: &str) -> Result<(), Error> {
    if host.driver(bdf)?.as_deref() == Some(driver) {
        return Ok(());
    }
    let path = host.path(format!("sys/bus/pci/drivers/{driver}/bind"));
    let written = host.write(&path, &bdf.to_string());
    if host.driver(bdf)?.as_deref() == Some(driver) {
        // Some kernels answer with an error although the driver, probing in the background, took it.
        return Ok(());
    }
    match written {
        Ok(()) => Err(Error::NotTaken { bdf, driver: driver.to_owned() }),
        Err(source) => Err(Error::Bind { bdf, operation: "giving it to the driver", source }),
    }
}
