//! Disks of a function, and the volumes, mounts and swap areas on them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::below::{Below, is_block};
use super::{InUse, UseKind};
use crate::Error;
use crate::host_tree::{HostTree, names, read_trimmed};

pub(super) fn uses(host: &HostTree, below: &Below) -> Result<Vec<InUse>, Error> {
    let mut disks: BTreeSet<String> =
        below.nodes.iter().filter(|node| node.is_block).map(|node| node.name.clone()).collect();
    disks.extend(multipath_heads(host, below)?);
    let mut reached = BTreeSet::new();
    for disk in &disks {
        follow(host, disk, &mut reached)?;
    }
    let mut uses = mounts(host, &reached, &below.mount_tags)?;
    uses.extend(swaps(host, &reached)?);
    if uses.is_empty() {
        uses.extend(built_upon(&disks, &reached));
    }
    if uses.is_empty() && host.is_live() {
        uses.extend(claimed(host, &disks));
    }
    Ok(uses)
}

/// Finds NVMe disks with several controllers (multipath). sysfs lists them as siblings of the controllers, not below them.
fn multipath_heads(host: &HostTree, below: &Below) -> Result<Vec<String>, Error> {
    let subsystems = host.path("sys/class/nvme-subsystem");
    let mut heads = Vec::new();
    for subsystem in names(&subsystems)? {
        let directory = subsystems.join(subsystem);
        let entries = names(&directory)?;
        if entries.iter().any(|name| below.contains(&directory.join(name))) {
            for name in entries {
                if is_block(&directory.join(&name))? {
                    heads.push(name);
                }
            }
        }
    }
    Ok(heads)
}

/// Collects a disk, its partitions, and the devices on top of them (device mapper, RAID), recursively.
fn follow(host: &HostTree, name: &str, reached: &mut BTreeSet<String>) -> Result<(), Error> {
    if !reached.insert(name.to_owned()) {
        return Ok(());
    }
    let directory = host.path("sys/class/block").join(name);
    for entry in names(&directory)? {
        if directory.join(&entry).join("partition").exists() {
            follow(host, &entry, reached)?;
        }
    }
    for holder in names(&directory.join("holders"))? {
        follow(host, &holder, reached)?;
    }
    Ok(())
}

/// Whether a path in the tables of mounts and swap areas refers to this disk.
fn refers_to(host: &HostTree, name: &str, text: &str) -> bool {
    let mapped = read_trimmed(&host.path(format!("sys/class/block/{name}/dm/name"))).ok().flatten();
    let plain = text.strip_prefix("/dev/").is_some_and(|called| called == name);
    let mapper = text.strip_prefix("/dev/mapper/").is_some_and(|called| mapped.as_deref() == Some(called));
    // Names such as /dev/disk/by-uuid/... and /dev/vg/lv are links.
    let link = || {
        let target = fs::canonicalize(host.path(text.trim_start_matches('/'))).ok();
        target.as_deref().and_then(Path::file_name).is_some_and(|file| file == name)
    };
    plain || mapper || (text.starts_with("/dev/") && link())
}

fn mounts(host: &HostTree, reached: &BTreeSet<String>, tags: &[String]) -> Result<Vec<InUse>, Error> {
    let table = read_trimmed(&host.path("proc/self/mountinfo"))?.unwrap_or_default();
    let mut uses = Vec::new();
    for mount in table.lines().filter_map(Mount::parse) {
        for name in reached {
            let number = read_trimmed(&host.path(format!("sys/class/block/{name}/dev")))?;
            // A file system on several disks has its own device number, so compare the source as well.
            if number.as_deref() == Some(mount.number) || refers_to(host, name, mount.source) {
                uses.push(InUse::new(UseKind::Disk, false, format!("{name} is mounted at {}", mount.mount_point)));
            }
        }
        if matches!(mount.kind, "9p" | "virtiofs") && tags.iter().any(|tag| tag == mount.source) {
            let detail = format!("the shared directory {} is mounted at {}", mount.source, mount.mount_point);
            uses.push(InUse::new(UseKind::Disk, false, detail));
        }
    }
    Ok(uses)
}

/// A line of `/proc/self/mountinfo`.
struct Mount<'a> {
    number: &'a str,
    mount_point: &'a str,
    kind: &'a str,
    source: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(2);
        let mut right = right.split(' ');
        let (number, mount_point) = (left.next()?, left.nth(1)?);
        Some(Self { number, mount_point, kind: right.next()?, source: right.next()? })
    }
}

fn swaps(host: &HostTree, reached: &BTreeSet<String>) -> Result<Vec<InUse>, Error> {
    let table = read_trimmed(&host.path("proc/swaps"))?.unwrap_or_default();
    let paths = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    Ok(paths
        .flat_map(|path| reached.iter().filter(move |name| refers_to(host, name, path)))
        .map(|name| InUse::new(UseKind::Disk, false, format!("{name} is used for swap")))
        .collect())
}

/// Reports unmounted volumes and arrays on the disks.
fn built_upon(disks: &BTreeSet<String>, reached: &BTreeSet<String>) -> Option<InUse> {
    let built: Vec<_> =
        reached.iter().filter(|name| !disks.iter().any(|disk| is_part_of(name, disk))).map(String::as_str).collect();
    (!built.is_empty())
        .then(|| InUse::new(UseKind::Disk, true, format!("its disks are part of {}", built.join(" and "))))
}

