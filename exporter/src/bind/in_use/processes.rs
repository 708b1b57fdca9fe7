//! Programs that have device files of a function open.

use std::collections::BTreeMap;
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
    let holders = holders(host, &files)?;
    Ok(holders
        .into_iter()
        .map(|(pid, file)| {
            let name = read_trimmed(&host.path(format!("proc/{pid}/comm"))).ok().flatten();
            let name = name.unwrap_or_else(|| "a program".to_owned());
            InUse::new(UseKind::Process, true, format!("{name} (process {pid}) has {file} open"))
        })
        .collect())
}

/// The processes, other than this one, that have a function open through VFIO.
pub(in crate::bind) fn vfio_users(host: &HostTree, bdf: Bdf) -> Result<Vec<u32>, Error> {
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
        let mut targets = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        if let Some(file) = targets.find_map(|target| files.iter().find(|file| target.as_os_str() == file.as_str())) {
            holders.insert(pid, file.clone());
        }
    }
    Ok(holders)
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
        assert_eq!(found[0].detail, "Xorg (process 4242) has /dev/dri/card0 open");
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
        assert_eq!(vfio_users(&fixture.host(), bdf).unwrap(), [10, 11]);
    }
}
