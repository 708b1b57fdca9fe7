//! Changes the host so that a pair of functions gets the requested path, and reverts the changes.
//!
//! [`peerpath_paths`] plans the changes. All changes are checked before the first is made, and each is written to the journal
//! before it is made. An [`Arrangement`] reverts its changes when it is dropped; if the process dies, [`crate::restore`] does.

#[cfg(test)]
mod tests;

use std::path::Path;

use peerpath_paths::{Bdf, DomainType, HostChange};

use crate::changes::{
    Change, Entry, Journal, Lock, OwnerKind, StateDir, Subject,
    acs::{self, Acs},
    domain::{self, Domain},
    driver,
};
use crate::host_tree::{HostTree, names};
use crate::in_use::refuse_in_use;
use crate::{Error, InUse, Options, UseKind};

/// Changes of the host for a pair of functions. Dropping an `Arrangement` reverts them. Locks keep other processes from changing
/// the functions and the IOMMU group that the path of the pair depends on.
#[derive(Debug)]
pub struct Arrangement {
    host: HostTree,
    dir: StateDir,
    /// Entries of the journal, in the order in which the changes were made.
    entries: Vec<Entry>,
    done: Vec<String>,
    // The locks are released after all changes are reverted.
    _locks: Vec<Lock>,
}

impl Arrangement {
    /// Makes all changes for a pair, or none. Locks the importer, its IOMMU group and the functions on the path (`hops`), even if
    /// there are no changes. Exporter and importer must not be open in this process.
    ///
    /// # Errors
    /// Nothing is changed if another run has one of the locks, or if a change would break a use of a function or affect state
    /// that cannot be restored. If the kernel refuses one of the changes, the changes before it are reverted; if reverting fails
    /// too, the error is [`Error::LeftChanged`].
    pub fn make(
        exporter: Bdf,
        importer: Bdf,
        changes: &[HostChange],
        hops: &[Bdf],
        options: &Options,
    ) -> Result<Self, Error> {
        let host = &options.host;
        let dir = StateDir::open(&options.state_dir)?;
        if !changes.is_empty() {
            require_exportable(host, exporter)?;
        }
        // Locks come first: another process may be in the middle of a change.
        let locks = lock(host, &dir, [exporter, importer], changes, hops)?;
        let prepared = Prepared::all(exporter, importer, changes, options)?;
        let mut arrangement = Self { host: host.clone(), dir, entries: Vec::new(), done: Vec::new(), _locks: locks };
        match arrangement.change(exporter, importer, prepared) {
            Ok(()) => Ok(arrangement),
            Err(error) => Err(match arrangement.revert_all() {
                Ok(()) => error,
                Err(left) => Error::LeftChanged { error: Box::new(error), left: Box::new(left) },
            }),
        }
    }

    /// Descriptions of the changes for reports, e.g. `IOMMU group 9 switched from DMA to identity`.
    pub fn done(&self) -> &[String] {
        &self.done
    }

    /// Reverts all changes. Dropping does the same, but cannot report an error.
    ///
    /// # Errors
    /// Returns the error of the first change that cannot be reverted. The change stays in the journal for [`crate::restore`].
    pub fn revert(mut self) -> Result<(), Error> {
        self.revert_all()
    }

    fn journal(&self) -> Journal {
        Journal::new(self.dir.clone())
    }

    fn change(&mut self, exporter: Bdf, importer: Bdf, prepared: Prepared) -> Result<(), Error> {
        for (domain, to) in prepared.domains {
            self.switch(importer, domain, to)?;
        }
        if prepared.acs.is_empty() { Ok(()) } else { self.change_acs(exporter, &prepared.acs) }
    }

    fn switch(&mut self, importer: Bdf, domain: Domain, to: DomainType) -> Result<(), Error> {
        let before = domain.kind.clone();
        let change = Change::Domain(domain.clone());
        self.entries.push(self.journal().begin(&self.host, importer, change, OwnerKind::Run)?);
        let now = domain::switch(&self.host, &domain, to.sysfs_names())?;
        self.done.push(format!("IOMMU group {} switched from {before} to {now}", domain.group));
        Ok(())
    }

    fn change_acs(&mut self, exporter: Bdf, changes: &[AcsChange]) -> Result<(), Error> {
        let (host, journal) = (self.host.clone(), self.journal());
        // The kernel caches the path of a pair until the exporter's driver is unbound. Unbind and bind the driver after setting
        // the bits, and again after reverting them.
        let bound = match host.driver(exporter)? {
            Some(driver) => Some((driver, self.lock_closed(exporter)?)),
            None => None,
        };
        if let Some((driver, _)) = &bound {
            let change = Change::Rebound { driver: driver.clone() };
            self.entries.push(journal.begin(&host, exporter, change, OwnerKind::Run)?);
        }
        for change in changes {
            let AcsChange { bdf, offset, bits, set, .. } = *change;
            let before = Acs::before(&host, bdf, offset, bits)?;
            self.entries.push(journal.begin(&host, bdf, Change::Acs(before), OwnerKind::Run)?);
            acs::change(&host, bdf, offset, bits, set)?;
            self.done.push(change.description.clone());
        }
        if let Some((driver, _lock)) = &bound {
            driver::rebind(&host, exporter, driver)?;
        }
        Ok(())
    }

    /// Locks the exporter, and checks that no process has it open.
    fn lock_closed(&self, exporter: Bdf) -> Result<Lock, Error> {
        let lock = Lock::acquire(&self.dir, Subject::Function(exporter))?;
        require_closed(&self.host, exporter)?;
        Ok(lock)
    }

