//! Reverting everything in the journal, whichever process made the change and however that process ended.

use std::time::{Duration, Instant};

use peerpath_paths::{Bdf, GroupError};

use super::journal::boot_id;
use super::{Change, Entry, Journal, Lock, OwnerKind, Reverted, StateDir, Subject};
use crate::{Error, Options};

/// Timeout for a killed process to close its files.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An entry of the journal, and its outcome in a restore.
#[derive(Debug)]
pub struct Restored {
    /// Object of the change.
    pub subject: Subject,
    /// Outcome of reverting it.
    pub outcome: Outcome,
}

/// Outcome of reverting a change.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The state of before is restored.
    Restored {
        /// The reverted change.
        reverted: Reverted,
    },
    /// The function is gone or the host has rebooted: nothing to restore.
    Obsolete,
    /// Left alone: another process has locked it.
    Held {
        /// The process, where known.
        pid: Option<u32>,
    },
    /// Left alone: other programs have it open through VFIO.
    Open {
        /// The processes.
        pids: Vec<u32>,
    },
    /// Reverting failed; the entry stays in the journal.
    Failed {
        /// Why.
        error: Error,
    },
}

impl Outcome {
    /// Whether nothing is left to restore.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Restored { .. } | Self::Obsolete)
    }
}

/// Reverts every change in the journal that no running process holds, the last change first.
///
/// # Errors
/// The journal cannot be read. The outcome of each change is in the result.
pub fn restore(options: &Options) -> Result<Vec<Restored>, Error> {
    if !options.state_dir.exists() {
        return Ok(Vec::new());
    }
    let dir = StateDir::open(&options.state_dir)?;
    let journal = Journal::new(dir.clone());
    let entries = journal.entries()?;
    Ok(entries
        .into_iter()
        .rev()
        .map(|entry| Restored { subject: entry.subject(), outcome: restore_one(&entry, options, &dir, &journal) })
        .collect())
}

fn restore_one(entry: &Entry, options: &Options, dir: &StateDir, journal: &Journal) -> Outcome {
    let _lock = match Lock::acquire(dir, entry.subject()) {
        Ok(lock) => lock,
        Err(Error::Locked { pid, .. }) => return Outcome::Held { pid },
        Err(error) => return Outcome::Failed { error },
    };
    // A run holds the lock for its whole life; this catches one that is about to acquire it.
    if entry.owner.kind == OwnerKind::Run && entry.owner.pid != std::process::id() && entry.owner.lives(&options.host) {
        return Outcome::Held { pid: Some(entry.owner.pid) };
    }
    revert(entry, options, journal).unwrap_or_else(|error| Outcome::Failed { error })
}

fn revert(entry: &Entry, options: &Options, journal: &Journal) -> Result<Outcome, Error> {
    let (host, bdf) = (&options.host, entry.bdf);
    // Read again under the lock: another process may have reverted it meanwhile.
    let Some(entry) = journal.find(entry)? else { return Ok(Outcome::Obsolete) };
    if entry.boot_id != boot_id(host) || matches!(host.require(bdf), Err(Error::Group(GroupError::NoFunction { .. }))) {
        journal.remove(&entry)?;
        return Ok(Outcome::Obsolete);
    }
    if matches!(entry.change, Change::Driver { .. } | Change::Rebound { .. }) {
        let pids = wait_for_users(options, bdf)?;
        if !pids.is_empty() {
            return Ok(Outcome::Open { pids });
        }
    }
    journal.revert(host, &entry).map(|reverted| Outcome::Restored { reverted })
}

