//! Programs that have device files of a function open.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;

use peerpath_paths::Bdf;

use super::below::Below;
use super::{InUse, UseKind};
use crate::Error;
use crate::host_tree::{HostTree, names, read_trimmed};

/// Programs with one of the function's character devices open. Disks are judged by what is mounted: their device files are
/// open for a moment all the time.
pub(super) fn uses(host: &HostTree, below: &Below) -> Result<Vec<InUse>, Error> {
    let files: Vec<_> =
        below.nodes.iter().filter(|node| !node.is_block).map(|node| format!("/dev/{}", node.name)).collect();
    open_files(host, &files, true)
}

/// Those of the files that programs other than this one have open.
pub(super) fn open_files(host: &HostTree, files: &[String], forceable: bool) -> Result<Vec<InUse>, Error> {
    let mut by_file = BTreeMap::<_, Vec<u32>>::new();
    for (pid, file) in holders(host, files)? {
        by_file.entry(file).or_default().push(pid);
    }
    Ok(by_file.into_iter().map(|(file, pids)| open_file(host, &file, &pids, forceable)).collect())
}

/// One use a file: a terminal is open in every program of a session.
fn open_file(host: &HostTree, file: &str, pids: &[u32], forceable: bool) -> InUse {
    let named = pids.iter().take(3).map(|pid| {
        let name = read_trimmed(&host.path(format!("proc/{pid}/comm"))).ok().flatten();
        format!("{} (process {pid})", name.as_deref().unwrap_or("a program"))
    });
    let mut who = named.collect::<Vec<_>>().join(", ");
    if pids.len() > 3 {
        who.push_str(&format!(" and {} more", pids.len() - 3));
    }
    InUse::new(UseKind::Process, forceable, format!("{file} is open in {who}"))
}

/// The processes, other than this one, that have a function open through VFIO.
pub(crate) fn vfio_users(host: &HostTree, bdf: Bdf) -> Result<Vec<u32>, Error> {
    let mut files: Vec<_> = host.iommu_group(bdf)?.map(|group| format!("/dev/vfio/{group}")).into_iter().collect();
    let devices = names(&host.function(bdf).join("vfio-dev"))?;
    files.extend(devices.into_iter().map(|name| format!("/dev/vfio/devices/{name}")));
    Ok(holders(host, &files)?.into_keys().collect())
}

/// The first of the files that each process has open. Without root, only our own user's processes can be seen.
fn holders(host: &HostTree, files: &[String]) -> Result<BTreeMap<u32, String>, Error> {
    let mut holders = BTreeMap::new();
    if files.is_empty() {
        return Ok(holders);
    }
    let processes = names(&host.path("proc"))?.into_iter().filter_map(|name| name.parse::<u32>().ok());
    for pid in processes.filter(|&pid| pid != std::process::id()) {
        // Processes end while we look, and others are not ours to look at.
        let Ok(fds) = fs::read_dir(host.path(format!("proc/{pid}/fd"))) else { continue };
        for fd in fds.flatten() {
            let Ok(target) = fs::read_link(fd.path()) else { continue };
            let file = files.iter().find(|file| target.as_os_str() == file.as_str());
            if let Some(file) = file.filter(|_| !is_only_a_path(host, pid, &fd.file_name())) {
                holders.insert(pid, file.clone());
                break;
            }
        }
    }
    Ok(holders)
}

/// An fd that names the file without opening the device behind it: udev, setting permissions.
fn is_only_a_path(host: &HostTree, pid: u32, fd: &OsStr) -> bool {
    let info = read_trimmed(&host.path(format!("proc/{pid}/fdinfo")).join(fd)).ok().flatten().unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_PATH != 0)
}

#[cfg(test)]
mod tests {
    use super::super::uses;
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn a_program_on_the_display_counts() {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:03:00.0").driver("amdgpu").bdf();
        fixture.node("sys/devices/pci0000:00/0000:03:00.0/drm/card0", "dri/card0", "226:0");
        assert_eq!(uses(&fixture.host(), bdf).unwrap(), []);
        fixture.file("proc/4242/comm", "Xorg\n");
        fixture.link("proc/4242/fd/9", "/dev/dri/card0");
        fixture.link("proc/4243/fd/9", "/dev/dri/card1");
        let found = uses(&fixture.host(), bdf).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].detail, "/dev/dri/card0 is open in Xorg (process 4242)");
        assert!(found[0].forceable);
    }

    #[test]
    fn users_through_either_door_are_found() {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:03:00.0").group(9).driver("vfio-pci").bdf();
        fixture.file("sys/devices/pci0000:00/0000:03:00.0/vfio-dev/vfio2/dev", "510:2\n");
        fixture.link("proc/10/fd/3", "/dev/vfio/9");
        fixture.link("proc/11/fd/3", "/dev/vfio/devices/vfio2");
        fixture.link("proc/12/fd/3", "/dev/vfio/vfio");
        fixture.link("proc/13/fd/3", "/dev/vfio/9");
        fixture.file("proc/13/fdinfo/3", "pos:\t0\nflags:\t012000000\nmnt_id:\t5\n");
        assert_eq!(vfio_users(&fixture.host(), bdf).unwrap(), [10, 11]);
    }
}
