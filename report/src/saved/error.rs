//! Errors of reading a result file.

use std::io;
use std::path::PathBuf;

use peerpath_paths::input_file::InputError;

use super::sanitize::clean_name;

/// A result file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} as a result: {reason}", clean_name(&file.to_string_lossy()))]
pub struct ReadError {
    /// The file, as it was named by the caller.
    pub file: PathBuf,
    /// Reason why the file cannot be read as a result.
    pub reason: ReadErrorReason,
}

fn quoted(found: &Option<String>) -> String {
    found.as_ref().map_or_else(|| "it".to_owned(), |found| format!("{found:?}"))
}

/// Reason why a file cannot be read as a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadErrorReason {
    /// The file does not exist, or is not a regular file.
    #[error("{0}")]
    Unreadable(#[from] InputError),
    /// Reading the file fails.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is longer than the limit.
    #[error("the file is longer than {} MiB", limit_bytes >> 20)]
    TooLong {
        /// Maximum length of a file in bytes.
        limit_bytes: u64,
    },
    /// A cell, the rest of the result, or the results that are read together take more memory than their limit.
    #[error("the content takes more than {} MiB of memory", limit_bytes >> 20)]
    TooMuchMemory {
        /// Maximum memory in bytes.
        limit_bytes: usize,
    },
    /// The result has more cells than a run writes.
    #[error("the file has more than {limit} cells")]
    TooManyCells {
        /// Maximum number of cells.
        limit: usize,
    },
    /// The file has no bytes, or only white space.
    #[error("the file is empty")]
    Empty,
    /// The file is not JSON, and its end cannot be repaired.
    #[error("{} is not valid JSON at line {line}, column {column}", quoted(.found))]
    Syntax {
        /// Line of the error, from 1.
        line: usize,
        /// Column of the error in bytes, from 1.
        column: usize,
        /// Text around the error. `None` if the file cannot be read again.
        found: Option<String>,
    },
    /// The file ends within the JSON, before its first complete cell.
    #[error("the file is truncated: it ends within the JSON")]
    Truncated,
    /// The file is JSON, but its top level is not an object.
    #[error("the JSON is not an object")]
    NotAnObject,
    /// The file is a JSON object without a list of cells.
    #[error("the JSON object has no list of cells")]
    NoCells,
}
