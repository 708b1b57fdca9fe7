//! Finds the functions of a host, and reads from their sysfs paths which root bus and which bridge are above them.

use std::collections::BTreeMap;

use super::RootParent;
use crate::{Bdf, Tree};

/// The root bus and the bridge above a function, from the function's sysfs path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Segment and bus of the last `pciSSSS:BB` in the path: controllers such as VMD have a root bus below a function.
    pub(super) root: Option<(u32, u8)>,
    pub(super) parent: Option<Bdf>,
    pub(super) root_parent: RootParent,
}

impl Chain {
    pub(super) fn parse(path: &str) -> Self {
        let mut chain = Self::default();
        let mut functions: Vec<Bdf> = Vec::new();
        for part in path.split('/') {
            if let Some(root) = root_bus(part) {
                chain.root = Some(root);
                if let Some(controller) = functions.last() {
                    chain.root_parent = RootParent::Function(*controller);
                }
                functions.clear();
            } else if part == "platform" {
                chain.root_parent = RootParent::Platform;
            } else if part.starts_with("VMBUS:") || part.starts_with("MSFT1000:") {
                chain.root_parent = RootParent::HyperV;
            } else if let Ok(bdf) = part.parse() {
                functions.push(bdf);
            }
        }
        functions.pop();
        Self { parent: functions.pop(), ..chain }
    }
}

/// Parses the name of a root bus: `pci0000:40`.
fn root_bus(name: &str) -> Option<(u32, u8)> {
    let (segment, bus) = name.strip_prefix("pci")?.split_once(':')?;
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !plain(segment) || !plain(bus) {
        return None;
    }
    Some((u32::from_str_radix(segment, 16).ok()?, u8::from_str_radix(bus, 16).ok()?))
}

/// The functions and the paths of their directories, links resolved.
pub(super) fn find(tree: &Tree) -> BTreeMap<Bdf, String> {
    let mut found = BTreeMap::new();
    for name in tree.names("sys/bus/pci/devices") {
        let path = format!("sys/bus/pci/devices/{name}");
        if let (Ok(bdf), Some(resolved)) = (name.parse(), tree.resolve(&path)) {
            found.insert(bdf, resolved);
        }
    }
    // A sysfs copy may lack some or all of the links. In sysfs itself every function has one.
    if !tree.is_live() {
        descend(tree, "sys/devices", Within::Devices(0), &mut found);
    }
    found
}

/// The part of `sys/devices` that a search is in.
#[derive(Clone, Copy)]
enum Within {
    /// Directories that may contain root buses, at this depth.
    Devices(usize),
    /// Below a root bus, at this depth: only functions and the root buses of controllers follow.
    RootBus(usize),
}

/// Finds functions in a directory tree. Root buses are in `sys/devices`, in a platform device, or deeper (Hyper-V).
fn descend(tree: &Tree, path: &str, within: Within, found: &mut BTreeMap<Bdf, String>) {
    /// Maximum depth of a root bus.
    const ROOT_DEPTH_LIMIT: usize = 6;
    /// Maximum depth of directories below a root bus; every switch adds levels.
    const DEPTH_LIMIT: usize = 40;
    for name in tree.names(path) {
        let bdf: Option<Bdf> = name.parse().ok();
        let next = match within {
            Within::Devices(_) if root_bus(&name).is_some() => Within::RootBus(1),
            // These directories contain no PCI function, but many files in a complete sysfs copy.
            Within::Devices(0) if ["system", "virtual"].contains(&name.as_str()) => continue,
            Within::Devices(depth) if depth < ROOT_DEPTH_LIMIT => Within::Devices(depth + 1),
            Within::RootBus(depth) if depth < DEPTH_LIMIT && (bdf.is_some() || root_bus(&name).is_some()) => {
                Within::RootBus(depth + 1)
            }
            _ => continue,
        };
        let below = format!("{path}/{name}");
        if tree.link(&below).is_some() || !tree.is_directory(&below) {
            continue;
        }
        if let Some(bdf) = bdf {
            let known = found.entry(bdf).or_insert_with(|| below.clone());
            // A directory that was copied in place of a link does not show the bridges above it. The directory in `sys/devices`
            // shows them, if it was copied with its files.
            if !known.starts_with("sys/devices/")
                && ["config", "vendor", "resource"].iter().any(|file| tree.has(&format!("{below}/{file}")))
            {
                known.clone_from(&below);
            }
        }
        descend(tree, &below, next, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bdf(text: &str) -> Bdf {
        text.parse().unwrap()
    }

    #[test]
    fn finds_root_and_parent_in_the_path() {
        let chain = Chain::parse("sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0");
        assert_eq!(
            chain,
            Chain { root: Some((0, 0x40)), parent: Some(bdf("0000:40:01.0")), root_parent: RootParent::Processor }
        );
        let chain = Chain::parse("sys/devices/platform/40000000.pcie/pci0001:00/0001:00:01.0");
        assert_eq!(chain, Chain { root: Some((1, 0)), parent: None, root_parent: RootParent::Platform });
    }

    #[test]
    fn a_controller_with_its_own_root_bus_is_not_a_parent() {
        let chain = Chain::parse("sys/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:01.0/10000:e1:00.0");
        let root_parent = RootParent::Function(bdf("0000:00:0e.0"));
        assert_eq!(chain, Chain { root: Some((0x10000, 0xe0)), parent: Some(bdf("10000:e0:01.0")), root_parent });
        let chain = Chain::parse("sys/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:01.0");
        assert_eq!(chain.parent, None);
    }

    #[test]
    fn a_flat_directory_has_no_root_and_parent() {
        assert_eq!(Chain::parse("sys/bus/pci/devices/0000:01:00.0"), Chain::default());
    }
}