/// Unbinding a function from vfio-pci blocks until nobody has it open: forever, if a guest uses it.
fn wait_for_users(options: &Options, bdf: Bdf) -> Result<Vec<u32>, Error> {
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    loop {
        let pids = options.host.vfio_users(bdf)?;
        if pids.is_empty() || Instant::now() > deadline {
            return Ok(pids);
        }
        std::thread::sleep(CLOSE_TIMEOUT / 20);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;
    use crate::{Hold, bind};

    fn fixture() -> (Fixture, Bdf) {
        let fixture = Fixture::new();
        fixture.pci_driver("vfio-pci");
        fixture.pci_driver("nvme");
        let bdf = fixture.function("0000:03:00.0").group(3).driver("nvme").bdf();
        (fixture, bdf)
    }

    fn only(outcome: &[Restored]) -> &Outcome {
        assert_eq!(outcome.len(), 1);
        &outcome[0].outcome
    }

    #[test]
    fn leaves_alone_what_a_running_process_holds() {
        let (fixture, bdf) = fixture();
        let options = fixture.options();
        bind(&[bdf], &options).unwrap();
        let hold = Hold::acquire(bdf, &options).unwrap();
        // As if another process held it.
        std::fs::write(options.state_dir.join(format!("{bdf}.lock")), "4242").unwrap();
        assert!(matches!(only(&restore(&options).unwrap()), Outcome::Held { pid: Some(4242) }));
        drop(hold);
        assert!(matches!(only(&restore(&options).unwrap()), Outcome::Restored { .. }));
    }

    #[test]
    fn leaves_alone_what_a_guest_has_open() {
        let (fixture, bdf) = fixture();
        bind(&[bdf], &fixture.options()).unwrap();
        fixture.link("proc/4242/fd/7", "/dev/vfio/3");
        assert!(matches!(only(&restore(&fixture.options()).unwrap()), Outcome::Open { pids } if pids == &[4242]));
    }

    /// Unbinding a function that a process has open blocks in the kernel, so an unknown state is not a closed function.
    #[test]
    fn keeps_the_driver_if_the_users_are_unknown() {
        let (fixture, bdf) = fixture();
        bind(&[bdf], &fixture.options()).unwrap();
        // Listing a file in place of the directory fails with ENOTDIR.
        fixture.file("proc/4242/fd", "");
        let restored = restore(&fixture.options()).unwrap();
        assert!(matches!(only(&restored), Outcome::Failed { error: Error::ReadHost { .. } }), "{restored:?}");
        assert_eq!(fixture.host().driver(bdf).unwrap().as_deref(), Some("vfio-pci"));
        assert_eq!(fixture.journaled(), [bdf]);
        assert!(matches!(Hold::probe(bdf, &fixture.options()), Err(Error::ReadHost { .. })));
    }

    #[test]
    fn forgets_functions_that_vanished_and_other_boots() {
        let (fixture, bdf) = fixture();
        bind(&[bdf], &fixture.options()).unwrap();
        fixture.file("proc/sys/kernel/random/boot_id", "another\n");
        assert!(matches!(only(&restore(&fixture.options()).unwrap()), Outcome::Obsolete));
        assert_eq!(fixture.journaled(), []);

        let (fixture, bdf) = self::fixture();
        bind(&[bdf], &fixture.options()).unwrap();
        std::fs::remove_file(fixture.path("sys/bus/pci/devices/0000:03:00.0")).unwrap();
        assert!(matches!(only(&restore(&fixture.options()).unwrap()), Outcome::Obsolete));
        assert_eq!(fixture.journaled(), []);
    }

    #[test]
    fn keeps_the_entry_if_reverting_fails() {
        let (fixture, bdf) = fixture();
        bind(&[bdf], &fixture.options()).unwrap();
        fixture.remove_pci_driver("nvme");
        assert!(matches!(only(&restore(&fixture.options()).unwrap()), Outcome::Failed { .. }));
        assert_eq!(fixture.journaled(), [bdf]);
        fixture.pci_driver("nvme");
        assert!(matches!(only(&restore(&fixture.options()).unwrap()), Outcome::Restored { .. }));
        assert_eq!(fixture.host().driver(bdf).unwrap().as_deref(), Some("nvme"));
    }

    #[test]
    fn leaves_a_driver_that_somebody_else_bound() {
        let (fixture, bdf) = fixture();
        bind(&[bdf], &fixture.options()).unwrap();
        fixture.pci_driver("uio_pci_generic");
        fixture.function("0000:03:00.0").driver("uio_pci_generic").file("driver_override", "uio_pci_generic\n");
        assert!(restore(&fixture.options()).unwrap()[0].outcome.is_settled());
        assert_eq!(fixture.host().driver(bdf).unwrap().as_deref(), Some("uio_pci_generic"));
        assert_eq!(fixture.read("sys/bus/pci/devices/0000:03:00.0/driver_override"), "uio_pci_generic\n");
    }

    #[test]
    fn does_nothing_without_a_journal() {
        let fixture = Fixture::new();
        assert!(restore(&fixture.options()).unwrap().is_empty());
        assert!(!fixture.options().state_dir.exists(), "restoring creates no directory");
    }
}
