//! Reads result files of any version, also truncated and edited ones.
//!
//! The content of a file is not trusted. A field that is missing or of the wrong type is `None`. Text is shortened, and control
//! characters are replaced. See [`read`].

mod bounded;
mod cell;
mod error;
mod find;
mod histogram;
mod memory;
mod object;
mod repair;
mod run;
mod sanitize;
mod stream;

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use peerpath_paths::input_file;

pub use cell::{
    Outcome, SavedCeiling, SavedCell, SavedDecision, SavedLatency, SavedPath, SavedRepeat, SavedSource, SavedTarget,
};
pub use error::{ReadError, ReadErrorReason};
pub use find::{find, labels};
pub use histogram::{Distribution, quantile_name};
pub(crate) use memory::MemoryLimit;
pub use run::{AppendedRun, SavedDevice, SavedEnvironment, SavedRun};
pub use sanitize::{clean_name, clean_sentence};

use object::Object;
use stream::Content;

/// File name of a result.
pub const RESULT_FILE: &str = "result.json";
/// Newest version of the file format that this reader knows.
pub const SCHEMA_VERSION: u32 = 2;

/// Maximum number of cells of a result.
pub const MAX_CELLS: usize = stream::MAX_CELLS;

/// Maximum length of a result file, in bytes. A cell has about 4 KiB.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// The content of a result file.
#[derive(Debug, Clone)]
pub struct Saved {
    /// The file, as it was named by the caller.
    pub file: PathBuf,
    /// Defects that did not prevent reading, and warnings of the run. Each is a sentence without a full stop.
    pub remarks: Vec<String>,
    /// The run that wrote the result.
    pub run: SavedRun,
    /// Later runs that added their cells, in their order.
    pub appended: Vec<AppendedRun>,
    /// The host of the run.
    pub environment: SavedEnvironment,
    /// The cells, in the order in which they ran.
    pub cells: Vec<SavedCell>,
}

impl Saved {
    /// The run that measured a cell, by its index in `cells`.
    pub fn run_of(&self, cell: usize) -> &SavedRun {
        let added = self.appended.iter().rev().find(|appended| appended.first_cell <= cell as u64);
        added.map_or(&self.run, |appended| &appended.run)
    }
}

/// Reads a result.
///
/// Truncated files and numbers that JSON cannot express (NaN, infinity) are repaired; [`Saved::remarks`] lists the repairs.
///
/// # Errors
/// The file is not a regular file or cannot be read, is longer than 512 MiB, has more than 100,000 cells, takes more than 512 MiB
/// of memory, or is not a JSON object with a list of cells.
pub fn read(file: &Path) -> Result<Saved, ReadError> {
    read_within(file, &mut MemoryLimit::for_results())
}

/// Reads results, which together take at most the memory of one.
///
/// # Errors
/// Those of [`read`] for the first file that cannot be read.
pub fn read_all<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<Vec<Saved>, ReadError> {
    let mut limit = MemoryLimit::for_results();
    files.into_iter().map(|file| read_within(file, &mut limit)).collect()
}

/// Reads a result as [`read`] does. Its content counts towards `limit`.
pub(crate) fn read_within(file: &Path, limit: &mut MemoryLimit) -> Result<Saved, ReadError> {
    read_file(file, limit).map_err(|reason| ReadError { file: file.to_owned(), reason })
}

fn read_file(file: &Path, limit: &mut MemoryLimit) -> Result<Saved, ReadErrorReason> {
    let mut input = input_file::open(file)?.take(MAX_FILE_BYTES + 1);
    let read = stream::read(&mut input, limit);
    if input.limit() == 0 {
        return Err(ReadErrorReason::TooLong { limit_bytes: MAX_FILE_BYTES });
    }
    let Content { header, cells, mut remarks } = read.map_err(|reason| quoting(file, reason))?;
    let object = Object::with(&header);
    remarks.extend(version_remark(&object));
    let run = run::read_run(&object);
    if run.interrupted {
        remarks.push("the run was interrupted: cells may be missing".to_owned());
    }
    remarks.extend(run.warnings.iter().cloned());
    if cells.is_empty() {
        remarks.push("the result has no cells: the run ended before its first cell did".to_owned());
    }
    let appended = run::read_appended(&object);
    for AppendedRun { run, .. } in &appended {
        let name = run.id.as_deref().unwrap_or("without an identifier");
        remarks.extend(run.interrupted.then(|| format!("run {name} was interrupted: cells may be missing")));
        remarks.extend(run.warnings.iter().map(|warning| format!("run {name}: {warning}")));
    }
    Ok(Saved {
        file: file.to_owned(),
        remarks,
        run,
        appended,
        environment: run::read_environment(object.object("environment")),
        cells,
    })
}

