//! The PCI functions of the guest, which `scripts/lab list` describes. Tests for any scenario look them up by name; the constants
//! are valid in scenarios with the topology of `default`.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use peerpath_host::Hold;

/// ivshmem behind a root port; BAR 2 has 128 MiB.
pub(crate) const EXPORTER: &str = "0000:01:00.0";
/// NIC behind a root port; `rxe0` runs on it.
pub(crate) const NIC: &str = "0000:02:00.0";
/// An NVMe drive, bound to its kernel driver.
pub(crate) const NVME: &str = "0000:03:00.0";
/// QEMU's pci-testdev; BAR 1 is an I/O BAR.
pub(crate) const TEST_DEVICE: &str = "0000:00:17.0";
/// ivshmem behind the same switch as the NIC of `rxe1`.
pub(crate) const SWITCH_EXPORTER: &str = "0000:06:00.0";

/// Returns the BDF of a function by its name in the scenario.
pub(crate) fn named(name: &str) -> Result<String, Failed> {
    let variable = format!("PEERPATH_LAB_{}", name.to_uppercase());
    std::env::var(&variable).map_err(|_| format!("the lab did not set {variable}").into())
}

fn folder(bdf: &str) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(bdf)
}

/// Returns the driver that a function is bound to.
pub(crate) fn driver(bdf: &str) -> Option<String> {
    let link = fs::read_link(folder(bdf).join("driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// Returns `driver_override` as sysfs shows it.
pub(crate) fn driver_override(bdf: &str) -> String {
    fs::read_to_string(folder(bdf).join("driver_override")).unwrap_or_default().trim().to_owned()
}

/// Binds a function without a driver to vfio-pci until the hold is dropped. The libraries open only bound functions.
pub(crate) fn hold(bdf: &str) -> Result<Hold, Failed> {
    Ok(Hold::acquire(bdf.parse()?, &peerpath_host::Options::default())?)
}

/// Returns the sysfs file of a BAR, which root can map.
pub(crate) fn bar_file(bdf: &str, bar: u8) -> PathBuf {
    folder(bdf).join(format!("resource{bar}"))
}

/// Returns offset and value of the ACS control register.
pub(crate) fn acs_control(config: &[u8]) -> Option<(usize, u16)> {
    let mut at = 0x100;
    loop {
        let header = u32::from_le_bytes(config.get(at..at + 4)?.try_into().ok()?);
        if header & 0xffff == 0x000d {
            return Some((at + 6, u16::from_le_bytes(config.get(at + 6..at + 8)?.try_into().ok()?)));
        }
        at = (header >> 20) as usize & !3;
        if at < 0x100 {
            return None;
        }
    }
}

/// Returns the network interface of a NIC.
pub(crate) fn interface(bdf: &str) -> Result<String, Failed> {
    let mut found = fs::read_dir(folder(bdf).join("net"))?;
    let entry = found.next().ok_or("the NIC has no interface")??;
    Ok(entry.file_name().to_string_lossy().into_owned())
}
