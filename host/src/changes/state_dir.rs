//! The directory of the journal and the locks.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::Error;

/// A directory that only its owner can write to, because root restores the state that its files describe.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Opens the directory; creates it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |operation| move |source| Error::State { path: path.to_owned(), operation, source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create the state directory"))?;
        let metadata = fs::metadata(path).map_err(failed("read the state directory"))?;
        let (owner, mode, user) = (metadata.uid(), metadata.mode() & 0o7777, nix::unistd::geteuid().as_raw());
        if owner != user || mode & 0o022 != 0 {
            return Err(Error::UntrustedStateDir { path: path.to_owned(), owner, mode, user });
        }
        Ok(Self { path: path.to_owned() })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Syncs the directory, so that renames survive a crash of the host.
    pub(super) fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn rejects_a_directory_that_others_can_write_to() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b");
        StateDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        StateDir::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(StateDir::open(&path), Err(Error::UntrustedStateDir { mode: 0o777, .. })));
    }

    #[test]
    fn rejects_a_directory_of_another_user() {
        // Only root can create such a directory. Without root, use `/`, which root owns.
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("state");
        StateDir::open(&path).unwrap();
        let is_root = nix::unistd::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(&path, Some(1234), None).unwrap();
        }
        let path = if is_root { &path } else { Path::new("/") };
        let owner_now = if is_root { 1234 } else { 0 };
        assert!(matches!(StateDir::open(path), Err(Error::UntrustedStateDir { owner, .. }) if owner == owner_now));
    }
}
