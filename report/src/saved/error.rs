//! Why a file could not be read as a result.

use std::io;
use std::path::PathBuf;

use super::sanitize::clean_name;

/// A file that could not be read as a result.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} as a result: {reason}", clean_name(&file.to_string_lossy()))]
pub struct ReadError {
    /// The file, as it was named by the caller.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: ReadErrorReason,
}

/// What is wrong with a file that is not a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadErrorReason {
    /// The file does not exist or cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is longer than the limit.
    #[error("the file has {length_bytes} bytes; the limit for a result is {limit_bytes}")]
    TooLong {
        /// Length of the file.
        length_bytes: u64,
        /// Longest file that is read.
        limit_bytes: u64,
    },
    /// The file has no bytes, or only white space.
    #[error("the file is empty")]
    Empty,
    /// The file is not JSON, and its end cannot be repaired.
    #[error("invalid JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// The file is JSON, but its top level is not an object.
    #[error("the JSON is not an object")]
    NotAnObject,
    /// The file is a JSON object without a list of cells.
    #[error("the JSON object has no list of cells")]
    NoCells,
}
