//! Uses of a function that unbinding its driver would break.

mod below;
mod disks;
mod networks;
mod processes;
mod rdma;
mod sessions;

use std::fmt;

use peerpath_paths::Bdf;

use crate::Error;
use crate::host_tree::HostTree;

pub(crate) use below::Below;
pub(crate) use networks::is_up;
pub(crate) use rdma::{RdmaDevice, rdma_devices};

/// What a function is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UseKind {
    /// A disk of the function is mounted, used for swap, or part of a volume or array.
    Disk,
    /// A network interface of the function is in use.
    Network,
    /// A software RDMA device uses a network interface of the function.
    Rdma,
    /// The function is the boot display.
    Display,
    /// A program has a device file of the function open.
    Process,
    /// Virtual functions of the function are enabled.
    VirtualFunctions,
}

/// A use of a function that unbinding its driver would break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// Kind of the use.
    pub kind: UseKind,
    /// Description, as a clause, e.g. `nvme0n1 is mounted at /home`.
    pub detail: String,
    /// Whether [`crate::Options::force_in_use`] covers the use. It does not cover uses that could make this host unreachable or
    /// unusable (a mounted disk, the default route, the login session), uses that cannot be restored (virtual functions), or
    /// uses for which unbinding blocks until a program exits.
    pub forceable: bool,
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.detail)
    }
}

impl InUse {
    fn new(kind: UseKind, forceable: bool, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), forceable }
    }
}

/// Lists the uses of a function that sysfs and `/proc` show; empty if the function is not in use.
///
/// # Errors
/// The function does not exist, or a file of sysfs or `/proc` cannot be read.
pub fn uses(host: &HostTree, bdf: Bdf) -> Result<Vec<InUse>, Error> {
    let below = Below::read(host, bdf)?;
    let mut uses = disks::uses(host, &below)?;
    uses.extend(networks::uses(host, bdf, &below)?);
    uses.extend(display(host, bdf)?);
    uses.extend(virtual_functions(host, bdf)?);
    uses.extend(processes::uses(host, &below)?);
    Ok(uses)
}

/// Returns [`Error::InUse`] if the function has a use that `force` does not cover.
pub(crate) fn refuse_in_use(host: &HostTree, bdf: Bdf, force: bool) -> Result<(), Error> {
    let uses: Vec<_> = uses(host, bdf)?.into_iter().filter(|one| !(force && one.forceable)).collect();
    if uses.is_empty() { Ok(()) } else { Err(Error::InUse { bdf, uses, forced: force }) }
}

fn display(host: &HostTree, bdf: Bdf) -> Result<Option<InUse>, Error> {
    let boot = host.function_number(bdf, "boot_vga")? == Some(1);
    Ok(boot.then(|| InUse::new(UseKind::Display, true, "the firmware uses it as the boot display")))
}

fn virtual_functions(host: &HostTree, bdf: Bdf) -> Result<Option<InUse>, Error> {
    let count = host.function_number(bdf, "sriov_numvfs")?.unwrap_or(0);
    let detail = format!("{count} virtual functions are enabled");
    // The virtual functions and their configuration disappear with the driver, and this crate cannot restore them.
    Ok((count > 0).then(|| InUse::new(UseKind::VirtualFunctions, false, detail)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn finds_no_uses_of_an_idle_function() {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:03:00.0").driver("ivshmem").bdf();
        assert_eq!(uses(&fixture.host(), bdf).unwrap(), []);
    }

    #[test]
    fn finds_the_boot_display_and_virtual_functions() {
        let fixture = Fixture::new();
        let bdf = fixture.function("0000:03:00.0").file("boot_vga", "1\n").file("sriov_numvfs", "4\n").bdf();
        let kinds: Vec<_> = uses(&fixture.host(), bdf).unwrap().into_iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [UseKind::Display, UseKind::VirtualFunctions]);
        assert!(matches!(refuse_in_use(&fixture.host(), bdf, false), Err(Error::InUse { forced: false, .. })));
        assert!(matches!(refuse_in_use(&fixture.host(), bdf, true), Err(Error::InUse { forced: true, .. })));
        fixture.function("0000:03:00.0").file("sriov_numvfs", "0\n");
        refuse_in_use(&fixture.host(), bdf, true).unwrap();
    }
}
