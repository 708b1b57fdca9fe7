//! Saves a result atomically: readers never see a partial file, and a crash does not lose a finished cell.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use peerpath_paths::{Explained, Explanation, Severity};

use crate::result::RunResult;

/// Name of the result file in its folder.
pub const RESULT_FILE: &str = "result.json";

/// Why the result could not be saved.
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
            "Free space there, or choose another folder. Cells that were saved before are kept.",
        )
    }
    fn severity(&self) -> Severity {
        Severity::Internal
    }
}

/// The folder of one result.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Creates the folder, and checks that files can be written to it.
    ///
    /// # Errors
    /// The folder cannot be created or written.
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

    /// Writes a temporary file, syncs it to disk and renames it to the result file.
    ///
    /// # Errors
    /// An error of the file system, such as a full disk. The old file is unchanged, and no temporary file is left.
    pub fn save(&self, result: &RunResult) -> Result<(), SaveError> {
        let attempt = || {
            let mut file = tempfile::Builder::new().prefix(".result-").tempfile_in(&self.folder)?;
            let mut writer = io::BufWriter::new(&mut file);
            serde_json::to_writer_pretty(&mut writer, result)?;
            writer.write_all(b"\n")?;
            writer.flush()?;
            drop(writer);
            // Temporary files are readable by their owner only; a result is readable by everyone.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            file.as_file().set_permissions(mode)?;
            file.as_file().sync_all()?;
            file.persist(self.path()).map_err(|error| error.error)?;
            File::open(&self.folder)?.sync_all()
        };
        attempt().map_err(|source| SaveError { path: self.path(), source })
    }
}
