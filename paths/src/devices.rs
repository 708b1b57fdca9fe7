//! The RDMA, network, NVMe and display devices of each function.

use std::collections::BTreeMap;

use crate::function::printable_name;
use crate::{Bdf, Tree};

/// Device classes of sysfs, and the prefix of device names in results.
pub(crate) const CLASSES: [(&str, &str); 4] =
    [("infiniband", "verbs"), ("drm", "drm"), ("nvme", "nvme"), ("net", "net")];

/// Files that contain the name of a soft RDMA device's network interface: `parent` for rxe, a GID attribute for siw.
pub(crate) const PARENTS: [&str; 2] = ["parent", "ports/1/gid_attrs/ndevs/0"];

/// The devices of one function.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(crate) names: Vec<String>,
    /// Devices of a subfunction, with the name of the subfunction.
    pub(crate) subfunctions: Vec<(String, String)>,
}

/// Reads the devices of every PCI function.
pub(crate) fn read(tree: &Tree) -> BTreeMap<Bdf, Devices> {
    let mut found: BTreeMap<Bdf, Devices> = BTreeMap::new();
    for (class, prefix) in CLASSES {
        for name in tree.names(&format!("sys/class/{class}")) {
            // The class also contains connectors (card0-DP-1) and render nodes (renderD128).
            if class == "drm" && !is_card(&name) {
                continue;
            }
            let bdf = function(tree, class, &name).or_else(|| below_soft_rdma(tree, class, &name));
            if let Some(bdf) = bdf {
                let devices = found.entry(bdf).or_default();
                let device = format!("{prefix}:{}", printable_name(&name));
                let subfunction = subfunction(tree, class, &name).map(|subfunction| (device.clone(), subfunction));
                devices.subfunctions.extend(subfunction);
                devices.names.push(device);
            }
        }
    }
    found
}

/// Reads the devices of a function from its own directory, for classes that a sysfs copy lacks in `sys/class`.
pub(crate) fn below(tree: &Tree, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (class, prefix) in CLASSES {
        if tree.is_live() || tree.is_directory(&format!("sys/class/{class}")) {
            continue;
        }
        let names = tree.names(&format!("{path}/{class}"));
        let names = names.iter().filter(|name| class != "drm" || is_card(name));
        found.extend(names.map(|name| format!("{prefix}:{}", printable_name(name))));
    }
    found
}

fn is_card(name: &str) -> bool {
    name.strip_prefix("card")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Finds the subfunction that the class link resolves to: an auxiliary device below the PCI function, whose driver names it
/// `mlx5_core.sf.4`.
fn subfunction(tree: &Tree, class: &str, name: &str) -> Option<String> {
    let path = tree.link(&format!("sys/class/{class}/{name}"))?;
    let is_subfunction = |part: &&str| {
        part.rsplit_once(".sf.")
            .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    path.rsplit('/').find(is_subfunction).map(printable_name)
}

/// Finds the PCI function that `/sys/class/CLASS/NAME` or its link `device` resolves to.
fn function(tree: &Tree, class: &str, name: &str) -> Option<Bdf> {
    let path = format!("sys/class/{class}/{name}");
    let in_path = |path: &str| path.rsplit('/').find_map(|part| part.parse().ok());
    tree.link(&path)
        .as_deref()
        .and_then(in_path)
        .or_else(|| tree.resolve(&format!("{path}/device")).as_deref().and_then(in_path))
        .or_else(|| tree.link(&format!("{path}/device")).as_deref().and_then(in_path))
}

/// Whether an RDMA device such as `rxe0` is implemented by the CPU, on top of a network interface. `None` if the host has no
/// device of this name.
pub fn is_soft_rdma(tree: &Tree, name: &str) -> Option<bool> {
    let path = format!("sys/class/infiniband/{name}");
    let exists = !name.is_empty() && !name.contains('/') && !name.starts_with('.') && tree.has(&path);
    // rxe has the attribute `parent`; siw is a virtual device without it.
    exists.then(|| tree.has(&format!("{path}/{}", PARENTS[0])) || function(tree, "infiniband", name).is_none())
}

fn below_soft_rdma(tree: &Tree, class: &str, name: &str) -> Option<Bdf> {
    if class != "infiniband" {
        return None;
    }
    PARENTS.iter().find_map(|file| {
        let netdev = tree.text(&format!("sys/class/infiniband/{name}/{file}"))?;
        // Reject names that would lead to another directory, because the name becomes part of a path.
        if netdev.is_empty() || netdev.contains('/') || netdev.starts_with('.') {
            return None;
        }
        function(tree, "net", &netdev)
    })
}