/// Whether `name` is the disk itself or one of its partitions, e.g. `nvme0n1p2` of `nvme0n1`, or `sda1` of `sda`.
fn is_part_of(name: &str, disk: &str) -> bool {
    name.strip_prefix(disk).is_some_and(|rest| {
        let number = rest.strip_prefix('p').unwrap_or(rest);
        rest.is_empty() || (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// Reports disks that the kernel has claimed for a use that this process cannot see, e.g. a mount in a container or a ZFS pool.
fn claimed(host: &HostTree, disks: &BTreeSet<String>) -> Vec<InUse> {
    let busy = |name: &&String| {
        let opened = fs::File::options()
            .read(true)
            .custom_flags(libc::O_EXCL | libc::O_NONBLOCK)
            .open(host.path("dev").join(name.as_str()));
        opened.is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
    };
    disks
        .iter()
        .filter(busy)
        .map(|name| {
            let detail = format!("the kernel has claimed {name} for a mount in another namespace, or for a pool");
            InUse::new(UseKind::Disk, false, detail)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::uses;
    use super::*;
    use crate::testing::Fixture;
    use peerpath_paths::Bdf;

    const ROOT: &str = "sys/devices/pci0000:00/0000:03:00.0";

    fn nvme() -> (Fixture, Bdf) {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:03:00.0").driver("nvme").bdf();
        fixture.block(&format!("{ROOT}/nvme/nvme0/nvme0n1"), "259:0");
        fixture.block(&format!("{ROOT}/nvme/nvme0/nvme0n1/nvme0n1p2"), "259:2");
        fixture.file(&format!("{ROOT}/nvme/nvme0/nvme0n1/nvme0n1p2/partition"), "2\n");
        (fixture, bdf)
    }

    fn details(fixture: &Fixture, bdf: Bdf) -> Vec<(String, bool)> {
        uses(&fixture.host(), bdf).unwrap().into_iter().map(|one| (one.detail, one.forceable)).collect()
    }

    #[test]
    fn finds_no_use_of_an_idle_disk() {
        let (fixture, bdf) = nvme();
        fixture.file("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
        assert_eq!(details(&fixture, bdf), []);
    }

    #[test]
    fn finds_a_mounted_partition_by_number() {
        let (fixture, bdf) = nvme();
        fixture.file("proc/self/mountinfo", "22 1 259:2 / /home rw,noatime shared:1 - ext4 /dev/root rw\n");
        assert_eq!(details(&fixture, bdf), [("nvme0n1p2 is mounted at /home".to_owned(), false)]);
    }

    #[test]
    fn finds_a_file_system_with_its_own_number_by_name() {
        let (fixture, bdf) = nvme();
        fixture.file("proc/self/mountinfo", "22 1 0:45 / /data rw - btrfs /dev/nvme0n1p2 rw\n");
        assert_eq!(details(&fixture, bdf), [("nvme0n1p2 is mounted at /data".to_owned(), false)]);
    }

    #[test]
    fn finds_swap() {
        let (fixture, bdf) = nvme();
        fixture.file("proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n1p2 partition 1 0 -2\n");
        assert_eq!(details(&fixture, bdf), [("nvme0n1p2 is used for swap".to_owned(), false)]);
    }

    #[test]
    fn finds_volumes_and_their_mounts() {
        let (fixture, bdf) = nvme();
        fixture.block("sys/devices/virtual/block/dm-0", "253:0");
        fixture.file("sys/devices/virtual/block/dm-0/dm/name", "vg-home\n");
        fixture.link(&format!("{ROOT}/nvme/nvme0/nvme0n1/nvme0n1p2/holders/dm-0"), "/anywhere");
        assert_eq!(details(&fixture, bdf), [("its disks are part of dm-0".to_owned(), true)]);
        fixture.file("proc/self/mountinfo", "22 1 0:50 / / rw - btrfs /dev/mapper/vg-home rw\n");
        assert_eq!(details(&fixture, bdf), [("dm-0 is mounted at /".to_owned(), false)]);
    }

    #[test]
    fn finds_a_multipath_disk_through_each_controller() {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:03:00.0").driver("nvme").bdf();
        fixture.node(&format!("{ROOT}/nvme/nvme0"), "nvme0", "241:0");
        let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys0";
        fixture.block(&format!("{subsystem}/nvme0n1"), "259:0");
        fixture.link(&format!("{subsystem}/nvme0"), "../../../pci0000:00/0000:03:00.0/nvme/nvme0");
        fixture.link("sys/class/nvme-subsystem/nvme-subsys0", "../../devices/virtual/nvme-subsystem/nvme-subsys0");
        fixture.file("proc/self/mountinfo", "22 1 259:0 / /data rw - xfs /dev/nvme0n1 rw\n");
        assert_eq!(details(&fixture, bdf), [("nvme0n1 is mounted at /data".to_owned(), false)]);
    }

    #[test]
    fn finds_a_shared_directory_of_the_virtual_machines_host() {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:03:00.0").driver("virtio-pci").bdf();
        fixture.file(&format!("{ROOT}/virtio1/mount_tag"), "ROOTFS\n");
        fixture.file("proc/self/mountinfo", "22 1 0:20 / / rw - 9p ROOTFS rw\n");
        assert_eq!(details(&fixture, bdf), [("the shared directory ROOTFS is mounted at /".to_owned(), false)]);
    }

    #[test]
    fn distinguishes_partitions_from_other_disks() {
        for (name, disk, part) in [
            ("sda", "sda", true),
            ("sda1", "sda", true),
            ("nvme0n1p12", "nvme0n1", true),
            ("nvme0n11", "nvme0n1", true),
            ("sdaa", "sda", false),
            ("dm-0", "sda", false),
            ("nvme0n1p", "nvme0n1", false),
        ] {
            assert_eq!(is_part_of(name, disk), part, "{name} of {disk}");
        }
    }
}
