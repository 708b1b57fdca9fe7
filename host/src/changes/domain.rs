//! The type of an IOMMU group's domain. The kernel changes it only while no driver of its own has a function of the group,
//! so the drivers go and come back, and with them whatever they carry.

use std::io;

use peerpath_paths::Bdf;
use serde::{Deserialize, Serialize};

use super::network::{self, Network};
use super::{Subject, driver};
use crate::Error;
use crate::host_tree::{HostTree, link_name, names, read_trimmed};
use crate::in_use::refuse_in_use;
use crate::viability;

/// A group, as it was before its domain was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Domain {
    pub(crate) group: u32,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The functions whose drivers have to go for the switch.
    members: Vec<Member>,
}

/// A function of the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    bdf: Bdf,
    driver: String,
    network: Network,
}

/// The functions of a group whose drivers have to go for a switch, and the drivers.
///
/// # Errors
/// Something else than a function would have to go.
pub(crate) fn in_the_way(host: &HostTree, group: u32) -> Result<Vec<(Bdf, String)>, Error> {
    let folder = host.path(format!("sys/kernel/iommu_groups/{group}/devices"));
    let mut found = Vec::new();
    for name in names(&folder)? {
        let Some(driver) = link_name(&folder.join(&name).join("driver"))? else { continue };
        // These do no DMA of their own and may stay.
        if viability::is_tolerated(&driver) {
            continue;
        }
        let Ok(bdf) = name.parse() else {
            let what = format!("{name}, which is no PCI function, belongs to the group");
            return Err(Error::CannotPutBack { subject: Subject::Group(group), what });
        };
        found.push((bdf, driver));
    }
    Ok(found)
}

impl Domain {
    /// What is there before the switch, as far as it can be made again.
    ///
    /// # Errors
    /// The group holds something that cannot be put back.
    pub(crate) fn before(host: &HostTree, group: u32) -> Result<Self, Error> {
        let member = |(bdf, driver)| {
            if let Some(what) = unkept(host, bdf)? {
                return Err(Error::CannotPutBack { subject: Subject::Function(bdf), what });
            }
            Ok(Member { bdf, driver, network: Network::before(host, bdf)? })
        };
        let members = in_the_way(host, group)?.into_iter().map(member).collect::<Result<_, _>>()?;
        Ok(Self { group, kind: read_kind(host, group)?, members })
    }
}

/// Gives the group a domain of one of these types, the first that the kernel takes, and says which it has now.
pub(crate) fn switch(host: &HostTree, domain: &Domain, kinds: &[&str]) -> Result<String, Error> {
    let group = domain.group;
    if !kinds.contains(&read_kind(host, group)?.as_str()) {
        for Member { bdf, driver, .. } in &domain.members {
            // Whoever took the function meanwhile keeps it.
            if host.driver(*bdf)?.as_ref() == Some(driver) {
                driver::unbind(host, *bdf, driver)?;
            }
        }
        for Member { bdf, network, .. } in &domain.members {
            network::wait_until_gone(host, *bdf, network)?;
        }
        write_kind(host, group, kinds)?;
    }
    for Member { bdf, driver, .. } in &domain.members {
        if host.driver(*bdf)?.is_none() {
            driver::bind_to(host, *bdf, driver)?;
        }
    }
    let mut outcome = Ok(());
    for Member { bdf, driver, network } in &domain.members {
        if host.driver(*bdf)?.as_ref() == Some(driver) {
            outcome = outcome.and(network::bring_back(host, *bdf, network));
        }
    }
    outcome.and(read_kind(host, group))
}

/// Puts everything back.
///
/// # Errors
/// A function that would lose its driver for it carries by now what is never taken: nothing is touched then.
pub(super) fn put_back(host: &HostTree, domain: &Domain) -> Result<(), Error> {
    if read_kind(host, domain.group)? != domain.kind {
        for Member { bdf, driver, .. } in &domain.members {
            if host.driver(*bdf)?.as_ref() == Some(driver) {
                // Taking it was agreed to for what stood on it then, so only the rest counts.
                refuse_in_use(host, *bdf, true)?;
            }
        }
    }
    switch(host, domain, &[&domain.kind]).map(drop)
}

/// What would go with the driver and not come back with it.
fn unkept(host: &HostTree, bdf: Bdf) -> Result<Option<String>, Error> {
    let virtual_functions = host.function_number(bdf, "sriov_numvfs")?.filter(|count| *count > 0);
    let is_console = host.function_number(bdf, "boot_vga")? == Some(1);
    Ok(match virtual_functions {
        Some(count) => Some(format!("{count} virtual functions are switched on")),
        None => is_console.then(|| "it is the display that the firmware set up".to_owned()),
    })
}

fn read_kind(host: &HostTree, group: u32) -> Result<String, Error> {
    read_trimmed(&host.path(format!("sys/kernel/iommu_groups/{group}/type")))?.ok_or_else(|| Error::SetDomain {
        group,
        kind: "another".to_owned(),
        source: io::Error::from_raw_os_error(libc::ENOENT),
    })
}

fn write_kind(host: &HostTree, group: u32, kinds: &[&str]) -> Result<(), Error> {
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
