//! The listening socket and its place in the file system.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, fchmod};

use crate::Error;

/// A listening socket that only its user can reach; its file goes when this is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: OwnedFd,
    path: PathBuf,
    /// Device and inode, so that a file that took our place is not removed.
    identity: (u64, u64),
}

impl Listener {
    pub(super) fn bind(path: &Path) -> Result<Self, Error> {
        let address = address(path)?;
        make_room(path, &address)?;
        let failed =
            |operation| move |errno: Errno| Error::Socket { path: path.to_owned(), operation, source: errno.into() };
        let socket = new_socket(path)?;
        // Before the file exists: the kernel makes it with the socket's own mode, so it is never open to others.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed("set the mode of"))?;
        bind(socket.as_raw_fd(), &address).map_err(|errno| match errno {
            Errno::EADDRINUSE => Error::SocketTaken { path: path.to_owned() },
            errno => failed("create")(errno),
        })?;
        let looked = fs::symlink_metadata(path);
        let metadata = looked.map_err(|source| Error::Socket { path: path.to_owned(), operation: "create", source })?;
        let identity = (metadata.dev(), metadata.ino());
        let listener = Self { socket, path: path.to_owned(), identity };
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
    UnixAddr::new(path).map_err(|_| bad("it is longer than the 107 bytes that a socket's path can have"))
}

/// Removes a socket that nobody serves any more; refuses where anything else stands at the path.
fn make_room(path: &Path, address: &UnixAddr) -> Result<(), Error> {
    let failed = |operation| move |source| Error::Socket { path: path.to_owned(), operation, source };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed("look for an older socket at")(source)),
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::BadSocketPath { path: path.to_owned(), why: "something that is no socket stands there" });
    }
    let probe = new_socket(path)?;
    match connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(failed("remove the older socket")),
        // Gone between our two looks.
        Err(Errno::ENOENT) => Ok(()),
        // Somebody accepted, or listens with another type of socket, or we may not even ask.
        _ => Err(Error::SocketTaken { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_user_reaches_it_and_it_goes_with_the_listener() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("socket");
        let listener = Listener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(Listener::bind(&path), Err(Error::SocketTaken { .. })));
        assert!(path.exists(), "a live socket stays");
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Listener::bind(&path).unwrap();
    }

    #[test]
    fn a_live_socket_of_another_type_and_other_files_are_left_alone() {
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
    fn a_successor_at_the_path_is_not_removed() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("socket");
        let listener = Listener::bind(&path).unwrap();
        fs::rename(&path, base.path().join("elsewhere")).unwrap();
        fs::write(&path, "successor").unwrap();
        drop(listener);
        assert!(path.exists());
    }

    #[test]
    fn long_paths_and_missing_directories_are_said_so() {
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
        assert!(matches!(Listener::bind(&long), Err(Error::BadSocketPath { .. })));
        let nowhere = Path::new("/nonexistent-directory/socket");
        assert!(matches!(Listener::bind(nowhere), Err(Error::Socket { .. })));
    }
}
