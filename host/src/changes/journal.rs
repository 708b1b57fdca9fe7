//! The journal: every change of the host and the process that makes it, written before the change is made.

use std::fs::{self, File};
use std::io::{self, Write};
use std::mem::discriminant;

use nix::fcntl::{Flock, FlockArg};
use peerpath_paths::Bdf;
use serde::{Deserialize, Serialize};

use super::Subject;
use super::acs::Acs;
use super::domain::Domain;
use super::revert::{Reverted, revert};
use super::state_dir::StateDir;
use crate::Error;
use crate::host_tree::{HostTree, read_trimmed};

const FILE: &str = "journal.json";
const VERSION: u32 = 1;

/// The intended lifetime of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OwnerKind {
    /// The change lasts until `restore` reverts it.
    Bind,
    /// The change lasts until the process that made it exits.
    Run,
}

/// The process that made a change. Process IDs are reused, but pairs of ID and start time are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) kind: OwnerKind,
    pub(super) pid: u32,
    pub(super) start_time_ticks: Option<u64>,
}

/// A change, described by the state before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Change {
    /// The function was bound to vfio-pci.
    Driver { driver: Option<String>, driver_override: Option<String> },
    /// The function was unbound from its VFIO driver and bound again, so that the kernel discards the cached path. Reverting
    /// repeats this, after the later changes in the journal are reverted.
    Rebound { driver: String },
    /// The domain type of the function's IOMMU group was changed.
    Domain(Domain),
    /// Bits of the function's ACS Control register were changed.
    Acs(Acs),
}

impl Change {
    /// Merges with the same change of a process that died. The result describes the state before both changes.
    fn after(self, left: Self) -> Self {
        match (self, left) {
            (Self::Acs(now), Self::Acs(left)) => Self::Acs(now.after(left)),
            (_, left) => left,
        }
    }
}

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) bdf: Bdf,
    pub(crate) change: Change,
    pub(super) owner: Owner,
    /// Boot in which the change was made: a reboot reverts the change, but may keep the state directory.
    pub(super) boot_id: Option<String>,
}

impl Entry {
    pub(crate) fn subject(&self) -> Subject {
        match &self.change {
            Change::Domain(domain) => Subject::Group(domain.group),
            Change::Driver { .. } | Change::Rebound { .. } | Change::Acs(_) => Subject::Function(self.bdf),
        }
    }

    /// Whether both entries have the same subject and kind of change. The journal has one entry for each such combination.
    fn is_same_change(&self, other: &Self) -> bool {
        self.subject() == other.subject() && discriminant(&self.change) == discriminant(&other.change)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    version: u32,
    entries: Vec<Entry>,
}

impl Owner {
    pub(super) fn this_process(host: &HostTree, kind: OwnerKind) -> Self {
        let pid = std::process::id();
        Self { kind, pid, start_time_ticks: start_time_ticks(host, pid) }
    }

    /// Whether the process still runs.
    pub(super) fn is_running(&self, host: &HostTree) -> bool {
        let now = start_time_ticks(host, self.pid);
        now.is_some() && now == self.start_time_ticks
    }
}

/// Start time of a process in clock ticks after boot, field 22 of `proc(5)` stat; `None` if the process has exited.
fn start_time_ticks(host: &HostTree, pid: u32) -> Option<u64> {
    let text = read_trimmed(&host.path(format!("proc/{pid}/stat"))).ok()??;
    // The command in parentheses can contain any character; field 22 is the 20th after it.
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Reads the ID that the kernel generates at each boot.
pub(super) fn boot_id(host: &HostTree) -> Option<String> {
    read_trimmed(&host.path("proc/sys/kernel/random/boot_id")).ok()?
}

/// The journal of a state directory.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    dir: StateDir,
}

impl Journal {
    pub(crate) fn new(dir: StateDir) -> Self {
        Self { dir }
    }

    /// Reads all entries, in the order in which their changes were made.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, Error> {
        let _lock = self.lock()?;
        self.read()
    }

    /// Finds the current entry for the same subject and kind of change.
    pub(super) fn find(&self, entry: &Entry) -> Result<Option<Entry>, Error> {
        Ok(self.entries()?.into_iter().find(|other| other.is_same_change(entry)))
    }

