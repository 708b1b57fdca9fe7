//! The kernel's P2PDMA allowlist of host bridges (drivers/pci/p2pdma.c): the host bridges that may forward peer-to-peer
//! transfers, with the kernel version of each row. The kernel trusts every host bridge of an AMD processor since Zen,
//! independent of the list.

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
    /// Whether the row applies only to pairs below the same host bridge.
    same_host_bridge: bool,
    /// The oldest kernel that is known to contain the row.
    since: KernelVersion,
}

const fn row(vendor: u16, first: u16, last: u16, same_host_bridge: bool, since: KernelVersion) -> Row {
    Row { vendor, devices: Devices::Range(first, last), same_host_bridge, since }
}

/// Version of rows that are older than the dma-buf export: every kernel with the export contains them.
const OLD: KernelVersion = KernelVersion::VFIO_DMA_BUF;
const V7_2: KernelVersion = KernelVersion { major: 7, minor: 2 };
const V7_3: KernelVersion = KernelVersion { major: 7, minor: 3 };

/// Newest kernel whose allowlist this table contains.
pub(crate) const NEWEST_READ: KernelVersion = V7_3;

const INTEL: u16 = 0x8086;
const GOOGLE: u16 = 0x1ae0;
const NVIDIA: u16 = 0x10de;

static ROWS: &[Row] = &[
    row(INTEL, 0x3c00, 0x3c01, true, OLD),
    row(INTEL, 0x2f00, 0x2f01, true, OLD),
    row(INTEL, 0x2030, 0x2033, false, OLD),
    row(INTEL, 0x2020, 0x2020, false, OLD),
    row(INTEL, 0x09a2, 0x09a2, false, OLD),
    row(INTEL, 0x0b25, 0x0b25, false, V7_2),
    row(INTEL, 0x0cfe, 0x0cfe, false, V7_2),
    row(INTEL, 0x11fb, 0x11fb, false, V7_2),
    row(INTEL, 0x1212, 0x1212, false, V7_2),
    row(INTEL, 0x1216, 0x1216, false, V7_2),
    row(INTEL, 0x4940, 0x4940, false, V7_2),
    row(INTEL, 0x4942, 0x4942, false, V7_2),
    row(INTEL, 0x4944, 0x4944, false, V7_2),
    row(INTEL, 0x4946, 0x4946, false, V7_2),
    row(INTEL, 0x4948, 0x4948, false, V7_2),
    Row { vendor: GOOGLE, devices: Devices::All, same_host_bridge: false, since: V7_2 },
    row(NVIDIA, 0x2f95, 0x2f98, false, V7_3),
];

/// Whether the allowlist contains the device; `None` if that depends on an unknown kernel version.
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
        // It is unknown which version before 7.2 added the row. 7.2 itself lacks the rows of 7.3.
        Some(kernel) => {
            if kernel >= V7_2 {
                Some(false)
            } else {
                None
            }
        }
        None => (row.since <= V7_2).then_some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_allowlist_of_the_kernel() {
        let trusted = |vendor, device, same| is_trusted(vendor, device, same, Some(V7_2));
        assert_eq!(trusted(0x8086, 0x2031, false), Some(true));
        assert_eq!(trusted(0x8086, 0x2034, true), Some(false));
        assert_eq!(trusted(0x8086, 0x29c0, true), Some(false));
        assert_eq!((trusted(0x8086, 0x3c00, true), trusted(0x8086, 0x3c00, false)), (Some(true), Some(false)));
        assert_eq!(trusted(0x1ae0, 0xbeef, false), Some(true));
        // Odd device IDs such as 4941 belong to virtual functions of accelerators in the allowlist.
        assert_eq!(trusted(0x8086, 0x4941, true), Some(false));
    }

    #[test]
    fn new_rows_depend_on_the_kernel_version() {
        let grace = |kernel| is_trusted(0x10de, 0x2f96, false, kernel);
        assert_eq!(grace(Some(V7_2)), Some(false));
        assert_eq!(grace(Some(V7_3)), Some(true));
        assert_eq!(grace(Some(KernelVersion { major: 8, minor: 0 })), Some(true));
        assert_eq!(grace(None), None);
        assert_eq!(is_trusted(0x8086, 0x4940, false, Some(KernelVersion { major: 7, minor: 0 })), None);
    }
}
