//! Locks of functions and IOMMU groups: exclusive for a process that changes one, shared for processes that rely on its state.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Subject;
use super::state_dir::StateDir;
use crate::Error;

/// Timeout for a lock that this process holds: another thread may be about to release it.
const OWN_LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The lock of a function or a group, held until it is dropped or the process exits. The file is never removed: if another
/// process opened it during the removal, two processes could hold the lock.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Acquires the exclusive lock, which permits a change.
    pub(crate) fn acquire(dir: &StateDir, subject: Subject) -> Result<Self, Error> {
        Self::of_kind(dir, subject, FlockArg::LockExclusiveNonblock)
    }

    /// Acquires a shared lock, which prevents changes by others.
    pub(crate) fn acquire_shared(dir: &StateDir, subject: Subject) -> Result<Self, Error> {
        Self::of_kind(dir, subject, FlockArg::LockSharedNonblock)
    }

    fn of_kind(dir: &StateDir, subject: Subject, kind: FlockArg) -> Result<Self, Error> {
        let path = dir.file(&match subject {
            Subject::Function(bdf) => format!("{bdf}.lock"),
            Subject::Group(number) => format!("group-{number}.lock"),
        });
        let deadline = Instant::now() + OWN_LOCK_TIMEOUT;
        loop {
            match Flock::lock(open(&path)?, kind) {
                Ok(mut file) => {
                    write_pid(&mut file);
                    return Ok(Self { _file: file });
                }
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    let pid = read_pid(&mut file);
                    if pid != Some(std::process::id()) || Instant::now() > deadline {
                        return Err(Error::Locked { subject, pid });
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err((_, Errno::EINTR)) => {}
                Err((_, errno)) => {
                    return Err(Error::State { path, operation: "lock", source: errno.into() });
                }
            }
        }
    }
}

fn open(path: &Path) -> Result<File, Error> {
    File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(|source| Error::State {
        path: path.to_owned(),
        operation: "open the lock",
        source,
    })
}

/// Writes the process ID, which other processes only show in messages, so errors are ignored.
fn write_pid(file: &mut File) {
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerpath_paths::IommuGroupId;

    fn function() -> Subject {
        Subject::Function("0000:03:00.0".parse().unwrap())
    }

    #[test]
    fn names_the_process_that_holds_the_lock() {
        let base = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&base.path().join("state")).unwrap();
        let first = Lock::acquire(&dir, function()).unwrap();
        // Simulate the lock of another process: acquiring a lock of this process would wait for the timeout.
        std::fs::write(dir.file("0000:03:00.0.lock"), "4242").unwrap();
        assert!(matches!(Lock::acquire(&dir, function()), Err(Error::Locked { pid: Some(4242), .. })));
        Lock::acquire(&dir, Subject::Group(IommuGroupId(3))).unwrap();
        drop(first);
        Lock::acquire(&dir, function()).unwrap();
    }

    #[test]
    fn shared_locks_exclude_exclusive_ones() {
        let base = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&base.path().join("state")).unwrap();
        let foreign = || std::fs::write(dir.file("0000:03:00.0.lock"), "4242").unwrap();
        let shared = [Lock::acquire_shared(&dir, function()).unwrap(), Lock::acquire_shared(&dir, function()).unwrap()];
        foreign();
        assert!(matches!(Lock::acquire(&dir, function()), Err(Error::Locked { pid: Some(4242), .. })));
        drop(shared);
        let _alone = Lock::acquire(&dir, function()).unwrap();
        foreign();
        assert!(matches!(Lock::acquire_shared(&dir, function()), Err(Error::Locked { pid: Some(4242), .. })));
    }

    #[test]
    fn waits_for_another_thread_to_release_the_lock() {
        let base = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&base.path().join("state")).unwrap();
        let first = Lock::acquire(&dir, function()).unwrap();
        let closing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        Lock::acquire(&dir, function()).unwrap();
        closing.join().unwrap();
    }
}