    /// Records the current state `now` before a change. The entry is on disk when this returns. If a dead process left an entry,
    /// its state is kept: the current state may be the result of an incomplete change.
    pub(crate) fn begin(&self, host: &HostTree, bdf: Bdf, now: Change, kind: OwnerKind) -> Result<Entry, Error> {
        let mut entry = Entry { bdf, change: now, owner: Owner::this_process(host, kind), boot_id: boot_id(host) };
        if let Some(left) = self.find(&entry)?.filter(|left| left.boot_id == entry.boot_id) {
            entry.change = entry.change.after(left.change);
        }
        log::info!("record the state of {} in the journal", entry.subject());
        self.put(entry.clone())?;
        Ok(entry)
    }

    /// Makes this process the owner of the entry that a dead process left for the same function and kind of change.
    pub(crate) fn adopt(&self, host: &HostTree, bdf: Bdf, now: Change, kind: OwnerKind) -> Result<(), Error> {
        let owner = Owner::this_process(host, kind);
        let entry = Entry { bdf, change: now, owner: owner.clone(), boot_id: boot_id(host) };
        match self.find(&entry)? {
            Some(left) if left.boot_id == entry.boot_id => self.put(Entry { owner, ..left }),
            _ => Ok(()),
        }
    }

    /// Reverts a change and removes its entry. On failure the entry stays, and `restore` finds it.
    pub(crate) fn revert(&self, host: &HostTree, entry: &Entry) -> Result<Reverted, Error> {
        let reverted = revert(host, entry)?;
        self.remove(entry)?;
        Ok(reverted)
    }

