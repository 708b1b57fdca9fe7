//! What was changed on the host and by whom, written down before it is done.

use std::fs::{self, File};
use std::io::{self, Write};

use nix::fcntl::{Flock, FlockArg};
use peerpath_paths::Bdf;
use serde::{Deserialize, Serialize};

use super::state_dir::StateDir;
use crate::Error;
use crate::host_tree::{HostTree, read_trimmed};

const FILE: &str = "journal.json";
const VERSION: u32 = 1;

/// For how long a change was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnerKind {
    /// Until `restore`.
    Bind,
    /// Until the process that made it ends.
    Run,
}

/// Who made a change. Process ids come round again; together with the start they do not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) kind: OwnerKind,
    pub(super) pid: u32,
    pub(super) start_time_ticks: Option<u64>,
}

/// A change, by what was there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Change {
    /// The function was given to vfio-pci.
    Driver { driver: Option<String>, driver_override: Option<String> },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) bdf: Bdf,
    pub(super) change: Change,
    pub(super) owner: Owner,
    /// Changes do not outlast a boot, and a state directory can.
    pub(super) boot_id: Option<String>,
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

    /// Whether the very process still lives.
    pub(super) fn lives(&self, host: &HostTree) -> bool {
        let now = start_time_ticks(host, self.pid);
        now.is_some() && now == self.start_time_ticks
    }
}

/// When a process started; `None` where it is gone.
fn start_time_ticks(host: &HostTree, pid: u32) -> Option<u64> {
    let text = read_trimmed(&host.path(format!("proc/{pid}/stat"))).ok()??;
    // The name in parentheses can hold anything; the 22nd field is the 20th behind it.
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// This boot of the host.
pub(super) fn boot_id(host: &HostTree) -> Option<String> {
    read_trimmed(&host.path("proc/sys/kernel/random/boot_id")).ok()?
}

/// The journal of a state directory.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    dir: StateDir,
}

impl Journal {
    pub(super) fn new(dir: StateDir) -> Self {
        Self { dir }
    }

    /// All entries.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, Error> {
        let _lock = self.lock()?;
        self.read()
    }

    /// The entry of a function.
    pub(super) fn find(&self, bdf: Bdf) -> Result<Option<Entry>, Error> {
        Ok(self.entries()?.into_iter().find(|entry| entry.bdf == bdf))
    }

    /// Writes an entry down in place of an older one of the same function; it is on disk when this returns.
    pub(super) fn put(&self, entry: Entry) -> Result<(), Error> {
        self.update(|entries| {
            entries.retain(|old| old.bdf != entry.bdf);
            entries.push(entry);
        })
    }

    /// Strikes a function's entry out.
    pub(super) fn remove(&self, bdf: Bdf) -> Result<(), Error> {
        self.update(|entries| entries.retain(|entry| entry.bdf != bdf))
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
            Err(source) => return Err(Error::State { path, operation: "reading the journal", source }),
        };
        let contents: Contents =
            serde_json::from_slice(&bytes).map_err(|source| Error::BadJournal { path: path.clone(), source })?;
        if contents.version != VERSION {
            let source = serde::de::Error::custom(format!("it has version {}, not {VERSION}", contents.version));
            return Err(Error::BadJournal { path, source });
        }
        Ok(contents.entries)
    }

    /// Whole or not at all, also when the host loses power: a new file, synced, takes the place of the old one.
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
            Error::State { path, operation: "writing the journal", source }
        })
    }

    fn lock(&self) -> Result<Flock<File>, Error> {
        let path = self.dir.file("journal.lock");
        let failed = |source| Error::State { path: path.clone(), operation: "locking the journal", source };
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

    fn entry(bdf: &str, driver: Option<&str>) -> Entry {
        Entry {
            bdf: bdf.parse().unwrap(),
            change: Change::Driver { driver: driver.map(str::to_owned), driver_override: None },
            owner: Owner::this_process(&HostTree::live(), OwnerKind::Run),
            boot_id: None,
        }
    }

    #[test]
    fn keeps_one_entry_a_function() {
        let (_base, journal) = journal();
        assert_eq!(journal.entries().unwrap(), []);
        journal.put(entry("0000:03:00.0", Some("nvme"))).unwrap();
        journal.put(entry("0000:04:00.0", None)).unwrap();
        journal.put(entry("0000:03:00.0", Some("e1000e"))).unwrap();
        assert_eq!(journal.entries().unwrap(), [entry("0000:04:00.0", None), entry("0000:03:00.0", Some("e1000e"))]);
        journal.remove("0000:03:00.0".parse().unwrap()).unwrap();
        assert_eq!(journal.find("0000:03:00.0".parse().unwrap()).unwrap(), None);
        assert!(journal.find("0000:04:00.0".parse().unwrap()).unwrap().is_some());
    }

    #[test]
    fn many_writers_lose_nothing() {
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
    fn a_foreign_file_is_refused_and_left_alone() {
        let (_base, journal) = journal();
        for text in ["", "{}", "[]", r#"{"version":2,"entries":[]}"#, r#"{"version":1,"entries":[{"bdf":"x"}]}"#] {
            fs::write(journal.dir.file(FILE), text).unwrap();
            assert!(matches!(journal.entries(), Err(Error::BadJournal { .. })), "{text}");
            assert!(journal.put(entry("0000:03:00.0", None)).is_err());
            assert_eq!(fs::read_to_string(journal.dir.file(FILE)).unwrap(), text);
        }
    }

    #[test]
    fn knows_who_lives() {
        let host = HostTree::live();
        let me = Owner::this_process(&host, OwnerKind::Run);
        assert!(me.lives(&host));
        assert!(!Owner { start_time_ticks: me.start_time_ticks.map(|ticks| ticks + 1), ..me.clone() }.lives(&host));
        assert!(!Owner { pid: u32::MAX, ..me }.lives(&host));
        let unknown = Owner { kind: OwnerKind::Run, pid: u32::MAX, start_time_ticks: None };
        assert!(!unknown.lives(&host));
    }
}