    fn revert_all(&mut self) -> Result<(), Error> {
        let journal = self.journal();
        let mut outcome = Ok(());
        while let Some(entry) = self.entries.pop() {
            log::info!("restore {} of {}", entry.before(), entry.subject());
            let reverted = match entry.change {
                Change::Rebound { .. } => self.lock_closed(entry.bdf).map(Some),
                _ => Ok(None),
            }
            .and_then(|_lock| journal.revert(&self.host, &entry));
            if let (Err(error), Ok(())) = (reverted, &outcome) {
                outcome = Err(error);
            }
        }
        outcome
    }
}

impl Drop for Arrangement {
    fn drop(&mut self) {
        // A change that cannot be reverted stays in the journal for `restore`.
        let _ = self.revert_all();
    }
}

/// Change of one ACS Control register.
struct AcsChange {
    bdf: Bdf,
    offset: u16,
    bits: u16,
    set: bool,
    description: String,
}

/// Checked changes, and the state before each of them.
#[derive(Default)]
struct Prepared {
    domains: Vec<(Domain, DomainType)>,
    acs: Vec<AcsChange>,
}

impl Prepared {
    /// Checks the functions and groups that the changes affect, and reads their state.
    fn all(exporter: Bdf, importer: Bdf, changes: &[HostChange], options: &Options) -> Result<Self, Error> {
        let host = &options.host;
        let mut prepared = Self::default();
        for change in changes {
            match *change {
                HostChange::Domain { group, to } => {
                    for name in names(&host.path(format!("sys/kernel/iommu_groups/{group}/devices")))? {
                        if let Ok(bdf) = name.parse() {
                            require_closed(host, bdf)?;
                        }
                    }
                    for (bdf, _) in domain::members_with_drivers(host, group)? {
                        refuse_in_use(host, bdf, options.force_in_use)?;
                    }
                    prepared.domains.push((Domain::before(host, group)?, to));
                }
                HostChange::Acs { bdf, offset, bits, set } => {
                    Acs::before(host, bdf, offset, bits.0)?;
                    if !set {
                        require_trusted_below(host, bdf, &[exporter, importer])?;
                    }
                    prepared.acs.push(AcsChange { bdf, offset, bits: bits.0, set, description: change.to_string() });
                }
            }
        }
        Ok(prepared)
    }
}

/// Acquires exclusive locks of the functions and groups that the changes affect, and shared locks of the other functions and
/// groups that the path depends on. [`crate::Hold`] locks the exporter.
fn lock(
    host: &HostTree,
    dir: &StateDir,
    [exporter, importer]: [Bdf; 2],
    changes: &[HostChange],
    hops: &[Bdf],
) -> Result<Vec<Lock>, Error> {
    let (mut subjects, mut locks) = (vec![Subject::Function(exporter)], Vec::new());
    let mut add = |subject, lock: fn(&StateDir, Subject) -> Result<Lock, Error>| {
        if !subjects.contains(&subject) {
            locks.push(lock(dir, subject)?);
            subjects.push(subject);
        }
        Ok::<_, Error>(())
    };
    for change in changes {
        match *change {
            HostChange::Domain { group, .. } => {
                add(Subject::Group(group), Lock::acquire)?;
                for (bdf, _) in domain::members_with_drivers(host, group)? {
                    add(Subject::Function(bdf), Lock::acquire)?;
                }
            }
            HostChange::Acs { bdf, .. } => add(Subject::Function(bdf), Lock::acquire)?,
        }
    }
    for bdf in [&[importer], hops].concat() {
        add(Subject::Function(bdf), Lock::acquire_shared)?;
    }
    if let Some(group) = host.tree().iommu_group(importer) {
        add(Subject::Group(group), Lock::acquire_shared)?;
    }
    Ok(locks)
}

/// Checks that VFIO can open the exporter after the changes.
fn require_exportable(host: &HostTree, exporter: Bdf) -> Result<(), Error> {
    let group = host.tree().vfio_group(exporter)?;
    if !host.tree().has_vfio_driver(exporter)
        && let Some(driver) = host.driver(exporter)?
    {
        return Err(Error::NotVfioDriver { bdf: exporter, driver });
    }
    Ok(host.tree().require_viable(exporter, group, &[])?)
}

/// Checks that no other process has the function open through VFIO.
fn require_closed(host: &HostTree, bdf: Bdf) -> Result<(), Error> {
    let pids = host.vfio_users(bdf)?;
    if pids.is_empty() { Ok(()) } else { Err(Error::OpenElsewhere { bdf, pids }) }
}

/// Checks that no program has a function below the port open through VFIO. The ACS redirect of the port keeps these functions
/// from accessing others without the IOMMU, and a virtual machine relies on this isolation.
fn require_trusted_below(host: &HostTree, port: Bdf, ours: &[Bdf]) -> Result<(), Error> {
    let mut found = Vec::new();
    functions_below(&host.function_real(port)?, &mut found)?;
    for bdf in found.into_iter().filter(|bdf| !ours.contains(bdf)) {
        let pids = host.vfio_users(bdf)?;
        if !pids.is_empty() {
            let detail = format!("processes {pids:?} have it open through VFIO and rely on the ACS redirect of {port}");
            let uses = vec![InUse { kind: UseKind::Process, detail, forceable: false }];
            return Err(Error::InUse { bdf, uses, forced: false });
        }
    }
    Ok(())
}

fn functions_below(folder: &Path, found: &mut Vec<Bdf>) -> Result<(), Error> {
    for name in names(folder)? {
        if let Ok(bdf) = name.parse() {
            found.push(bdf);
            functions_below(&folder.join(name), found)?;
        }
    }
    Ok(())
}
