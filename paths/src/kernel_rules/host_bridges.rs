//! The kernel's P2PDMA allowlist of host bridges (drivers/pci/p2pdma.c): the host bridges that may forward peer-to-peer
//! transfers, with the kernel version of each row. The kernel trusts every host bridge of an AMD processor since Zen,
//! independent of the list.

use serde::Serialize;

use crate::KernelVersion;

/// Device IDs of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Devices {
    Range(u16, u16),
    All,
}

/// One row of the allowlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    vendor: u16,
    devices: Devices,
    /// Whether the row applies only to pairs below the same host bridge (`REQ_SAME_HOST_BRIDGE`).
    same_host_bridge: bool,
    /// The first kernel of kernel.org with the row.
    since: KernelVersion,
}

const fn row(vendor: u16, first: u16, last: u16, same_host_bridge: bool, since: KernelVersion) -> Row {
    Row { vendor, devices: Devices::Range(first, last), same_host_bridge, since }
}

const fn version(major: u16, minor: u16) -> KernelVersion {
    KernelVersion { major, minor }
}

/// Versions whose complete allowlist is in the table: such a kernel lacks the rows of later versions. Other kernels may contain
/// backported rows: the stable releases of 7.1 contain the rows of 7.2.
const READ: [KernelVersion; 2] = [version(7, 2), version(7, 3)];

const INTEL: u16 = 0x8086;
const GOOGLE: u16 = 0x1ae0;
const NVIDIA: u16 = 0x10de;

/// The rows of the allowlist, each group with the kernel commit that adds it.
static ROWS: &[Row] = &[
    // commit 494d63b0d5d0
    row(INTEL, 0x3c00, 0x3c01, true, version(5, 4)),
    row(INTEL, 0x2f00, 0x2f01, true, version(5, 4)),
    // commit bc123a515cb7
    row(INTEL, 0x2030, 0x2030, false, version(5, 6)),
    row(INTEL, 0x2020, 0x2020, false, version(5, 6)),
    // commit 7b94b53db34f
    row(INTEL, 0x2031, 0x2033, false, version(5, 7)),
    // commit feaea1fe8b36
    row(INTEL, 0x09a2, 0x09a2, false, version(5, 18)),
    // commit 70cf146a674c
    Row { vendor: GOOGLE, devices: Devices::All, same_host_bridge: false, since: version(7, 1) },
    // commit 0ba76b19fd4c: accelerators (DSA, IAA, QAT) that are the first device on a root bus of their own
    row(INTEL, 0x0b25, 0x0b25, false, version(7, 2)),
    row(INTEL, 0x0cfe, 0x0cfe, false, version(7, 2)),
    row(INTEL, 0x11fb, 0x11fb, false, version(7, 2)),
    row(INTEL, 0x1212, 0x1212, false, version(7, 2)),
    row(INTEL, 0x1216, 0x1216, false, version(7, 2)),
    row(INTEL, 0x4940, 0x4940, false, version(7, 2)),
    row(INTEL, 0x4942, 0x4942, false, version(7, 2)),
    row(INTEL, 0x4944, 0x4944, false, version(7, 2)),
    row(INTEL, 0x4946, 0x4946, false, version(7, 2)),
    row(INTEL, 0x4948, 0x4948, false, version(7, 2)),
    // commit 894a78088fc3
    row(NVIDIA, 0x2f95, 0x2f98, false, version(7, 3)),
];

/// First kernel that trusts every host bridge of an AMD processor since Zen (`cpu_supports_p2pdma`, commit dea286bb71ba).
pub(crate) const TRUSTS_ZEN: KernelVersion = version(5, 9);

/// Whether the allowlist contains the device; `None` if that depends on the kernel: its version is unknown, or it may contain the
/// row as a backport.
pub(crate) fn is_trusted(
    vendor: u16,
    device: u16,
    same_host_bridge: bool,
    kernel: Option<KernelVersion>,
) -> Option<bool> {
    let row = ROWS.iter().find(|row| {
        row.vendor == vendor
            && match row.devices {
                Devices::Range(first, last) => (first..=last).contains(&device),
                Devices::All => true,
            }
    });
    let Some(row) = row else { return Some(false) };
    if row.same_host_bridge && !same_host_bridge {
        return Some(false);
    }
    match kernel {
        Some(kernel) if kernel >= row.since => Some(true),
        Some(kernel) => READ.contains(&kernel).then_some(false),
        // Without a version, assume a kernel that can export dma-bufs. It has all rows up to that version.
        None => (row.since <= KernelVersion::VFIO_DMA_BUF).then_some(true),
    }
}

/// One device of the allowlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ListedDevice {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID; `None` for every device of the vendor.
    pub device: Option<u16>,
    /// Whether the allowlist contains the device only for pairs below the same host bridge.
    pub same_host_bridge: bool,
    /// The first kernel of kernel.org with the device.
    #[serde(serialize_with = "super::as_text")]
    pub since: KernelVersion,
}

/// The devices of the allowlist.
pub fn listed_devices() -> impl Iterator<Item = ListedDevice> {
    ROWS.iter().flat_map(|row| {
        let devices: Vec<Option<u16>> = match row.devices {
            Devices::Range(first, last) => (first..=last).map(Some).collect(),
            Devices::All => vec![None],
        };
        let Row { vendor, same_host_bridge, since, .. } = *row;
        devices.into_iter().map(move |device| ListedDevice { vendor, device, same_host_bridge, since })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_allowlist_of_the_kernel() {
        const V7_2: KernelVersion = version(7, 2);
        let trusted = |vendor, device, same| is_trusted(vendor, device, same, Some(V7_2));
        assert_eq!(trusted(0x8086, 0x2031, false), Some(true));
        assert_eq!(trusted(0x8086, 0x2034, true), Some(false));
        assert_eq!(trusted(0x8086, 0x29c0, true), Some(false));
        assert_eq!((trusted(0x8086, 0x3c00, true), trusted(0x8086, 0x3c00, false)), (Some(true), Some(false)));
        assert_eq!(trusted(0x1ae0, 0xbeef, false), Some(true));
        // 0x4941 is a virtual function of the listed accelerator 0x4940. The allowlist contains no virtual functions.
        assert_eq!(trusted(0x8086, 0x4941, true), Some(false));
    }

    #[test]
    fn new_rows_depend_on_the_kernel_version() {
        const V7_2: KernelVersion = version(7, 2);
        let grace = |kernel| is_trusted(0x10de, 0x2f96, false, kernel);
        assert_eq!(grace(Some(V7_2)), Some(false));
        assert_eq!(grace(Some(version(7, 3))), Some(true));
        assert_eq!(grace(Some(version(8, 0))), Some(true));
        assert_eq!(grace(None), None);
        assert_eq!(is_trusted(0x8086, 0x4940, false, Some(version(7, 0))), None);
    }

    #[test]
    fn old_rows_are_known_on_old_kernels() {
        let ice_lake = |kernel| is_trusted(0x8086, 0x09a2, false, Some(kernel));
        assert_eq!((ice_lake(version(5, 18)), ice_lake(version(6, 12))), (Some(true), Some(true)));
        assert_eq!(ice_lake(version(5, 14)), None, "a vendor may backport the row");
        assert_eq!(is_trusted(0x8086, 0x2031, false, Some(version(5, 15))), Some(true));
        assert_eq!(is_trusted(0x8086, 0x29c0, false, Some(version(5, 15))), Some(false));
        assert_eq!(is_trusted(0x8086, 0x09a2, false, None), Some(true));
    }
}
