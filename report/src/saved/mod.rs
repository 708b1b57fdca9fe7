//! Reads result files of any version, also truncated and edited ones.
//!
//! The content of a file is not trusted. A field that is missing or of the wrong type is `None`. Text is shortened, and characters
//! that control a terminal are replaced. See [`read`].

mod cell;
mod error;
mod find;
mod histogram;
mod object;
mod repair;
mod run;
mod sanitize;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use cell::{Outcome, SavedCell, SavedDecision, SavedLatency, SavedPath, SavedSource, SavedTarget};
pub use error::{ReadError, ReadErrorReason};
pub use find::{find, labels};
pub use histogram::{Distribution, quantile_name};
pub use run::{SavedDevice, SavedEnvironment, SavedRun};
pub use sanitize::{clean_name, clean_sentence};

use object::Object;

/// File name of a result.
pub const RESULT_FILE: &str = "result.json";
/// Newest version of the file format that this reader knows.
pub const SCHEMA_VERSION: u32 = 1;

/// Maximum length of a result file, in bytes.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// The content of a result file.
#[derive(Debug, Clone)]
pub struct Saved {
    /// The file, as it was named by the caller.
    pub file: PathBuf,
    /// Defects that did not prevent reading, and warnings of the run. Each is a sentence without a full stop.
    pub remarks: Vec<String>,
    /// The run that wrote the result.
    pub run: SavedRun,
    /// The host of the run.
    pub environment: SavedEnvironment,
    /// The cells, in the order in which they ran.
    pub cells: Vec<SavedCell>,
}

/// Reads a result.
///
/// Truncated files and numbers that JSON cannot express (NaN, infinity) are repaired; [`Saved::remarks`] lists the repairs.
///
/// # Errors
/// The file cannot be read, is longer than 2 GiB, or is not a JSON object with a list of cells.
pub fn read(file: &Path) -> Result<Saved, ReadError> {
    read_file(file).map_err(|reason| ReadError { file: file.to_owned(), reason })
}

fn read_file(file: &Path) -> Result<Saved, ReadErrorReason> {
    let length_bytes = fs::metadata(file)?.len();
    if length_bytes > MAX_FILE_BYTES {
        return Err(ReadErrorReason::TooLong { length_bytes, limit_bytes: MAX_FILE_BYTES });
    }
    let (value, mut remarks) = parse(&fs::read(file)?)?;
    let Value::Object(_) = value else { return Err(ReadErrorReason::NotAnObject) };
    let object = Object::of(&value);
    let list = object.list("cells").ok_or(ReadErrorReason::NoCells)?;
    let cells: Vec<SavedCell> =
        list.iter().filter(|cell| cell.is_object()).map(|cell| cell::read(Object::of(cell))).collect();
    if cells.len() < list.len() {
        remarks.push(format!("ignored {} of {} cells: not JSON objects", list.len() - cells.len(), list.len()));
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

/// Remark on the format version. Results of older and newer versions are read, except for the fields added later.
fn version_remark(object: &Object<'_>) -> Option<String> {
    match object.count("schema_version") {
        Some(version) if version > u64::from(SCHEMA_VERSION) => Some(format!(
            "the file has format version {version}, newer than the supported version {SCHEMA_VERSION}: fields added since then are not shown"
        )),
        Some(_) => None,
        None => Some("the file does not record its format version".to_owned()),
    }
}

/// Parses the JSON. If that fails, repairs it and tries again.
fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), ReadErrorReason> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ReadErrorReason::Empty);
    }
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok((value, Vec::new())),
        Err(error) => error,
    };
    let (repaired, remarks) = repair::repair(bytes);
    match serde_json::from_slice(&repaired) {
        Ok(value) if !remarks.is_empty() => Ok((value, remarks)),
        _ => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Saved, ReadError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("result.json");
        fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn reports_why_a_file_is_not_a_result() {
        for (text, reason) in [
            ("", "empty"),
            ("  \n", "empty"),
            ("\u{7f}ELF", "invalid JSON"),
            ("[]", "not an object"),
            ("{}", "no list of cells"),
            (r#"{"cells": 5}"#, "no list of cells"),
            ("{\"cells\": [", "invalid JSON"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.to_string().contains(reason), "{text:?}: {error}");
        }
        assert!(read(Path::new("/nowhere/result.json")).is_err());
    }

    #[test]
    fn reads_cells_with_missing_fields() {
        let saved =
            read_text(r#"{"cells": [{}, 7, {"size_bytes": -1, "latency_ns": {"p50": "x"}, "path": []}]}"#).unwrap();
        assert_eq!(saved.cells.len(), 2);
        assert_eq!(saved.cells[1].size_bytes, None);
        assert_eq!(saved.remarks.len(), 2, "{:?}", saved.remarks);
    }

    #[test]
    fn reads_complete_cells_of_truncated_file() {
        let text = r#"{"schema_version": 1, "environment": {"hostname": "a"}, "cells": [{"op": "read"}, {"op": "wri"#;
        let saved = read_text(text).unwrap();
        assert_eq!(saved.cells.len(), 1);
        assert_eq!(saved.environment.hostname.as_deref(), Some("a"));
        assert!(saved.remarks[0].contains("truncated"), "{:?}", saved.remarks);
    }

    #[test]
    fn ignores_numbers_that_are_not_finite() {
        let text = r#"{"schema_version": 1, "cells": [{"op": "NaN, Infinity", "throughput_bytes_per_s": NaN,
            "operations_per_s": -Infinity, "size_bytes": 4096}]}"#;
        let saved = read_text(text).unwrap();
        let cell = &saved.cells[0];
        assert_eq!((cell.throughput, cell.operations_per_s, cell.size_bytes), (None, None, Some(4096)));
        assert_eq!(cell.op, "NaN, Infinity");
        assert!(saved.remarks[0].contains("NaN or infinite"), "{:?}", saved.remarks);
    }

    #[test]
    fn reads_newer_version_with_a_remark() {
        let saved = read_text(r#"{"schema_version": 99, "cells": [{"op": "teleport"}]}"#).unwrap();
        assert!(saved.remarks[0].contains("version 99"));
        assert_eq!(saved.cells[0].op, "teleport");
    }
}
