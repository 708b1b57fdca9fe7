//! `peerpath restore`: everything goes back, whoever changed it and however that process ended.

use std::time::{Duration, Instant};

use peerpath_paths::Bdf;

use super::journal::boot_id;
use super::{Change, Entry, Journal, Lock, OwnerKind, PutBack, StateDir, Subject};
use crate::in_use::vfio_users;
use crate::{Error, OpenOptions};

/// A run that was just killed takes a moment to let go of its files.
const PATIENCE: Duration = Duration::from_secs(1);

/// What became of a change in a restore.
#[derive(Debug)]
pub struct Restored {
    /// What had been changed.
    pub subject: Subject,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a change in a restore.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It is as it was before.
    GivenBack {
        /// What was put back.
        put_back: PutBack,
    },
    /// It is not there any more, or the host was started anew since: nothing to give back.
    Obsolete,
    /// A living peerpath works with it; left alone.
    Held {
        /// The process, where known.
        pid: Option<u32>,
    },
    /// Other programs have it open through VFIO; left alone.
    Open {
        /// The processes.
        pids: Vec<u32>,
    },
    /// It could not be given back; it stays in the journal.
    Failed {
        /// Why.
        error: Error,
    },
}

impl Outcome {
    /// Whether nothing is left to do.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::GivenBack { .. } | Self::Obsolete)
    }
}

/// Gives back everything in the journal that no living run holds, the last change first.
///
/// # Errors
/// The journal cannot be read; what happened to single changes stands in the answer.
pub fn restore(options: &OpenOptions) -> Result<Vec<Restored>, Error> {
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

fn restore_one(entry: &Entry, options: &OpenOptions, dir: &StateDir, journal: &Journal) -> Outcome {
    let _lock = match Lock::take(dir, entry.subject()) {
        Ok(lock) => lock,
        Err(Error::Taken { pid, .. }) => return Outcome::Held { pid },
        Err(error) => return Outcome::Failed { error },
    };
    // A run holds the lock as long as it lives; this catches one that is just about to take it.
    if entry.owner.kind == OwnerKind::Run && entry.owner.pid != std::process::id() && entry.owner.lives(&options.host) {
        return Outcome::Held { pid: Some(entry.owner.pid) };
    }
    give_back(entry, options, journal).unwrap_or_else(|error| Outcome::Failed { error })
}

fn give_back(entry: &Entry, options: &OpenOptions, journal: &Journal) -> Result<Outcome, Error> {
    let (host, bdf) = (&options.host, entry.bdf);
    // Read again under the lock: another process may have settled it meanwhile.
    let Some(entry) = journal.find(entry)? else { return Ok(Outcome::Obsolete) };
    if entry.boot_id != boot_id(host) || matches!(host.require(bdf), Err(Error::NoFunction { .. })) {
        journal.remove(&entry)?;
        return Ok(Outcome::Obsolete);
    }
    if matches!(entry.change, Change::Driver { .. } | Change::Rebound { .. }) {
        let pids = wait_for_users(options, bdf)?;
        if !pids.is_empty() {
            return Ok(Outcome::Open { pids });
        }
    }
    journal.undo(host, &entry).map(|put_back| Outcome::GivenBack { put_back })
}

/// Taking a function from vfio-pci waits until nobody has it open: for ever, with a guest on it.
fn wait_for_users(options: &OpenOptions, bdf: Bdf) -> Result<Vec<u32>, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pids = vfio_users(&options.host, bdf)?;
        if pids.is_empty() || Instant::now() > deadline {
            return Ok(pids);
        }
        std::thread::sleep(PATIENCE / 20);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind::{Hold, bind};
    use crate::testing::Fixture;

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
    fn leaves_alone_what_a_living_run_holds() {
        let (fixture, bdf) = fixture();
        let options = fixture.options();
        bind(&[bdf], &options).unwrap();
        let hold = Hold::take(bdf, &options).unwrap();
        // As if another process held it.
        std::fs::write(options.state_dir.join(format!("{bdf}.lock")), "4242").unwrap();
        assert!(matches!(only(&restore(&options).unwrap()), Outcome::Held { pid: Some(4242) }));
        drop(hold);
        assert!(matches!(only(&restore(&options).unwrap()), Outcome::GivenBack { .. }));
    }

    #[test]
    fn leaves_alone_what_a_guest_has_open() {
        let (fixture, bdf) = fixture();
        bind(&[bdf], &fixture.options()).unwrap();
        fixture.link("proc/4242/fd/7", "/dev/vfio/3");
        assert!(matches!(only(&restore(&fixture.options()).unwrap()), Outcome::Open { pids } if pids == &[4242]));
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
    fn what_cannot_be_given_back_stays_written_down() {
        let (fixture, bdf) = fixture();
        bind(&[bdf], &fixture.options()).unwrap();
        fixture.remove_pci_driver("nvme");
        assert!(matches!(only(&restore(&fixture.options()).unwrap()), Outcome::Failed { .. }));
        assert_eq!(fixture.journaled(), [bdf]);
        fixture.pci_driver("nvme");
        assert!(matches!(only(&restore(&fixture.options()).unwrap()), Outcome::GivenBack { .. }));
        assert_eq!(fixture.host().driver(bdf).unwrap().as_deref(), Some("nvme"));
    }

    #[test]
    fn a_driver_that_somebody_else_chose_is_left_alone() {
        let (fixture, bdf) = fixture();
        bind(&[bdf], &fixture.options()).unwrap();
        fixture.pci_driver("uio_pci_generic");
        fixture.function("0000:03:00.0").driver("uio_pci_generic").file("driver_override", "uio_pci_generic\n");
        assert!(restore(&fixture.options()).unwrap()[0].outcome.is_settled());
        assert_eq!(fixture.host().driver(bdf).unwrap().as_deref(), Some("uio_pci_generic"));
        assert_eq!(fixture.read("sys/bus/pci/devices/0000:03:00.0/driver_override"), "uio_pci_generic\n");
    }

    #[test]
    fn without_a_journal_there_is_nothing_to_do() {
        let fixture = Fixture::new();
        assert!(restore(&fixture.options()).unwrap().is_empty());
        assert!(!fixture.options().state_dir.exists(), "looking makes nothing");
    }
}
