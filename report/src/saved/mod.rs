//! Results as they are found: of any version, cut short, altered by hand, or no results at all.
//!
//! Whoever looks at a result takes nothing in it for granted. What is absent or of the wrong kind is absent; text is
//! shortened and rid of what could steer a reader's screen; a file that cannot be read is named, and keeps no other from
//! being read.

mod cell;
mod find;
mod histogram;
mod object;
mod repair;
mod run;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use cell::{Outcome, SavedCell, SavedDeciding, SavedLatency, SavedPath, SavedSource, SavedTarget};
pub use find::{find, labels};
pub use histogram::{Distribution, quantile_name};
pub use run::{SavedDevice, SavedEnvironment, SavedRun};
pub use text::{name, sentence};

use object::Object;

/// Name of a result file in its folder.
pub const RESULT_FILE: &str = "result.json";
/// Newest version of the format that this reader knows.
pub const SCHEMA_VERSION: u32 = 1;

/// Longer files than this are no results.
const LONGEST_FILE_BYTES: u64 = 2 << 30;

/// One result file.
#[derive(Debug, Clone)]
pub struct Saved {
    /// Where it was read from.
    pub file: PathBuf,
    /// What is wrong with it, as far as it could be read all the same.
    pub remarks: Vec<String>,
    /// Which run it was.
    pub run: SavedRun,
    /// Under which conditions.
    pub environment: SavedEnvironment,
    /// What was measured.
    pub cells: Vec<SavedCell>,
}

/// A file that is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be read as a result: {why}", text::name(&file.to_string_lossy()))]
pub struct Unread {
    /// Which file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: Defect,
}

/// What is wrong with a file that cannot be read as a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// The file system refused, with the message of the system.
    #[error("{0}")]
    Io(String),
    /// Longer than any result.
    #[error("it is {length_bytes} bytes long, and no result is")]
    TooLong {
        /// Its length.
        length_bytes: u64,
    },
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// It cannot be parsed, with the message of the parser.
    #[error("it is no JSON: {0}")]
    NotJson(String),
    /// JSON, but not an object.
    #[error("it is JSON, but no object as results are")]
    NotAnObject,
    /// An object of something else.
    #[error("it is JSON without a list of cells: no result of peerpath")]
    NoCells,
}

/// Reads a result.
///
/// # Errors
/// The file cannot be read, or nothing in it could be a result.
pub fn read(file: &Path) -> Result<Saved, Unread> {
    let unread = |why: Defect| Unread { file: file.to_owned(), why };
    let length_bytes = fs::metadata(file).map_err(|error| unread(Defect::Io(error.to_string())))?.len();
    if length_bytes > LONGEST_FILE_BYTES {
        return Err(unread(Defect::TooLong { length_bytes }));
    }
    let bytes = fs::read(file).map_err(|error| unread(Defect::Io(error.to_string())))?;
    let (value, mut remarks) = parse(&bytes).map_err(unread)?;
    let Value::Object(_) = value else { return Err(unread(Defect::NotAnObject)) };
    let object = Object::of(&value);
    let Some(list) = object.list("cells") else {
        return Err(unread(Defect::NoCells));
    };
    let cells: Vec<SavedCell> =
        list.iter().filter(|cell| cell.is_object()).map(|cell| cell::read(Object::of(cell))).collect();
    if cells.len() < list.len() {
        remarks.push(format!("{} of its {} cells are no objects and left out", list.len() - cells.len(), list.len()));
    }
    remarks.extend(version_remark(&object));
    let run = run::read_run(&object);
    if run.interrupted {
        remarks.push("the run was interrupted: cells may be missing".to_owned());
    }
    remarks.extend(run.warnings.iter().cloned());
    Ok(Saved {
        file: file.to_owned(),
        remarks,
        run,
        environment: run::read_environment(object.object("environment")),
        cells,
    })
}

/// A result of an older version has fewer fields, one of a newer version more: both are read.
fn version_remark(object: &Object<'_>) -> Option<String> {
    match object.count("schema_version") {
        Some(version) if version > u64::from(SCHEMA_VERSION) => Some(format!(
            "it was written in version {version} of the format, and this program knows {SCHEMA_VERSION}: what is new in it is not shown"
        )),
        Some(_) => None,
        None => Some("it does not say in which version of the format it was written".to_owned()),
    }
}

/// Strictly first; where that fails, what can be saved of it.
fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), Defect> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Defect::Empty);
    }
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok((value, Vec::new())),
        Err(error) => error,
    };
    let (repaired, remarks) = repair::repair(bytes);
    match serde_json::from_slice(&repaired) {
        Ok(value) if !remarks.is_empty() => Ok((value, remarks)),
        _ => Err(Defect::NotJson(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Saved, Unread> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("result.json");
        fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn what_is_no_result_is_named_with_what_is_wrong() {
        for (text, why) in [
            ("", "empty"),
            ("  \n", "empty"),
            ("\u{7f}ELF", "no JSON"),
            ("[]", "no object"),
            ("{}", "without a list of cells"),
            (r#"{"cells": 5}"#, "without a list of cells"),
            ("{\"cells\": [", "no JSON"),
        ] {
            let unread = read_text(text).unwrap_err();
            assert!(unread.why.to_string().contains(why), "{text:?}: {unread}");
        }
        assert!(read(Path::new("/nowhere/result.json")).is_err());
    }

    #[test]
    fn nothing_in_a_cell_has_to_be_there() {
        let saved =
            read_text(r#"{"cells": [{}, 7, {"size_bytes": -1, "latency_ns": {"p50": "x"}, "path": []}]}"#).unwrap();
        assert_eq!(saved.cells.len(), 2);
        assert_eq!(saved.cells[1].size_bytes, None);
        assert_eq!(saved.remarks.len(), 2, "{:?}", saved.remarks);
    }

    #[test]
    fn the_finished_cells_of_a_truncated_file_are_read() {
        let text = r#"{"schema_version": 1, "environment": {"hostname": "a"}, "cells": [{"op": "read"}, {"op": "wri"#;
        let saved = read_text(text).unwrap();
        assert_eq!(saved.cells.len(), 1);
        assert_eq!(saved.environment.hostname.as_deref(), Some("a"));
        assert!(saved.remarks[0].contains("ends in the middle"), "{:?}", saved.remarks);
    }

    #[test]
    fn figures_that_are_no_numbers_are_absent() {
        let text = r#"{"schema_version": 1, "cells": [{"op": "NaN, Infinity", "throughput_bytes_per_s": NaN,
            "operations_per_s": -Infinity, "size_bytes": 4096}]}"#;
        let saved = read_text(text).unwrap();
        let cell = &saved.cells[0];
        assert_eq!((cell.throughput, cell.operations_per_s, cell.size_bytes), (None, None, Some(4096)));
        assert_eq!(cell.op, "NaN, Infinity");
        assert!(saved.remarks[0].contains("no number"), "{:?}", saved.remarks);
    }

    #[test]
    fn a_newer_version_is_named_and_read() {
        let saved = read_text(r#"{"schema_version": 99, "cells": [{"op": "teleport"}]}"#).unwrap();
        assert!(saved.remarks[0].contains("version 99"));
        assert_eq!(saved.cells[0].op, "teleport");
    }
}