/// Adds the text around an error to it.
fn quoting(file: &Path, reason: ReadErrorReason) -> ReadErrorReason {
    match reason {
        ReadErrorReason::Syntax { line, column, .. } => {
            ReadErrorReason::Syntax { line, column, found: text_at(file, line, column).ok().flatten() }
        }
        reason => reason,
    }
}

/// The text around a byte of a file, within its line. `None` for a pipe, which cannot be read twice.
fn text_at(file: &Path, line: usize, column: usize) -> io::Result<Option<String>> {
    const BYTES_BEFORE: usize = 20;
    if !file.is_file() {
        return Ok(None);
    }
    let mut input = BufReader::new(input_file::open(file).map_err(io::Error::other)?.take(MAX_FILE_BYTES));
    for _ in 1..line {
        input.skip_until(b'\n')?;
    }
    io::copy(&mut (&mut input).take(column.saturating_sub(BYTES_BEFORE) as u64), &mut io::sink())?;
    let mut text = Vec::new();
    input.take(2 * BYTES_BEFORE as u64).read_until(b'\n', &mut text)?;
    Ok(Some(clean_name(String::from_utf8_lossy(&text).trim_end())))
}

/// Remark on the format version. Results of older and newer versions are read, except for fields that this reader does not
/// know.
fn version_remark(object: &Object<'_>) -> Option<String> {
    match object.count("schema_version") {
        Some(version) if version > u64::from(SCHEMA_VERSION) => Some(format!(
            "the file has format version {version}, newer than the supported version {SCHEMA_VERSION}: fields added since then are not shown"
        )),
        Some(_) => None,
        None => Some("the file does not record its format version".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Saved, ReadError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("result.json");
        std::fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn reports_why_a_file_is_not_a_result() {
        for (text, reason) in [
            ("", "empty"),
            ("  \n", "empty"),
            ("\u{7f}ELF", "not valid JSON at line 1, column 1"),
            ("[]", "not an object"),
            ("{}", "no list of cells"),
            (r#"{"cells": 5}"#, "no list of cells"),
            ("{\"cells\": [", "truncated"),
            ("{\"cells\": []} {}", "not valid JSON at line 1"),
            ("\"cells\"", "not an object"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.to_string().contains(reason), "{text:?}: {error}");
        }
        for (file, reason) in
            [("/nowhere/result.json", "No such file"), ("/dev/zero", "a device"), ("/", "a directory")]
        {
            let error = read(Path::new(file)).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
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
    fn reads_repeats_of_version_2() {
        let saved = read_text(
            r#"{"schema_version": 2, "cells": [{"throughput_bytes_per_s": 2e9, "repeats": [
                {"iterations": 200, "warmup": 20, "verified_bytes": 4096, "steady": false, "throughput_bytes_per_s": 2e9,
                    "throughput_each_way_bytes_per_s": [1e9, 1e9], "throughput_min_window_bytes_per_s": 1.9e9,
                    "operations_per_s": 3e5, "latency_ns": {"p50": 5.0, "p99": 9, "histogram": "x"}},
                {"iterations": 99, "steady": "yes", "throughput_bytes_per_s": -1, "latency_ns": {"p50": 0, "p99": 9}},
                7, {}]}, {"repeats": {}}]}"#,
        )
        .unwrap();
        assert!(saved.remarks.is_empty(), "{:?}", saved.remarks);
        let [first, second, third, fourth] = saved.cells[0].repeats.as_slice() else {
            panic!("{:?}", saved.cells[0].repeats)
        };
        assert_eq!((first.iterations, first.warmup, first.verified_bytes), (Some(200), Some(20), Some(4096)));
        assert_eq!(
            (first.steady, first.throughput, first.throughput_min_window),
            (Some(false), Some(2e9), Some(1.9e9))
        );
        assert_eq!((first.p50(), first.p99(), first.operations_per_s), (Some(5.0), Some(9.0), Some(3e5)));
        assert_eq!((second.steady, second.throughput, second.p50(), second.p99()), (None, None, None, None));
        assert_eq!((third, fourth), (&SavedRepeat::default(), &SavedRepeat::default()));
        assert!(saved.cells[1].repeats.is_empty());
    }

    #[test]
    fn reads_ceilings_and_disturbances() {
        let saved = read_text(
            r#"{"schema_version": 2, "cells": [
                {"throughput_bytes_per_s": 6e9, "ceiling": {"bytes_per_s": 8e9, "limited_by": "link a - b"},
                    "repeats": [{}, {"disturbed": ["the hypervisor took 12 % of the CPU time", 7, "\u001b[31m"]}]},
                {"throughput_bytes_per_s": 6e9, "ceiling": {"bytes_per_s": 0}, "repeats": [{"disturbed": "x"}]},
                {"throughput_bytes_per_s": 6e9, "ceiling": {"bytes_per_s": null, "limited_by": "x"}},
                {"ceiling": {"bytes_per_s": 8e9}}, {"ceiling": 8e9}, {}]}"#,
        )
        .unwrap();
        let limited_by = Some("link a - b".to_owned());
        assert_eq!(saved.cells[0].ceiling, Some(SavedCeiling { bytes_per_s: 8e9, limited_by }));
        let percents: Vec<_> = saved.cells.iter().map(SavedCell::percent_of_ceiling).collect();
        assert_eq!(percents, [Some(75.0), None, None, None, None, None]);
        let disturbances: Vec<_> = saved.cells[0].disturbances().collect();
        assert_eq!(disturbances[0], (2, "the hypervisor took 12 % of the CPU time"));
        assert!(disturbances.len() == 2 && !disturbances[1].1.contains('\u{1b}'), "{disturbances:?}");
        assert_eq!(saved.cells[1].disturbances().count(), 0);
    }

    #[test]
    fn repeats_are_limited_in_number_and_memory() {
        let many = |cells: usize, repeats: usize| {
            let cell = format!(r#"{{"repeats": [{}0]}},"#, "0,".repeat(repeats));
            read_text(&format!(r#"{{"cells": [{}{{}}]}}"#, cell.repeat(cells)))
        };
        assert_eq!(many(1, 5000).unwrap().cells[0].repeats.len(), cell::MAX_REPEATS);
        // Two bytes in the file, hundreds in memory.
        let error = many(3000, 999).err().unwrap();
        assert!(matches!(error.reason, ReadErrorReason::TooMuchMemory { .. }), "{error}");
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

    #[test]
    fn the_last_of_several_lists_of_cells_counts() {
        let saved =
            read_text(r#"{"cells": [{}, {}], "other": [1, {"cells": []}], "cells": [{"op": "read"}]}"#).unwrap();
        assert_eq!(saved.cells.len(), 1);
    }

    #[test]
    fn stops_at_the_limits_of_cells_and_memory() {
        let many = format!(r#"{{"cells": [{}{{}}]}}"#, "{},".repeat(MAX_CELLS));
        assert!(matches!(read_text(&many).err().unwrap().reason, ReadErrorReason::TooManyCells { .. }));
        let deep = r#"[{"":0},[],0,"#.repeat(20_000) + &"]".repeat(20_000);
        for text in [
            format!(r#"{{"cells": [{{"path": [{}0]}}]}}"#, r#"{"":0},"#.repeat(300_000)),
            format!(r#"{{"cells": [], "run": {{"plan": [{}0]}}}}"#, r#"{"":0},"#.repeat(300_000)),
        ] {
            assert!(
                matches!(read_text(&text).err().unwrap().reason, ReadErrorReason::TooMuchMemory { .. }),
                "{}",
                &text[..30]
            );
        }
        // Unknown fields take no memory.
        let unknown = format!(r#"{{"x": [{}0], "cells": [{{}}]}}"#, r#"{"":0},"#.repeat(300_000));
        assert_eq!(read_text(&unknown).unwrap().cells.len(), 1);
        assert!(matches!(read_text(&deep).err().unwrap().reason, ReadErrorReason::Syntax { .. }));
    }

    #[test]
    fn files_share_a_limit_of_memory() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("result.json");
        std::fs::write(&file, format!(r#"{{"cells": [{}{{}}]}}"#, "{},".repeat(99))).unwrap();
        let mut limit = MemoryLimit::new(150 * size_of::<SavedCell>());
        assert!(read_within(&file, &mut limit).is_ok());
        let error = read_within(&file, &mut limit).err().unwrap();
        assert!(matches!(error.reason, ReadErrorReason::TooMuchMemory { .. }), "{error}");
    }

    #[test]
    fn lists_the_runs_that_added_cells() {
        let saved = read_text(
            r#"{"schema_version": 1, "run": {"id": "a", "started_at": "1"}, "cells": [{}, {}, {}],
                "appended": [{"first_cell": 1, "id": "b", "interrupted": true, "warnings": ["slow"]}, {"first_cell": 2, "id": "c"}]}"#,
        )
        .unwrap();
        let ids: Vec<_> = (0..3).map(|at| saved.run_of(at).id.as_deref().unwrap()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        assert_eq!(saved.remarks, ["run b was interrupted: cells may be missing", "run b: slow"]);
    }
}
