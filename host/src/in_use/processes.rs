//! Programs that have device files of a function open.

use std::collections::BTreeMap;

use super::below::Below;
use super::{InUse, UseKind};
use crate::Error;
use crate::host_tree::HostTree;

/// Finds programs that have a character device of the function open. Block devices are excluded: programs such as udev open them
/// briefly at any time, and `disks` finds their mounts.
pub(super) fn uses(host: &HostTree, below: &Below) -> Result<Vec<InUse>, Error> {
    let files: Vec<_> =
        below.nodes.iter().filter(|node| !node.is_block).map(|node| format!("/dev/{}", node.name)).collect();
    open_files(host, &files, true)
}

/// Finds which of these files other programs have open.
pub(super) fn open_files(host: &HostTree, files: &[String], forceable: bool) -> Result<Vec<InUse>, Error> {
    let mut by_file = BTreeMap::<_, Vec<u32>>::new();
    for (pid, file) in host.file_holders(files)? {
        by_file.entry(file).or_default().push(pid);
    }
    Ok(by_file.into_iter().map(|(file, pids)| open_file(host, &file, &pids, forceable)).collect())
}

/// Describes one file. Many programs may have it open, so the description names at most three.
fn open_file(host: &HostTree, file: &str, pids: &[u32], forceable: bool) -> InUse {
    let named = pids.iter().take(3).map(|pid| {
        let name = host.tree().text(&format!("proc/{pid}/comm"));
        format!("{} (process {pid})", name.as_deref().unwrap_or("a program"))
    });
    let mut who = named.collect::<Vec<_>>().join(", ");
    if pids.len() > 3 {
        who.push_str(&format!(" and {} more", pids.len() - 3));
    }
    InUse::new(UseKind::Process, forceable, format!("{file} is open in {who}"))
}

#[cfg(test)]
mod tests {
    use super::super::uses;
    use crate::testing::Fixture;

    #[test]
    fn finds_a_program_that_uses_the_display() {
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
}
