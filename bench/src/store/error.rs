//! Errors of saving a result.

use std::io;
use std::path::PathBuf;

use peerpath_paths::{Cause, Explained, Explanation, Severity};

/// Reason why saving a result failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The folder contains a result, and replacing it was not requested.
    #[error("cannot save the result to {}: the file exists", file.display())]
    Exists {
        /// The earlier result.
        file: PathBuf,
    },
    /// The path of the folder, or of a folder above it, exists and is not a directory.
    #[error("cannot save the result to {}: it is not a directory", path.display())]
    NotADirectory {
        /// The path that is not a folder.
        path: PathBuf,
    },
    /// Another run saves its result to this folder.
    #[error("cannot save the result to {}: another run saves its result there", folder.display())]
    Taken {
        /// The folder to which the other run saves.
        folder: PathBuf,
    },
    /// The file system reports an error.
    #[error("cannot save the result to {}", path.display())]
    Io {
        /// The file or folder on which the system call failed.
        path: PathBuf,
        /// Error of the system call.
        #[source]
        source: io::Error,
    },
}

/// Remedy for an error of the file system while a file is written, as an imperative sentence.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "Free disk space, or choose another directory.",
        io::ErrorKind::PermissionDenied => "Choose a directory that this user may write to.",
        io::ErrorKind::ReadOnlyFilesystem => "Choose a directory on a file system that is writable.",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "Choose a path below a directory: a part of this one is a file."
        }
        _ => "Choose another directory.",
    }
}

impl Explained for SaveError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Exists { .. } => Explanation::uncaused(
                "A run does not replace an earlier result unless that is requested.",
                "Choose another directory, or request to replace or extend the earlier result.",
            ),
            Self::NotADirectory { path } => Explanation::uncaused(
                format!("A result is a file in a directory, and {} is not a directory.", path.display()),
                "Choose a directory, or a path that does not exist.",
            ),
            Self::Taken { .. } => Explanation::new(
                Cause::InUse,
                "Two runs would replace each other's result.",
                "Choose another directory, or wait until the other run ends.",
            ),
            Self::Io { source, .. } => Explanation::uncaused(
                format!("The file system reports: {source}."),
                format!("{} Cells that were saved earlier are kept.", remedy(source)),
            ),
        }
    }

    fn severity(&self) -> Severity {
        match self {
            Self::Exists { .. } | Self::NotADirectory { .. } => Severity::BadInput,
            Self::Taken { .. } => Severity::Unavailable,
            Self::Io { .. } => Severity::Internal,
        }
    }
}
