//! Looks up the IDs of the names that lspci prints in the table of PCI IDs. A name of several IDs has no result.

use pci_ids::{Classes, Vendor, Vendors};

/// Base class and subclass of a name such as `PCI bridge`.
pub(super) fn class(name: &str) -> Option<u16> {
    let all = Classes::iter().flat_map(|class| class.subclasses().map(move |subclass| (class.id(), subclass)));
    let named = all.filter(|(_, subclass)| subclass.name() == name);
    only(named.map(|(class, subclass)| u16::from(class) << 8 | u16::from(subclass.id())))
}

/// Vendor and device ID of a name such as `Red Hat, Inc. QEMU PCIe Root port`, or of `Intel Corporation Device
/// 10d3`, which lspci prints for a device without name.
pub(super) fn vendor_and_device(name: &str) -> (Option<u16>, Option<u16>) {
    let matching = |vendor: &&Vendor| name.strip_prefix(vendor.name()).is_some_and(|rest| rest.starts_with(' '));
    let Some(length) = Vendors::iter().filter(matching).map(|vendor| vendor.name().len()).max() else {
        return (None, None);
    };
    let vendors = || Vendors::iter().filter(matching).filter(|vendor| vendor.name().len() == length);
    let device = name[length..].trim_start();
    let unnamed = device.strip_prefix("Device ").filter(|digits| digits.len() == 4);
    if let Some(device) = unnamed.and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
        return (only(vendors().map(Vendor::id)), Some(device));
    }
    let found = vendors().flat_map(|vendor| vendor.devices().map(move |device| (vendor.id(), device)));
    match only(found.filter(|(_, known)| known.name() == device).map(|(vendor, device)| (vendor, device.id()))) {
        Some((vendor, device)) => (Some(vendor), Some(device)),
        None => (only(vendors().map(Vendor::id)), None),
    }
}

fn only<T: PartialEq>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_ids_of_names() {
        assert_eq!(class("PCI bridge"), Some(0x0604));
        assert_eq!(class("3D controller"), Some(0x0302));
        assert_eq!(class("no such class"), None);
        assert_eq!(vendor_and_device("Red Hat, Inc. QEMU PCIe Root port"), (Some(0x1b36), Some(0x000c)));
        // Two devices have this name.
        assert_eq!(vendor_and_device("Intel Corporation 82574L Gigabit Network Connection"), (Some(0x8086), None));
        assert_eq!(vendor_and_device("Intel Corporation Device 09a2"), (Some(0x8086), Some(0x09a2)));
        assert_eq!(vendor_and_device("Intel Corporation no such device"), (Some(0x8086), None));
        assert_eq!(vendor_and_device("No such vendor 1"), (None, None));
    }
}
