//! Why a tree cannot be read.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Explained, Explanation, Severity};

/// What `--root` names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Not there, or no permission.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// What was named.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Neither an archive nor the compression that it claims.
    #[error("{} is no snapshot", place(path))]
    Malformed {
        /// The file, where it has a name.
        path: Option<PathBuf>,
        /// What the reader choked on.
        source: io::Error,
    },
    /// An archive that no honest snapshot looks like.
    #[error("{} is refused: {what}", place(path))]
    Hostile {
        /// The file, where it has a name.
        path: Option<PathBuf>,
        /// What is wrong with it.
        what: String,
    },
}

fn place(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or_else(|| "the archive".to_owned(), |path| path.display().to_string())
}

impl TreeError {
    pub(super) fn hostile(what: impl Into<String>) -> Self {
        Self::Hostile { path: None, what: what.into() }
    }

    pub(super) fn malformed(source: io::Error) -> Self {
        Self::Malformed { path: None, source }
    }

    pub(super) fn in_file(self, file: &Path) -> Self {
        let path = Some(file.to_owned());
        match self {
            Self::Malformed { source, .. } => Self::Malformed { path, source },
            Self::Hostile { what, .. } => Self::Hostile { path, what },
            other => other,
        }
    }
}

impl Explained for TreeError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Unreadable { source, .. } => Explanation::uncaused(
                format!("The system answered: {source}."),
                "Name a directory that holds sys and proc, or a file that `peerpath snapshot` wrote.",
            ),
            Self::Malformed { source, .. } => Explanation::uncaused(
                format!("It cannot be read as a tar archive: {source}."),
                "Take the snapshot again, or check that it was transferred whole.",
            ),
            Self::Hostile { .. } => Explanation::uncaused(
                "A snapshot holds small files, directories and links below sys, proc and peerpath, and nothing else.",
                "Take a snapshot with `peerpath snapshot`, or unpack what you trust and name the directory.",
            ),
        }
    }

    fn severity(&self) -> Severity {
        Severity::BadInput
    }
}
