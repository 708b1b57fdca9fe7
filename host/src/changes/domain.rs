//! The type of an IOMMU group's domain. The kernel changes it only while no kernel driver is bound to a function of the
//! group, so the drivers are unbound and bound again, and the network configuration is restored.

use std::io;

use peerpath_paths::{Bdf, IommuGroupId, is_tolerated_driver};
use serde::{Deserialize, Serialize};

use super::Subject;
use super::names::name;
use super::taken::Taken;
use crate::Error;
use crate::host_tree::{HostTree, link_name, names, read_trimmed};
use crate::in_use::refuse_in_use;

/// State of a group before its domain type was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Domain {
    pub(crate) group: IommuGroupId,
    #[serde(rename = "type", deserialize_with = "name")]
    pub(crate) kind: String,
    /// Functions whose drivers are unbound while the type changes.
    members: Vec<Member>,
}

/// A function of the group that is unbound from its driver while the type changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    bdf: Bdf,
    #[serde(flatten)]
    taken: Taken,
}

/// Lists the functions of a group whose drivers must be unbound before the type can change, and the drivers.
///
/// # Errors
/// A member of the group with such a driver is not a PCI function.
pub(crate) fn members_with_drivers(host: &HostTree, group: IommuGroupId) -> Result<Vec<(Bdf, String)>, Error> {
    let folder = host.path(format!("sys/kernel/iommu_groups/{group}/devices"));
    let mut found = Vec::new();
    for name in names(&folder)? {
        let Some(driver) = link_name(&folder.join(&name).join("driver"))? else { continue };
        // These drivers start no DMA and may stay bound.
        if is_tolerated_driver(&driver) {
            continue;
        }
        let Ok(bdf) = name.parse() else {
            let what = format!("its member {name} is not a PCI function");
            return Err(Error::NotRestorable { subject: Subject::Group(group), what });
        };
        found.push((bdf, driver));
    }
    Ok(found)
}

impl Domain {
    /// Reads the current state.
    ///
    /// # Errors
    /// The state of a function of the group cannot be restored.
    pub(crate) fn before(host: &HostTree, group: IommuGroupId) -> Result<Self, Error> {
        let member = |(bdf, _)| {
            if let Some(what) = not_restorable(host, bdf)? {
                return Err(Error::NotRestorable { subject: Subject::Function(bdf), what });
            }
            Ok(Member { bdf, taken: Taken::before(host, bdf)? })
        };
        let members = members_with_drivers(host, group)?.into_iter().map(member).collect::<Result<_, _>>()?;
        Ok(Self { group, kind: read_kind(host, group)?, members })
    }

    /// The functions whose drivers are unbound while the type changes.
    pub(super) fn members(&self) -> impl Iterator<Item = Bdf> {
        self.members.iter().map(|member| member.bdf)
    }

    /// Merges with the state recorded by an earlier change of the same group that is not yet reverted. The earlier change may
    /// have left drivers unbound; functions may have joined the group since.
    pub(super) fn after(mut self, mut left: Self) -> Self {
        self.members.retain(|member| left.members().all(|bdf| bdf != member.bdf));
        left.members.append(&mut self.members);
        left
    }
}

/// Sets the domain type to the first type in `kinds` that the kernel accepts, and returns the resulting type.
pub(crate) fn switch(host: &HostTree, domain: &Domain, kinds: &[&str]) -> Result<String, Error> {
    let group = domain.group;
    if !kinds.contains(&read_kind(host, group)?.as_str()) {
        for Member { bdf, taken } in &domain.members {
            taken.unbind(host, *bdf)?;
        }
        for Member { bdf, taken } in &domain.members {
            taken.wait_for_removal(host, *bdf)?;
        }
        write_kind(host, group, kinds)?;
    }
    for Member { bdf, taken } in &domain.members {
        taken.bind(host, *bdf)?;
    }
    let mut outcome = Ok(());
    for Member { bdf, taken } in &domain.members {
        outcome = outcome.and(taken.restore_network(host, *bdf));
    }
    outcome.and(read_kind(host, group))
}

/// Restores the domain type, the drivers and the network configuration.
///
/// # Errors
/// A function that must be unbound has a use that `force_in_use` does not cover, in which case nothing is changed; or the kernel
/// refuses a step.
pub(super) fn revert(host: &HostTree, domain: &Domain) -> Result<(), Error> {
    if read_kind(host, domain.group)? != domain.kind {
        for Member { bdf, taken } in &domain.members {
            if taken.is_bound(host, *bdf)? {
                // The user may have forced the change, so only uses that `force_in_use` does not cover prevent reverting it.
                refuse_in_use(host, *bdf, true)?;
            }
        }
    }
    switch(host, domain, &[&domain.kind]).map(drop)
}

/// Describes state of a function that the driver does not recreate when it is bound again; `None` if there is none.
fn not_restorable(host: &HostTree, bdf: Bdf) -> Result<Option<String>, Error> {
    let is_console = host.function_number(bdf, "boot_vga")? == Some(1);
    Ok(is_console.then(|| "the firmware uses it as the boot display".to_owned()))
}

fn read_kind(host: &HostTree, group: IommuGroupId) -> Result<String, Error> {
    read_trimmed(&host.path(format!("sys/kernel/iommu_groups/{group}/type")))?.ok_or_else(|| Error::SetDomain {
        group,
        kind: "another type".to_owned(),
        source: io::Error::from_raw_os_error(libc::ENOENT),
    })
}

fn write_kind(host: &HostTree, group: IommuGroupId, kinds: &[&str]) -> Result<(), Error> {
    let path = host.path(format!("sys/kernel/iommu_groups/{group}/type"));
    let mut refused = None;
    for kind in kinds {
        match host.write(&path, &format!("{kind}\n")) {
            Ok(()) => return Ok(()),
            Err(source) => {
                refused.get_or_insert(Error::SetDomain { group, kind: (*kind).to_owned(), source });
            }
        }
    }
    refused.map_or(Ok(()), Err)
}
