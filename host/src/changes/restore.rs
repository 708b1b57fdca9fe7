//! Reverts every change in the journal that no running process holds.

use std::time::{Duration, Instant};

use peerpath_paths::Bdf;

use super::entry::boot_id;
use super::identity::Comparison;
use super::{Change, Entry, Journal, Lock, OwnerKind, Reverted, StateDir, Subject};
use crate::{Error, Options};

/// Time limit for a killed process to close its files.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Outcome of restoring one entry of the journal.
#[derive(Debug)]
pub struct Restored {
    /// Object of the change.
    pub subject: Subject,
    /// Outcome of reverting the change.
    pub outcome: Outcome,
}

/// Outcome of reverting a change.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The previous state is restored.
    Restored {
        /// The reverted change and the restored state.
        reverted: Reverted,
    },
    /// Nothing to restore: the function was removed, the host rebooted, or another process reverted the change.
    Obsolete,
    /// Not reverted, because another process has locked the function or group.
    Held {
        /// ID of that process; `None` if the lock file contains no process ID.
        pid: Option<u32>,
    },
    /// Not reverted, because other programs have the function open through VFIO.
    Open {
        /// IDs of those processes.
        pids: Vec<u32>,
    },
    /// Reverting failed. The entry stays in the journal, except after an [`Error::Replaced`] whose `kept` is false.
    Failed {
        /// Reason of the failure.
        error: Error,
    },
}

impl Outcome {
    /// Whether nothing is left to restore for this entry.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Restored { .. } | Self::Obsolete)
    }
}

/// Reverts every change in the journal that no running process holds, the last change first.
///
/// # Errors
/// The state directory or the journal cannot be used. A failure to revert a change is an [`Outcome`], not an error.
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

