//! One peerpath at a time changes a function or a group; while any relies on how it is, none does.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Subject;
use super::state_dir::StateDir;
use crate::Error;

/// How long this very process gets to let go of the function: another thread may just be closing it.
const OWN_PATIENCE: Duration = Duration::from_secs(2);

/// The lock of a function or a group, held until dropped or until the process ends in whatever way. The file stays:
/// removing it while another process opens it would let two hold "the" lock.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// For who changes it.
    pub(crate) fn take(dir: &StateDir, subject: Subject) -> Result<Self, Error> {
        Self::of_kind(dir, subject, FlockArg::LockExclusiveNonblock)
    }

    /// For who relies on it as it is; several may.
    pub(crate) fn share(dir: &StateDir, subject: Subject) -> Result<Self, Error> {
        Self::of_kind(dir, subject, FlockArg::LockSharedNonblock)
    }

    fn of_kind(dir: &StateDir, subject: Subject, kind: FlockArg) -> Result<Self, Error> {
        let path = dir.file(&match subject {
            Subject::Function(bdf) => format!("{bdf}.lock"),
            Subject::Group(number) => format!("group-{number}.lock"),
        });
        let deadline = Instant::now() + OWN_PATIENCE;
        loop {
            match Flock::lock(open(&path)?, kind) {
                Ok(mut file) => {
                    write_pid(&mut file);
                    return Ok(Self { _file: file });
                }
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    let pid = read_pid(&mut file);
                    if pid != Some(std::process::id()) || Instant::now() > deadline {
                        return Err(Error::Taken { subject, pid });
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err((_, Errno::EINTR)) => {}
                Err((_, errno)) => {
                    return Err(Error::State { path, operation: "taking a lock", source: errno.into() });
                }
            }
        }
    }
}

fn open(path: &Path) -> Result<File, Error> {
    File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(|source| Error::State {
        path: path.to_owned(),
        operation: "opening a lock",
        source,
    })
}

/// Only for messages: the lock itself is what counts, so a failure here is none.
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

    fn function() -> Subject {
        Subject::Function("0000:03:00.0".parse().unwrap())
    }

    #[test]
    fn a_second_one_learns_who_holds_it() {
        let base = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&base.path().join("state")).unwrap();
        let first = Lock::take(&dir, function()).unwrap();
        // As if another process had written it: our own would be waited for.
        std::fs::write(dir.file("0000:03:00.0.lock"), "4242").unwrap();
        assert!(matches!(Lock::take(&dir, function()), Err(Error::Taken { pid: Some(4242), .. })));
        Lock::take(&dir, Subject::Group(3)).unwrap();
        drop(first);
        Lock::take(&dir, function()).unwrap();
    }

    #[test]
    fn several_rely_on_what_nobody_changes() {
        let base = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&base.path().join("state")).unwrap();
        let foreign = || std::fs::write(dir.file("0000:03:00.0.lock"), "4242").unwrap();
        let shared = [Lock::share(&dir, function()).unwrap(), Lock::share(&dir, function()).unwrap()];
        foreign();
        assert!(matches!(Lock::take(&dir, function()), Err(Error::Taken { pid: Some(4242), .. })));
        drop(shared);
        let _alone = Lock::take(&dir, function()).unwrap();
        foreign();
        assert!(matches!(Lock::share(&dir, function()), Err(Error::Taken { pid: Some(4242), .. })));
    }

    #[test]
    fn another_thread_that_is_letting_go_is_waited_for() {
        let base = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&base.path().join("state")).unwrap();
        let first = Lock::take(&dir, function()).unwrap();
        let closing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        Lock::take(&dir, function()).unwrap();
        closing.join().unwrap();
    }
}
