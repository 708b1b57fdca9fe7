//! The journal: every change of the host and the process that makes it, written before the change is made.

use std::fs::{self, File};
use std::io::{self, Write};

use nix::fcntl::{Flock, FlockArg};
use peerpath_paths::Bdf;
use serde::{Deserialize, Serialize};

use super::entry::{Change, Entry, OwnerKind};
use super::identity::Comparison;
use super::revert::{Reverted, revert};
use super::state_dir::StateDir;
use crate::Error;
use crate::host_tree::HostTree;

const FILE: &str = "journal.json";
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    version: u32,
    entries: Vec<Entry>,
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

    /// Finds the entry that a dead process left for the same change of the same functions since the host booted.
    fn left(&self, entry: &Entry) -> Result<Option<Entry>, Error> {
        Ok(self.find(entry)?.filter(|left| left.boot_id == entry.boot_id && left.shares_a_function(entry)))
    }

    /// Finds the current entry for the same subject and kind of change.
    pub(super) fn find(&self, entry: &Entry) -> Result<Option<Entry>, Error> {
        Ok(self.entries()?.into_iter().find(|other| other.is_same_change(entry)))
    }

    /// Records the current state `now` before a change. The entry is on disk when this returns. If a dead process left an entry,
    /// the state in that entry is kept: the current state may be the result of an incomplete change.
    pub(crate) fn begin(&self, host: &HostTree, bdf: Bdf, now: Change, kind: OwnerKind) -> Result<Entry, Error> {
        let mut entry = Entry::new(host, bdf, now, kind)?;
        if let Some(left) = self.left(&entry)? {
            entry.change = entry.change.after(left.change);
        }
        log::info!("record the state of {} in the journal", entry.subject());
        self.put(entry.clone())?;
        Ok(entry)
    }

    /// Makes this process the owner of the entry that a dead process left for the same function and kind of change.
    pub(crate) fn adopt(&self, host: &HostTree, bdf: Bdf, now: Change, kind: OwnerKind) -> Result<(), Error> {
        let entry = Entry::new(host, bdf, now, kind)?;
        match self.left(&entry)? {
            Some(left) => self.put(Entry { owner: entry.owner, ..left }),
            None => Ok(()),
        }
    }

    /// Checks that the subject of a change still has the same functions. Removes the entry if the change no longer exists.
    pub(super) fn require_same(&self, host: &HostTree, entry: &Entry) -> Result<(), Error> {
        let (found, kept) = match entry.compare(host)? {
            Comparison::Same | Comparison::Gone => return Ok(()),
            Comparison::Replaced(found) => (found, false),
            Comparison::Partly(found) => (found, true),
        };
        if !kept {
            self.remove(entry)?;
        }
        Err(Error::Replaced { subject: entry.subject(), found, before: entry.before(), kept })
    }

    /// Reverts a change and removes its entry. On failure the entry stays, and `restore` finds it.
    pub(crate) fn revert(&self, host: &HostTree, entry: &Entry) -> Result<Reverted, Error> {
        self.require_same(host, entry)?;
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
    use super::super::acs::Acs;
    use super::super::entry::Owner;
    use super::super::taken::Taken;
    use super::*;

    fn journal() -> (tempfile::TempDir, Journal) {
        let base = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&base.path().join("state")).unwrap();
        (base, Journal::new(dir))
    }

    fn entry_of(bdf: &str, change: Change) -> Entry {
        let owner = Owner::this_process(&HostTree::live(), OwnerKind::Run);
        Entry { bdf: bdf.parse().unwrap(), change, owner, boot_id: None, functions: Vec::new() }
    }

    fn entry(bdf: &str, driver: Option<&str>) -> Entry {
        entry_of(bdf, Change::Driver(Taken::of_driver(driver)))
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
        let driver = Change::Driver(Taken::of_driver(Some("nvme")));
        begin(driver.clone());
        assert_eq!(begin(Change::Driver(Taken::of_driver(None))), driver);
    }

    #[test]
    fn reads_journals_with_driver_entries_only() {
        let (_base, journal) = journal();
        let text = r#"{"version":1,"entries":[{"bdf":"0000:03:00.0","change":{"kind":"driver","driver":"nvme",
            "driver_override":null},"owner":{"kind":"bind","pid":7,"start_time_ticks":8},"boot_id":"x"}]}"#;
        fs::write(journal.dir.file(FILE), text).unwrap();
        let entries = journal.entries().unwrap();
        assert_eq!(entries[0].change, Change::Driver(Taken::of_driver(Some("nvme"))));
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
}