/// Whether the journal lists a change that this process made for a run and has not reverted yet.
///
/// # Errors
/// The state directory or the journal cannot be read. Users other than root get `false` instead, because only root changes a
/// host.
pub fn is_changed(options: &Options) -> Result<bool, Error> {
    if !options.state_dir.exists() {
        return Ok(false);
    }
    match StateDir::open(&options.state_dir).and_then(|dir| Journal::new(dir).entries()) {
        Ok(entries) => Ok(entries.iter().any(|entry| entry.owner.is_run_of_this_process(&options.host))),
        Err(_) if !nix::unistd::geteuid().is_root() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The functions and groups whose changes by an earlier run are still in the journal although its process has ended, without
/// duplicates. [`restore`] reverts these changes.
///
/// # Errors
/// As for [`is_changed`].
pub fn left_by_earlier_runs(options: &Options) -> Result<Vec<Subject>, Error> {
    if !options.state_dir.exists() {
        return Ok(Vec::new());
    }
    let host = &options.host;
    let now = boot_id(host);
    let is_left =
        |entry: &Entry| entry.owner.kind == OwnerKind::Run && entry.boot_id == now && !entry.owner.is_running(host);
    match StateDir::open(&options.state_dir).and_then(|dir| Journal::new(dir).entries()) {
        Ok(entries) => {
            let mut subjects = Vec::new();
            for entry in entries.into_iter().filter(is_left) {
                if !subjects.contains(&entry.subject()) {
                    subjects.push(entry.subject());
                }
            }
            Ok(subjects)
        }
        Err(_) if !nix::unistd::geteuid().is_root() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn restore_one(entry: &Entry, options: &Options, dir: &StateDir, journal: &Journal) -> Outcome {
    let _lock = match Lock::acquire(dir, entry.subject()) {
        Ok(lock) => lock,
        Err(Error::Locked { pid, .. }) => return Outcome::Held { pid },
        Err(error) => return Outcome::Failed { error },
    };
    // A running process reverts the changes of its run. It does not hold the lock all the time.
    if entry.owner.kind == OwnerKind::Run
        && entry.owner.pid != std::process::id()
        && entry.owner.is_running(&options.host)
    {
        return Outcome::Held { pid: Some(entry.owner.pid) };
    }
    revert(entry, options, journal).unwrap_or_else(|error| Outcome::Failed { error })
}

fn revert(entry: &Entry, options: &Options, journal: &Journal) -> Result<Outcome, Error> {
    let (host, bdf) = (&options.host, entry.bdf);
    // Read the entry again under the lock: another process may have reverted the change meanwhile.
    let Some(entry) = journal.find(entry)? else { return Ok(Outcome::Obsolete) };
    if entry.boot_id != boot_id(host) || entry.compare(host)? == Comparison::Gone {
        journal.remove(&entry)?;
        return Ok(Outcome::Obsolete);
    }
    journal.require_same(host, &entry)?;
    if matches!(entry.change, Change::Driver(_) | Change::Rebound { .. }) {
        let pids = wait_for_users(options, bdf)?;
        if !pids.is_empty() {
            return Ok(Outcome::Open { pids });
        }
    }
    journal.revert(host, &entry).map(|reverted| Outcome::Restored { reverted })
}

/// Waits for all processes to close the function, at most for `CLOSE_TIMEOUT`, and returns the processes that still have it open.
/// Unbinding from vfio-pci would block until the last one closes it: forever, if a virtual machine uses the function.
///
/// # Errors
/// A file of `/proc` or sysfs cannot be read, so whether a process has the function open is unknown.
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
    use crate::testing::{Fixture, picture};
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
    fn keeps_a_function_that_a_running_process_has_locked() {
        let (fixture, bdf) = fixture();
        let options = fixture.options();
        bind(&[bdf], &options).unwrap();
        let hold = Hold::acquire(bdf, &options).unwrap();
        // Simulate that another process holds the lock.
        std::fs::write(options.state_dir.join(format!("{bdf}.lock")), "4242").unwrap();
        assert!(matches!(only(&restore(&options).unwrap()), Outcome::Held { pid: Some(4242) }));
        drop(hold);
        assert!(matches!(only(&restore(&options).unwrap()), Outcome::Restored { .. }));
    }

    #[test]
    fn keeps_a_function_that_a_virtual_machine_has_open() {
        let (fixture, bdf) = fixture();
        bind(&[bdf], &fixture.options()).unwrap();
        fixture.link("proc/4242/fd/7", "/dev/vfio/3");
        assert!(matches!(only(&restore(&fixture.options()).unwrap()), Outcome::Open { pids } if pids == &[4242]));
    }

    /// Unbinding a function that a process has open blocks in the kernel, so a function whose state is unknown counts as open.
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
    fn this_process_has_to_revert_the_changes_of_its_runs() {
        let (fixture, bdf) = fixture();
        let free = fixture.function("0000:04:00.0").group(4).bdf();
        let options = fixture.options();
        assert!(!is_changed(&options).unwrap());
        // A change of `bind` lasts until `restore` reverts it.
        bind(&[bdf], &options).unwrap();
        assert!(!is_changed(&options).unwrap());
        let hold = Hold::acquire(free, &options).unwrap();
        assert!(is_changed(&options).unwrap());
        drop(hold);
        assert!(!is_changed(&options).unwrap());
    }

    #[test]
    fn a_killed_run_leaves_changes_that_are_reported() {
        let (fixture, bdf) = fixture();
        let free = fixture.function("0000:04:00.0").group(4).bdf();
        let options = fixture.options();
        assert!(left_by_earlier_runs(&options).unwrap().is_empty());
        bind(&[bdf], &options).unwrap();
        let hold = Hold::acquire(free, &options).unwrap();
        // This process still runs, and `bind` is meant to last.
        fixture.file("proc/self/stat", "");
        assert!(!left_by_earlier_runs(&options).unwrap().contains(&Subject::Function(bdf)));
        fixture.die_after(0);
        drop(hold);
        fixture.revive();
        let journal = options.state_dir.join("journal.json");
        let text = std::fs::read_to_string(&journal).unwrap();
        std::fs::write(&journal, text.replace(&format!("\"pid\": {}", std::process::id()), "\"pid\": 4294967295"))
            .unwrap();
        assert_eq!(left_by_earlier_runs(&options).unwrap(), [Subject::Function(free)]);
        restore(&options).unwrap();
        assert!(left_by_earlier_runs(&options).unwrap().is_empty());
    }

    #[test]
    fn removes_entries_of_removed_functions_and_earlier_boots() {
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
    fn keeps_a_driver_that_another_program_bound() {
        let (fixture, bdf) = fixture();
        bind(&[bdf], &fixture.options()).unwrap();
        fixture.pci_driver("uio_pci_generic");
        fixture.function("0000:03:00.0").driver("uio_pci_generic").file("driver_override", "uio_pci_generic\n");
        let restored = restore(&fixture.options()).unwrap();
        let Outcome::Failed { error } = only(&restored) else { panic!("{restored:?}") };
        assert!(error.to_string().contains("another program has bound it to uio_pci_generic"), "{error}");
        assert_eq!(fixture.host().driver(bdf).unwrap().as_deref(), Some("uio_pci_generic"));
        assert_eq!(fixture.read("sys/bus/pci/devices/0000:03:00.0/driver_override"), "uio_pci_generic\n");
        // After the other driver is unbound, `restore` binds the previous driver.
        fixture.function("0000:03:00.0").file("driver_override", "(null)\n");
        std::fs::remove_file(fixture.path("sys/bus/pci/devices/0000:03:00.0/driver")).unwrap();
        assert!(matches!(only(&restore(&fixture.options()).unwrap()), Outcome::Restored { .. }));
        assert_eq!(fixture.host().driver(bdf).unwrap().as_deref(), Some("nvme"));
    }

    #[test]
    fn leaves_a_replacement_function_unchanged() {
        let (fixture, bdf) = fixture();
        fixture.function("0000:03:00.0").file("vendor", "0x144d\n").file("device", "0xa808\n");
        bind(&[bdf], &fixture.options()).unwrap();
        fixture.function("0000:03:00.0").file("device", "0xa80a\n");
        let before = picture(&fixture);
        let restored = restore(&fixture.options()).unwrap();
        let Outcome::Failed { error } = only(&restored) else { panic!("{restored:?}") };
        assert_eq!(
            error.to_string(),
            "cannot restore 0000:03:00.0: it was 0000:03:00.0 (144d:a808) and is 0000:03:00.0 (144d:a80a) now"
        );
        assert_eq!(picture(&fixture), before);
        assert_eq!(fixture.journaled(), [], "the change is gone with the function");
    }

    #[test]
    fn does_nothing_without_a_journal() {
        let fixture = Fixture::new();
        assert!(restore(&fixture.options()).unwrap().is_empty());
        assert!(!fixture.options().state_dir.exists(), "restoring creates no directory");
    }
}
