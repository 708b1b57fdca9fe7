//! Saves a result atomically: readers never see a partial file, a crash does not lose a finished cell, and a run does not replace
//! the result of another one by accident.

mod error;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tempfile::NamedTempFile;

pub use error::{SaveError, remedy};

use crate::result::RunResult;

/// Name of the result file in its folder.
pub const RESULT_FILE: &str = "result.json";

/// Number of names that are tried for a new folder.
const MOST_NAMES: u32 = 10_000;

/// Where a run saves its result.
#[derive(Debug, Clone, Copy)]
pub enum Destination<'a> {
    /// A new folder with this path. If the path exists, its name gets the suffix `-2`, `-3` and so on.
    New(&'a Path),
    /// This folder, which is created if it does not exist.
    Folder(&'a Path, Existing),
}

/// What happens to a result that the folder contains already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// The run is refused.
    Refuse,
    /// The result is replaced.
    Replace,
    /// The cells of the run are added to the result.
    Append,
}

/// The folder that contains the result of one run.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Prevents another run from saving to this folder. `None` on a file system without such locks.
    _lock: Option<Flock<File>>,
}

impl Store {
    /// Creates or opens the folder, locks it, and checks that it is writable.
    ///
    /// # Errors
    /// The folder contains a result and the destination does not permit that, another run saves to it, the path is not a
    /// folder, or creating it or writing to it fails.
    pub fn create(destination: Destination<'_>) -> Result<Self, SaveError> {
        let (folder, existing) = match destination {
            Destination::New(path) => (create_new(path)?, Existing::Refuse),
            Destination::Folder(path, existing) => {
                create_all(path).map_err(|source| of_folder(path, source))?;
                (path.to_owned(), existing)
            }
        };
        let failed = |source| of_folder(&folder, source);
        let lock = match Flock::lock(File::open(&folder).map_err(failed)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Some(lock),
            Err((_, Errno::EWOULDBLOCK)) => return Err(SaveError::Taken { folder }),
            // Some network file systems cannot lock a folder. Saving to them works.
            Err(_) => None,
        };
        let store = Self { folder, _lock: lock };
        if existing == Existing::Refuse && store.has_result() {
            return Err(SaveError::Exists { file: store.path() });
        }
        let probe = temporary_file(&store.folder, ".result-").and_then(NamedTempFile::close);
        probe.map_err(|source| of_folder(&store.folder, source))?;
        Ok(store)
    }

    /// Path of the result file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(RESULT_FILE)
    }

    /// Whether the folder contains a result, or anything else of that name.
    pub fn has_result(&self) -> bool {
        fs::symlink_metadata(self.path()).is_ok()
    }

    /// Writes a temporary file, syncs it to disk, and renames it to the result file.
    ///
    /// # Errors
    /// The file system reports an error, e.g. a full disk. In this case the old file is unchanged and no temporary file
    /// remains.
    pub fn save(&self, result: &RunResult) -> Result<(), SaveError> {
        let attempt = || {
            let mut file = temporary_file(&self.folder, ".result-")?;
            let mut writer = io::BufWriter::new(&mut file);
            serde_json::to_writer_pretty(&mut writer, result)?;
            writer.write_all(b"\n")?;
            writer.flush()?;
            drop(writer);
            // A temporary file is readable only by its owner, but everyone may read a result.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            file.as_file().set_permissions(mode)?;
            file.as_file().sync_all()?;
            file.persist(self.path()).map_err(|error| error.error)?;
            File::open(&self.folder)?.sync_all()
        };
        attempt().map_err(|source| SaveError::Io { path: self.path(), source })
    }
}

/// Creates a temporary file with mode 0600, to be renamed to a file in the same folder.
///
/// # Errors
/// Returns the error of the system call, with its errno. The functions of `tempfile` that open the file themselves hide the
/// errno.
pub fn temporary_file(folder: &Path, prefix: &str) -> io::Result<NamedTempFile> {
    let create = |path: &Path| File::options().read(true).write(true).create_new(true).mode(0o600).open(path);
    tempfile::Builder::new().prefix(prefix).make_in(folder, create)
}

/// Creates a folder that did not exist, so that no other run uses it.
fn create_new(path: &Path) -> Result<PathBuf, SaveError> {
    if let Some(above) = path.parent() {
        create_all(above).map_err(|source| of_folder(above, source))?;
    }
    let mut folder = path.to_owned();
    for number in 2..=MOST_NAMES {
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mut name = OsString::from(path);
                name.push(format!("-{number}"));
                folder = name.into();
            }
            created => {
                created.map_err(|source| of_folder(&folder, source))?;
                sync(folder.parent());
                return Ok(folder);
            }
        }
    }
    Err(SaveError::Io { path: folder, source: io::ErrorKind::AlreadyExists.into() })
}

/// Creates a folder and the folders above it, and syncs them to disk.
fn create_all(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(folder)?;
    missing.iter().for_each(|path| sync(path.parent()));
    Ok(())
}

/// Syncs a folder to disk, if its file system supports that.
fn sync(folder: Option<&Path>) {
    let folder = folder.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let _ = folder.map(|folder| File::open(folder)?.sync_all());
}

/// The error of creating or opening a folder.
fn of_folder(folder: &Path, source: io::Error) -> SaveError {
    let is_other = |path: &&Path| fs::metadata(path).is_ok_and(|found| !found.is_dir());
    match folder.ancestors().find(is_other) {
        Some(path) => SaveError::NotADirectory { path: path.to_owned() },
        None => SaveError::Io { path: folder.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use peerpath_paths::{Explained as _, Severity};

    use super::*;

    #[test]
    fn a_new_folder_is_used_by_one_run() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("results/run");
        let create = || Store::create(Destination::New(&path)).unwrap().folder;
        let folders: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut names: Vec<_> = folders.iter().map(|folder| folder.file_name().unwrap().to_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["run", "run-2", "run-3", "run-4"]);
    }

    #[test]
    fn refuses_a_folder_with_a_result() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(RESULT_FILE);
        for create in [
            (|file: &Path| fs::write(file, "{}").unwrap()) as fn(&Path),
            // A dangling link: saving would replace it.
            |file| std::os::unix::fs::symlink("nowhere", file).unwrap(),
        ] {
            create(&file);
            let error = Store::create(Destination::Folder(folder.path(), Existing::Refuse)).unwrap_err();
            assert!(matches!(error, SaveError::Exists { .. }) && error.severity() == Severity::BadInput, "{error}");
            for existing in [Existing::Replace, Existing::Append] {
                Store::create(Destination::Folder(folder.path(), existing)).unwrap();
            }
            fs::remove_file(&file).unwrap();
        }
    }

    #[test]
    fn a_folder_belongs_to_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let create = || Store::create(Destination::Folder(folder.path(), Existing::Replace));
        let first = create().unwrap();
        assert!(matches!(create().unwrap_err(), SaveError::Taken { .. }));
        drop(first);
        create().unwrap();
    }

    #[test]
    fn names_the_file_that_is_not_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "precious").unwrap();
        for path in [file.clone(), file.join("below/it")] {
            for destination in [Destination::Folder(&path, Existing::Replace), Destination::New(&file.join("below"))] {
                let error = Store::create(destination).unwrap_err();
                assert!(matches!(&error, SaveError::NotADirectory { path } if *path == file), "{error:?}");
                assert_eq!(error.severity(), Severity::BadInput);
            }
        }
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }
}
