//! Errors of reading a tree.

use std::io;
use std::path::{Path, PathBuf};

use crate::input_file::InputError;
use crate::{Bdf, Explained, Explanation, Severity};

/// An error of opening the files of a host.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The path does not exist or is not readable.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Path that the caller asked to open.
        path: PathBuf,
        /// Why it cannot be read.
        source: InputError,
    },
    /// The file is not a tar archive, or its compression is damaged.
    #[error("{} is not a snapshot", name(path))]
    Malformed {
        /// The file; `None` if the archive is a stream.
        path: Option<PathBuf>,
        /// The error of the reader.
        source: io::Error,
    },
    /// The file is of a kind that does not describe a host.
    #[error("cannot use {}: it is {what}, neither a snapshot nor the output of lspci", path.as_ref().map_or("the input".into(), |path| path.to_string_lossy()))]
    OtherKind {
        /// The file; `None` if the input is in memory.
        path: Option<PathBuf>,
        /// The kind of the file, as a noun phrase.
        what: &'static str,
        /// What to give instead, as an imperative sentence.
        instead: &'static str,
    },
    /// Several lspci outputs show two different functions at one address.
    #[error("two functions have the address {bdf}, the later one in {}", path.as_ref().map_or("the lspci output".into(), |path| path.to_string_lossy()))]
    Conflict {
        /// The file with the later function; `None` if the input is in memory.
        path: Option<PathBuf>,
        /// The first address with two functions.
        bdf: Bdf,
    },
    /// The archive or the text exceeds a limit, or the archive contains entries that no snapshot has.
    #[error("{} is not a valid snapshot: {what}", name(path))]
    Rejected {
        /// The file; `None` if the archive is a stream.
        path: Option<PathBuf>,
        /// The reason, as a clause.
        what: String,
    },
}

fn name(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or_else(|| "the archive".to_owned(), |path| path.display().to_string())
}

/// The message of the tar reader. Replaces a message that quotes bytes of a damaged header.
fn reason(source: &io::Error) -> String {
    let text = source.to_string();
    let is_readable = !text.contains(|letter: char| letter.is_control() || letter == char::REPLACEMENT_CHARACTER);
    if is_readable && !text.contains("numeric field") { text } else { "the header of an entry is damaged".to_owned() }
}

impl TreeError {
    pub(super) fn rejected(what: impl Into<String>) -> Self {
        Self::Rejected { path: None, what: what.into() }
    }

    pub(super) fn other_kind(path: Option<&Path>, what: &'static str, instead: &'static str) -> Self {
        Self::OtherKind { path: path.map(Path::to_owned), what, instead }
    }

    pub(super) fn malformed(source: io::Error) -> Self {
        Self::Malformed { path: None, source }
    }

    pub(super) fn in_file(self, file: &Path) -> Self {
        let path = Some(file.to_owned());
        match self {
            Self::Malformed { source, .. } => Self::Malformed { path, source },
            Self::Rejected { what, .. } => Self::Rejected { path, what },
            Self::Conflict { bdf, .. } => Self::Conflict { path, bdf },
            other => other,
        }
    }
}

impl Explained for TreeError {
    fn explanation(&self) -> Explanation {
        match self {
            Self::Unreadable { path, source } => Explanation::uncaused(
                match source {
                    InputError::Io(error) => format!("The operating system reports: {error}."),
                    InputError::Kind(kind) => format!("The file is {kind}."),
                    InputError::TooLong { .. } => format!("The file is too long: {source}."),
                },
                source.remedy(path, "Pass a directory that contains sys and proc, a snapshot, or the output of lspci."),
            ),
            Self::Malformed { source, .. } => Explanation::uncaused(
                format!("The file is not a complete tar archive: {}.", reason(source)),
                "Take the snapshot again, or check that it was transferred completely.",
            ),
            Self::OtherKind { instead, .. } => Explanation::uncaused(
                "The input must be a directory that contains sys and proc, a snapshot, or the output of lspci.",
                (*instead).to_owned(),
            ),
            Self::Conflict { .. } => Explanation::uncaused(
                "The lspci output describes more than one host, or one host before and after its hardware changed.",
                "Give the output of lspci on one host at one time.",
            ),
            Self::Rejected { .. } => Explanation::uncaused(
                "A snapshot contains only small files, directories and links below sys, proc and peerpath.",
                "Take a new snapshot, or unpack a trusted archive and pass the directory.",
            ),
        }
    }

    fn severity(&self) -> Severity {
        Severity::BadInput
    }
}
