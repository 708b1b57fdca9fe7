//! Saves a result atomically: readers never see a partial file, and a crash does not lose a finished cell.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use peerpath_paths::{Explained, Explanation, Severity};

use crate::result::RunResult;

/// Name of the result file in its folder.
pub const RESULT_FILE: &str = "result.json";

/// Error of saving the result.
#[derive(Debug, thiserror::Error)]
#[error("cannot save the result to {}", path.display())]
pub struct SaveError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Explained for SaveError {
    fn explanation(&self) -> Explanation {
        Explanation::uncaused(
            format!("The file system reports: {}.", self.source),
            "Free disk space, or choose another directory. Cells that were saved earlier are kept.",
        )
    }
    fn severity(&self) -> Severity {
        Severity::Internal
    }
}

/// The folder that contains the result of one run.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Creates the folder, and checks that it is writable.
    ///
    /// # Errors
    /// Creating the folder or writing to it fails.
    pub fn create(folder: &Path) -> Result<Self, SaveError> {
        let attempt = || {
            fs::create_dir_all(folder)?;
            tempfile::NamedTempFile::new_in(folder)?.close()
        };
        attempt().map_err(|source| SaveError { path: folder.to_owned(), source })?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Path of the result file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(RESULT_FILE)
    }

    /// Writes a temporary file, syncs it to disk, and renames it to the result file.
    ///
    /// # Errors
    /// The file system reports an error, e.g. a full disk. In this case the old file is unchanged and no temporary file
    /// remains.
    pub fn save(&self, result: &RunResult) -> Result<(), SaveError> {
        let attempt = || {
            let mut file = tempfile::Builder::new().prefix(".result-").tempfile_in(&self.folder)?;
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
        attempt().map_err(|source| SaveError { path: self.path(), source })
    }
}
