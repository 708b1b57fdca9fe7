//! The steps that bind a function to another driver. Each step can be repeated, so that an interrupted sequence can be
//! completed or reverted.

use peerpath_paths::{Bdf, VFIO_PCI};

use crate::Error;
use crate::host_tree::{HostTree, read_trimmed};

/// Reads `driver_override`: the only driver that may be bound to the function; `None` if every driver may be bound.
pub(super) fn driver_override(host: &HostTree, bdf: Bdf) -> Result<Option<String>, Error> {
    let text = read_trimmed(&host.function(bdf).join("driver_override"))?;
    Ok(text.filter(|text| !text.is_empty() && text != "(null)"))
}

/// Fails with [`Error::VfioPciMissing`] unless the driver is loaded.
pub(crate) fn require_vfio_pci(host: &HostTree) -> Result<(), Error> {
    if host.path(format!("sys/bus/pci/drivers/{VFIO_PCI}")).exists() { Ok(()) } else { Err(Error::VfioPciMissing) }
}

/// Binds the function to vfio-pci.
pub(super) fn bind_to_vfio_pci(host: &HostTree, bdf: Bdf) -> Result<(), Error> {
    // Set the override first, so that the kernel cannot bind another driver between the next two steps.
    set_override(host, bdf, Some(VFIO_PCI))?;
    if let Some(driver) = host.driver(bdf)? {
        unbind(host, bdf, &driver)?;
    }
    bind_to(host, bdf, VFIO_PCI)
}

/// Unbinds the function from its VFIO driver, unless that is the previous driver, and restores the driver override.
pub(super) fn release(
    host: &HostTree,
    bdf: Bdf,
    driver: Option<&str>,
    override_before: Option<&str>,
) -> Result<(), Error> {
    let now = host.driver(bdf)?;
    let ours = now.is_some() && host.tree().has_vfio_driver(bdf);
    if let Some(vfio) = now.as_ref().filter(|now| ours && driver != Some(now)) {
        unbind(host, bdf, vfio)?;
    }
    // Keep an override that another program set meanwhile.
    if driver_override(host, bdf)?.as_deref() == Some(VFIO_PCI) {
        set_override(host, bdf, override_before)?;
    }
    Ok(())
}

/// Unbinds the function from its VFIO driver and binds it again, so that the kernel discards the cached path.
pub(crate) fn rebind(host: &HostTree, bdf: Bdf, driver: &str) -> Result<(), Error> {
    match host.driver(bdf)? {
        Some(now) if now == driver => unbind(host, bdf, driver)?,
        // Keep another driver that was bound meanwhile.
        Some(_) => return Ok(()),
        None => {}
    }
    bind_to(host, bdf, driver)
}

fn set_override(host: &HostTree, bdf: Bdf, driver: Option<&str>) -> Result<(), Error> {
    let path = host.function(bdf).join("driver_override");
    // An empty line clears the override.
    host.write(&path, &format!("{}\n", driver.unwrap_or_default())).map_err(|source| Error::Bind {
        bdf,
        operation: "set the driver override of",
        source,
    })
}

pub(super) fn unbind(host: &HostTree, bdf: Bdf, driver: &str) -> Result<(), Error> {
    let path = host.path(format!("sys/bus/pci/drivers/{driver}/unbind"));
    match host.write(&path, &bdf.to_string()) {
        Ok(()) => Ok(()),
        // Another program unbound the driver meanwhile, so the function is in the wanted state.
        Err(_) if host.driver(bdf)?.is_none() => Ok(()),
        Err(source) => Err(Error::Bind { bdf, operation: "unbind", source }),
    }
}

pub(super) fn bind_to(host: &HostTree, bdf: Bdf, driver: &str) -> Result<(), Error> {
    if host.driver(bdf)?.as_deref() == Some(driver) {
        return Ok(());
    }
    let path = host.path(format!("sys/bus/pci/drivers/{driver}/bind"));
    let written = host.write(&path, &bdf.to_string());
    if host.driver(bdf)?.as_deref() == Some(driver) {
        // Some kernels return an error although the driver was bound, because the driver probes asynchronously.
        return Ok(());
    }
    match written {
        Ok(()) => Err(Error::NotBound { bdf, driver: driver.to_owned() }),
        Err(source) => Err(Error::Bind { bdf, operation: "bind", source }),
    }
}
