//! Listening socket of the sender, and its file.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, fchmod};

use super::lock::PathLock;
use crate::Error;

/// Listening socket with mode 0600. Dropping it removes its file.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: OwnedFd,
    path: PathBuf,
    /// Device and inode number of the file, so that drop does not remove another file at the same path.
    identity: (u64, u64),
    /// Released after the file is removed.
    _lock: PathLock,
}

impl Listener {
    pub(super) fn bind(path: &Path) -> Result<Self, Error> {
        let address = address(path)?;
        let lock = PathLock::acquire(path)?;
        make_room(path, &address)?;
        let failed =
            |operation| move |errno: Errno| Error::Socket { path: path.to_owned(), operation, source: errno.into() };
        let socket = new_socket(path)?;
        // Set the mode before `bind`: the kernel creates the file with the mode of the socket, so other users never have access.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed("set the mode of"))?;
        bind(socket.as_raw_fd(), &address).map_err(|errno| match errno {
            Errno::EADDRINUSE => Error::SocketTaken { path: path.to_owned() },
            errno => failed("create")(errno),
        })?;
        let metadata = fs::symlink_metadata(path);
        let metadata =
            metadata.map_err(|source| Error::Socket { path: path.to_owned(), operation: "create", source })?;
        let identity = (metadata.dev(), metadata.ino());
        let listener = Self { socket, path: path.to_owned(), identity, _lock: lock };
        let backlog = Backlog::new(16).map_err(failed("listen on"))?;
        listen(&listener.socket, backlog).map_err(failed("listen on"))?;
        Ok(listener)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(super) fn new_socket(path: &Path) -> Result<OwnedFd, Error> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).map_err(|errno| Error::Socket {
        path: path.to_owned(),
        operation: "create a socket for",
        source: errno.into(),
    })
}

pub(super) fn address(path: &Path) -> Result<UnixAddr, Error> {
    let bad = |why| Error::BadSocketPath { path: path.to_owned(), why };
    UnixAddr::new(path).map_err(|_| bad("the path exceeds 107 bytes"))
}

/// Removes a stale socket at the path. The caller holds the lock of the path. Fails if the file is not a socket, or if a process
/// serves the socket.
fn make_room(path: &Path, address: &UnixAddr) -> Result<(), Error> {
    let failed = |operation| move |source| Error::Socket { path: path.to_owned(), operation, source };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed("check for a stale socket at")(source)),
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::BadSocketPath { path: path.to_owned(), why: "a file that is not a socket exists" });
    }
    let probe = new_socket(path)?;
    match connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(failed("remove the stale socket")),
        // Another process removed the file after the check above.
        Err(Errno::ENOENT) => Ok(()),
        // A process accepted the connection, listens with another socket type, or denies access.
        _ => Err(Error::SocketTaken { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_mode_0600_and_is_removed_with_the_listener() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("socket");
        let listener = Listener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(Listener::bind(&path), Err(Error::SocketTaken { .. })));
        assert!(path.exists(), "a socket in use was removed");
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn replaces_a_stale_socket() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Listener::bind(&path).unwrap();
    }

    /// Threads replace processes in this test, because a lock belongs to an open file, not to a process.
    #[test]
    fn only_one_of_many_starts_replaces_a_stale_socket() {
        const STARTS: usize = 16;
        for round in 0..50 {
            let base = tempfile::tempdir().unwrap();
            let path = base.path().join("socket");
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let barrier = std::sync::Barrier::new(STARTS);
            let started: Vec<_> = std::thread::scope(|scope| {
                let start = || {
                    barrier.wait();
                    Listener::bind(&path)
                };
                let threads: Vec<_> = (0..STARTS).map(|_| scope.spawn(start)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let serving: Vec<_> = started.iter().filter_map(|started| started.as_ref().ok()).collect();
            assert_eq!(serving.len(), 1, "round {round}: {started:?}");
            let found = fs::symlink_metadata(&path).unwrap();
            assert_eq!(serving[0].identity, (found.dev(), found.ino()), "round {round}");
            assert!(
                started.iter().all(|started| matches!(started, Ok(_) | Err(Error::SocketTaken { .. }))),
                "{started:?}"
            );
        }
    }

    #[test]
    fn leaves_no_file_and_ignores_those_of_a_killed_process() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("socket");
        fs::write(base.path().join("socket.lock"), "").unwrap();
        drop(Listener::bind(&path).unwrap());
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn keeps_a_file_that_has_the_name_of_the_lock() {
        let base = tempfile::tempdir().unwrap();
        let other = base.path().join("Cargo.lock");
        fs::write(&other, "precious").unwrap();
        assert!(matches!(Listener::bind(&base.path().join("Cargo")), Err(Error::Socket { .. })));
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
    }

    #[test]
    fn keeps_a_stream_socket_in_use_and_other_files() {
        let base = tempfile::tempdir().unwrap();
        let stream = base.path().join("stream");
        let _live = std::os::unix::net::UnixListener::bind(&stream).unwrap();
        assert!(matches!(Listener::bind(&stream), Err(Error::SocketTaken { .. })));
        let file = base.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(matches!(Listener::bind(&file), Err(Error::BadSocketPath { .. })));
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }

    #[test]
    fn keeps_another_file_at_the_path() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("socket");
        let listener = Listener::bind(&path).unwrap();
        fs::rename(&path, base.path().join("elsewhere")).unwrap();
        fs::write(&path, "successor").unwrap();
        drop(listener);
        assert!(path.exists());
    }

    #[test]
    fn reports_long_paths_and_missing_directories() {
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
        assert!(matches!(Listener::bind(&long), Err(Error::BadSocketPath { .. })));
        let nowhere = Path::new("/nonexistent-directory/socket");
        assert!(matches!(Listener::bind(nowhere), Err(Error::Socket { .. })));
    }
}