    /// Writes an entry. It replaces an older entry for the same subject and kind of change.
    fn put(&self, entry: Entry) -> Result<(), Error> {
        self.update(|entries| match entries.iter_mut().find(|old| old.is_same_change(&entry)) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        })
    }

    /// Removes the entry for the same subject and kind of change.
    pub(super) fn remove(&self, entry: &Entry) -> Result<(), Error> {
        self.update(|entries| entries.retain(|other| !other.is_same_change(entry)))
    }

    fn update(&self, change: impl FnOnce(&mut Vec<Entry>)) -> Result<(), Error> {
        let _lock = self.lock()?;
        let mut entries = self.read()?;
        change(&mut entries);
        self.write(&Contents { version: VERSION, entries })
    }

    fn read(&self) -> Result<Vec<Entry>, Error> {
        let path = self.dir.file(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::State { path, operation: "read the journal", source }),
        };
        let contents: Contents =
            serde_json::from_slice(&bytes).map_err(|source| Error::BadJournal { path: path.clone(), source })?;
        if contents.version != VERSION {
            let source =
                serde::de::Error::custom(format!("unsupported version {}, expected {VERSION}", contents.version));
            return Err(Error::BadJournal { path, source });
        }
        Ok(contents.entries)
    }

    /// Replaces the journal atomically, even if the host loses power: writes and syncs a new file, then renames it over the old
    /// one.
    fn write(&self, contents: &Contents) -> Result<(), Error> {
        let (path, new) = (self.dir.file(FILE), self.dir.file("journal.json.new"));
        let written = (|| {
            let mut file = File::create(&new)?;
            serde_json::to_writer_pretty(&mut file, contents)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            self.dir.sync()
        })();
        written.map_err(|source| {
            let _ = fs::remove_file(&new);
            Error::State { path, operation: "write the journal", source }
        })
    }

    fn lock(&self) -> Result<Flock<File>, Error> {
        let path = self.dir.file("journal.lock");
        let failed = |source| Error::State { path: path.clone(), operation: "lock the journal", source };
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => return Ok(lock),
                Err((again, nix::errno::Errno::EINTR)) => file = again,
                Err((_, errno)) => return Err(failed(errno.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> (tempfile::TempDir, Journal) {
        let base = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&base.path().join("state")).unwrap();
        (base, Journal::new(dir))
    }

    fn entry_of(bdf: &str, change: Change) -> Entry {
        let owner = Owner::this_process(&HostTree::live(), OwnerKind::Run);
        Entry { bdf: bdf.parse().unwrap(), change, owner, boot_id: None }
    }

    fn entry(bdf: &str, driver: Option<&str>) -> Entry {
        entry_of(bdf, Change::Driver { driver: driver.map(str::to_owned), driver_override: None })
    }

    #[test]
    fn keeps_one_entry_for_each_kind_of_change_of_a_function() {
        let (_base, journal) = journal();
        assert_eq!(journal.entries().unwrap(), []);
        let acs = entry_of("0000:03:00.0", Change::Acs(Acs { offset: 0x106, mask: 0x0c, control: 0x1d }));
        journal.put(entry("0000:03:00.0", Some("nvme"))).unwrap();
        journal.put(acs.clone()).unwrap();
        journal.put(entry("0000:04:00.0", None)).unwrap();
        journal.put(entry("0000:03:00.0", Some("e1000e"))).unwrap();
        let expected = [entry("0000:03:00.0", Some("e1000e")), acs.clone(), entry("0000:04:00.0", None)];
        assert_eq!(journal.entries().unwrap(), expected);
        journal.remove(&expected[0]).unwrap();
        assert_eq!(journal.find(&expected[0]).unwrap(), None);
        assert_eq!(journal.find(&acs).unwrap(), Some(acs));
        assert!(journal.find(&expected[2]).unwrap().is_some());
    }

    #[test]
    fn keeps_the_state_before_a_dead_process_changed_it() {
        let (_base, journal) = journal();
        let host = HostTree::live();
        let bdf = "0000:03:00.0".parse().unwrap();
        let begin = |change| journal.begin(&host, bdf, change, OwnerKind::Run).unwrap().change;
        let first = Change::Acs(Acs { offset: 0x106, mask: 0x04, control: 0x1d });
        assert_eq!(begin(first.clone()), first);
        // The dead process cleared RR; now CR is cleared as well.
        let both = Change::Acs(Acs { offset: 0x106, mask: 0x0c, control: 0x1d });
        assert_eq!(begin(Change::Acs(Acs { offset: 0x106, mask: 0x08, control: 0x19 })), both);
        let driver = Change::Driver { driver: Some("nvme".to_owned()), driver_override: None };
        begin(driver.clone());
        assert_eq!(begin(Change::Driver { driver: None, driver_override: Some("vfio-pci".to_owned()) }), driver);
    }

    #[test]
    fn reads_journals_with_driver_entries_only() {
        let (_base, journal) = journal();
        let text = r#"{"version":1,"entries":[{"bdf":"0000:03:00.0","change":{"kind":"driver","driver":"nvme",
            "driver_override":null},"owner":{"kind":"bind","pid":7,"start_time_ticks":8},"boot_id":"x"}]}"#;
        fs::write(journal.dir.file(FILE), text).unwrap();
        let entries = journal.entries().unwrap();
        assert_eq!(entries[0].change, Change::Driver { driver: Some("nvme".to_owned()), driver_override: None });
    }

    #[test]
    fn concurrent_writers_lose_no_entry() {
        let (_base, journal) = journal();
        std::thread::scope(|scope| {
            for bus in 0..8 {
                let journal = &journal;
                scope.spawn(move || journal.put(entry(&format!("0000:{bus:02x}:00.0"), None)).unwrap());
            }
        });
        assert_eq!(journal.entries().unwrap().len(), 8);
    }

    #[test]
    fn rejects_a_foreign_file_and_keeps_it() {
        let (_base, journal) = journal();
        for text in ["", "{}", "[]", r#"{"version":2,"entries":[]}"#, r#"{"version":1,"entries":[{"bdf":"x"}]}"#] {
            fs::write(journal.dir.file(FILE), text).unwrap();
            assert!(matches!(journal.entries(), Err(Error::BadJournal { .. })), "{text}");
            assert!(journal.put(entry("0000:03:00.0", None)).is_err());
            assert_eq!(fs::read_to_string(journal.dir.file(FILE)).unwrap(), text);
        }
    }

    #[test]
    fn recognizes_running_processes() {
        let host = HostTree::live();
        let me = Owner::this_process(&host, OwnerKind::Run);
        assert!(me.is_running(&host));
        assert!(
            !Owner { start_time_ticks: me.start_time_ticks.map(|ticks| ticks + 1), ..me.clone() }.is_running(&host)
        );
        assert!(!Owner { pid: u32::MAX, ..me }.is_running(&host));
        let unknown = Owner { kind: OwnerKind::Run, pid: u32::MAX, start_time_ticks: None };
        assert!(!unknown.is_running(&host));
    }
}
