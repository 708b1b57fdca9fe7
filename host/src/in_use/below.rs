//! The devices of a function: everything below its directory in `/sys/devices`.

use std::fs;
use std::path::{Path, PathBuf};

use peerpath_paths::Bdf;

use crate::Error;
use crate::host_tree::{HostTree, link_name, read_trimmed};

/// A character or block device file below `/dev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Path below `/dev`.
    pub(super) name: String,
    /// Whether the node is a block device, such as a disk or a partition.
    pub(super) is_block: bool,
}

/// The devices of a function.
#[derive(Debug, Default)]
pub(crate) struct Below {
    pub(super) root: PathBuf,
    pub(super) nodes: Vec<Node>,
    /// Names of the network interfaces.
    pub(crate) interfaces: Vec<String>,
    /// Mount tags of directories that the hypervisor shares with this virtual machine (9p, virtiofs).
    pub(super) mount_tags: Vec<String>,
}

/// Maximum depth of directories, which prevents an endless loop. Real device trees are far less deep.
const DEPTH_LIMIT: usize = 24;

impl Below {
    pub(crate) fn read(host: &HostTree, bdf: Bdf) -> Result<Self, Error> {
        let root = host.function_real(bdf)?;
        let mut below = Self { root: root.clone(), ..Self::default() };
        below.walk(&root, 0)?;
        below.nodes.sort_by(|one, other| one.name.cmp(&other.name));
        below.interfaces.sort();
        Ok(below)
    }

    fn walk(&mut self, directory: &Path, depth: usize) -> Result<(), Error> {
        self.add(directory)?;
        // If a directory is removed during the search, its devices have no uses.
        let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
        for entry in entries.flatten() {
            // Links lead out of the function, and a function below this one is a separate device.
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let is_function = entry.file_name().to_string_lossy().parse::<Bdf>().is_ok();
            if is_directory && !is_function && depth < DEPTH_LIMIT {
                self.walk(&entry.path(), depth + 1)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, directory: &Path) -> Result<(), Error> {
        if directory.join("dev").exists()
            && let Some(name) = device_name(directory)?
        {
            self.nodes.push(Node { name, is_block: is_block(directory)? });
        }
        if directory.join("ifindex").exists()
            && let Some(name) = directory.file_name()
        {
            self.interfaces.push(name.to_string_lossy().into_owned());
        }
        self.mount_tags.extend(read_trimmed(&directory.join("mount_tag"))?.filter(|tag| !tag.is_empty()));
        Ok(())
    }

    /// Whether a path in sysfs resolves to a path below the function's directory.
    pub(super) fn contains(&self, path: &Path) -> bool {
        fs::canonicalize(path).is_ok_and(|path| path.starts_with(&self.root))
    }
}

fn device_name(directory: &Path) -> Result<Option<String>, Error> {
    let uevent = read_trimmed(&directory.join("uevent"))?.unwrap_or_default();
    Ok(uevent.lines().find_map(|line| line.strip_prefix("DEVNAME=")).map(str::to_owned))
}

pub(super) fn is_block(directory: &Path) -> Result<bool, Error> {
    Ok(link_name(&directory.join("subsystem"))?.as_deref() == Some("block"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn finds_nodes_interfaces_and_tags_of_this_function_only() {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:03:00.0").bdf();
        let root = "sys/devices/pci0000:00/0000:03:00.0";
        fixture.block(&format!("{root}/nvme/nvme0/nvme0n1"), "259:0");
        fixture.node(&format!("{root}/nvme/nvme0"), "nvme0", "241:0");
        fixture.file(&format!("{root}/virtio0/net/eth0/ifindex"), "2\n");
        fixture.file(&format!("{root}/virtio1/mount_tag"), "ROOT\0");
        fixture.file(&format!("{root}/0000:04:00.0/net/eth1/ifindex"), "3\n");
        let below = Below::read(&fixture.host(), bdf).unwrap();
        let nodes: Vec<_> = below.nodes.iter().map(|node| (node.name.as_str(), node.is_block)).collect();
        assert_eq!(nodes, [("nvme0", false), ("nvme0n1", true)]);
        assert_eq!(below.interfaces, ["eth0"]);
        assert_eq!(below.mount_tags, ["ROOT"]);
    }
}
