//! Saves a result so that no reader ever sees half of one and no crash loses a finished cell.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use peerpath_paths::{Explained, Explanation, Severity};

use crate::result::RunResult;

/// The name of a result inside its folder.
pub const RESULT_FILE: &str = "result.json";

/// The result could not be saved.
#[derive(Debug, thiserror::Error)]
#[error("the result could not be saved to {}", path.display())]
pub struct SaveError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Explained for SaveError {
    fn explanation(&self) -> Explanation {
        Explanation::uncaused(
            format!("the file system answered: {}", self.source),
            "free space there, or choose another folder with --out; cells saved before are kept",
        )
    }
    fn severity(&self) -> Severity {
        Severity::Internal
    }
}

/// A folder that one result is saved into.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Makes the folder, and finds out now rather than after the first cell whether it can be written.
    ///
    /// # Errors
    /// It cannot.
    pub fn create(folder: &Path) -> Result<Self, SaveError> {
        let attempt = || {
            fs::create_dir_all(folder)?;
            tempfile::NamedTempFile::new_in(folder)?.close()
        };
        attempt().map_err(|source| SaveError { path: folder.to_owned(), source })?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where the result stands.
    pub fn path(&self) -> PathBuf {
        self.folder.join(RESULT_FILE)
    }

    /// Writes beside the old file, makes it durable, and puts it in the old one's place in one step.
    ///
    /// # Errors
    /// The file system refused (a full disk, say); the old file is as it was and nothing half-written is left.
    pub fn save(&self, result: &RunResult) -> Result<(), SaveError> {
        let attempt = || {
            let mut file = tempfile::Builder::new().prefix(".result-").tempfile_in(&self.folder)?;
            let mut writer = io::BufWriter::new(&mut file);
            serde_json::to_writer_pretty(&mut writer, result)?;
            writer.write_all(b"\n")?;
            writer.flush()?;
            drop(writer);
            // A temporary file is private to its owner; a result is for sharing.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            file.as_file().set_permissions(mode)?;
            file.as_file().sync_all()?;
            file.persist(self.path()).map_err(|error| error.error)?;
            File::open(&self.folder)?.sync_all()
        };
        attempt().map_err(|source| SaveError { path: self.path(), source })
    }
}
