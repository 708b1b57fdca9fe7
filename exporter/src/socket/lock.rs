//! Lock of a socket path.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::Error;

/// Exclusive right to create, replace and remove the socket at a path, held until it is dropped or the process ends. Without it,
/// two processes could each find a stale socket, and the second would remove the new socket of the first.
///
/// The lock is on the file `PATH.lock` next to the socket. The holder removes the file.
#[derive(Debug)]
pub(super) struct PathLock {
    // Dropped after the file is removed.
    file: Flock<File>,
    path: PathBuf,
}

impl PathLock {
    /// Acquires the lock. [`Error::SocketTaken`] if another process holds it.
    pub(super) fn acquire(socket: &Path) -> Result<Self, Error> {
        let mut path = OsString::from(socket);
        path.push(".lock");
        let path = PathBuf::from(path);
        let failed = |operation, source| Error::Socket { path: path.clone(), operation, source };
        loop {
            let file = match open(&path) {
                Ok(file) => file,
                // Another process created the file meanwhile.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(source) => return Err(failed("open the lock", source)),
            };
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Err(Error::SocketTaken { path: socket.to_owned() }),
                Err((_, Errno::EINTR)) => continue,
                Err((_, errno)) => return Err(failed("lock", errno.into())),
            };
            let locked = file.metadata().map_err(|source| failed("lock", source))?;
            if !locked.is_file() || locked.len() != 0 {
                let source = io::Error::new(io::ErrorKind::AlreadyExists, "it is not a lock that this program created");
                return Err(failed("use the lock", source));
            }
            // The previous holder may have removed the file between `open` and `lock`. Other processes then lock a new file.
            if is_at(&path, &locked) {
                return Ok(Self { file, path });
            }
        }
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        if self.file.metadata().is_ok_and(|locked| is_at(&self.path, &locked)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the path still names the locked file.
fn is_at(path: &Path, locked: &fs::Metadata) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (locked.dev(), locked.ino()))
}

/// Opens the file, or creates it with mode 0600. Tries without O_CREAT first: in directories such as /tmp, the kernel rejects
/// O_CREAT for an existing file of another user (`fs.protected_regular`).
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => options.create_new(true).open(path),
        opened => opened,
    }
}
