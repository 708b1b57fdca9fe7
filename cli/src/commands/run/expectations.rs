//! `run --expect`: reads the expectations, and reports those that the result does not keep.

use std::path::{Path, PathBuf};

use peerpath_bench::failure::Failure;
use peerpath_bench::plan::Mode;
use peerpath_importers::Op;
use peerpath_paths::{PathName, input_file, printable};
use peerpath_report::expect::{self, Expectation};
use peerpath_report::saved::Saved;
use serde::{Deserialize, Deserializer, de};

use super::values::parse_size;

/// Maximum length of the file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

const REMEDY: &str = "write one [[expect]] table per expectation, as `peerpath run --help` shows under Expectations";

/// The expectations of a file.
#[derive(Debug)]
pub(super) struct Expectations {
    file: PathBuf,
    expectations: Vec<Expectation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    expect: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default, deserialize_with = "op")]
    op: Option<Op>,
    mode: Option<Mode>,
    #[serde(default, deserialize_with = "size")]
    size: Option<u64>,
    source: Option<String>,
    target: Option<String>,
    min_bytes_per_s: Option<f64>,
    max_bytes_per_s: Option<f64>,
    max_p50_ns: Option<f64>,
    max_p99_ns: Option<f64>,
    min_percent_of_host_memory: Option<f64>,
    min_percent_of_ceiling: Option<f64>,
    #[serde(default, deserialize_with = "path_names")]
    path: Vec<PathName>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or a number")]
enum Size {
    Bytes(u64),
    Text(String),
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Size::deserialize(deserializer)? {
        Size::Bytes(bytes) => Ok(Some(bytes)),
        Size::Text(text) => parse_size(&text).map(Some).map_err(de::Error::custom),
    }
}

fn op<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Op>, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map(Some).map_err(|_| de::Error::custom(format!("{name} is not an operation")))
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a path, or a list of paths")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn path_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathName>, D::Error> {
    let names = match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(name) => vec![name],
        OneOrMany::Many(names) => names,
    };
    let parse = |name: &String| name.parse().map_err(|_| de::Error::custom(format!("{name} is not a path")));
    names.iter().map(parse).collect()
}

impl Expectations {
    /// Reads the file.
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let what = || format!("cannot read the expectations {}", file.display());
        let bytes = input_file::read(file, MAX_BYTES)
            .map_err(|error| Failure::unreadable(what(), &error, error.remedy(file, REMEDY)))?;
        let text = String::from_utf8(bytes).map_err(|_| Failure::bad_input(what(), "it is not a text file", REMEDY))?;
        let File { expect } = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text.bytes().take(span.start).filter(|b| *b == b'\n').count());
            let why = format!("line {line}: {}", printable(error.message()));
            Failure::bad_input(what(), why, REMEDY)
        })?;
        if expect.is_empty() {
            return Err(Failure::bad_input(what(), "it contains no expectation", REMEDY));
        }
        let expectations = expect.into_iter().map(Expectation::from).collect();
        Ok(Self { file: file.to_owned(), expectations })
    }

    /// The broken expectations as text, one line each; empty if all are kept.
    pub(super) fn broken(&self, saved: &Saved) -> String {
        let broken = expect::broken(saved, &self.expectations);
        if broken.is_empty() {
            return String::new();
        }
        let mut text = format!("\nExpectations of {} that do not hold:\n", self.file.display());
        for expect::Broken { expectation, cell, why } in broken {
            let cell = cell.map_or_else(String::new, |cell| format!("{}: ", printable(&cell)));
            text += &format!("  {}. {cell}{}\n", expectation + 1, printable(&why));
        }
        text
    }
}

impl From<Table> for Expectation {
    fn from(table: Table) -> Self {
        Self {
            op: table.op.map(|op| op.as_str().to_owned()),
            mode: table.mode.map(|mode| mode.as_str().to_owned()),
            size_bytes: table.size,
            source: table.source,
            target: table.target,
            min_bytes_per_s: table.min_bytes_per_s,
            max_bytes_per_s: table.max_bytes_per_s,
            max_p50_ns: table.max_p50_ns,
            max_p99_ns: table.max_p99_ns,
            min_percent_of_host_memory: table.min_percent_of_host_memory,
            min_percent_of_ceiling: table.min_percent_of_ceiling,
            paths: table.path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Expectation>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("expect.toml");
        std::fs::write(&file, text).unwrap();
        let read = Expectations::read(&file);
        read.map(|read| read.expectations).map_err(|failure| failure.explanation.why)
    }

    #[test]
    fn reads_every_key() {
        let text = "[[expect]]\nop = \"write\"\nmode = \"bandwidth\"\nsize = \"64K\"\nsource = \"vfio\"\ntarget = \"mlx5_0\"\n\
                    min_bytes_per_s = 10e9\nmax_bytes_per_s = 12e9\nmax_p50_ns = 2000\nmax_p99_ns = 5000\n\
                    min_percent_of_host_memory = 90\nmin_percent_of_ceiling = 75\n\
                    path = [\"bus-address\", \"bypass\"]\n[[expect]]\nsize = 8\npath = \"staged\"\n";
        let expected = [
            Expectation {
                op: Some("write".to_owned()),
                mode: Some("bandwidth".to_owned()),
                size_bytes: Some(65536),
                source: Some("vfio".to_owned()),
                target: Some("mlx5_0".to_owned()),
                min_bytes_per_s: Some(10e9),
                max_bytes_per_s: Some(12e9),
                max_p50_ns: Some(2000.0),
                max_p99_ns: Some(5000.0),
                min_percent_of_host_memory: Some(90.0),
                min_percent_of_ceiling: Some(75.0),
                paths: vec![PathName::BusAddress, PathName::HostBridgeBypass],
            },
            Expectation { size_bytes: Some(8), paths: vec![PathName::Staged], ..Expectation::default() },
        ];
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn names_the_line_of_a_mistake() {
        for (text, why) in [
            ("[[expect]]\nop = \"writ\"\n", "line 2: writ is not an operation"),
            ("[[expect]]\nsize = \"4Q\"\n", "line 2: "),
            ("[[expect]]\npath = [\"near\"]\n", "line 2: near is not a path"),
            ("[[expect]]\nmin_rate = 5\n", "line 2: unknown field `min_rate`"),
            ("[[expected]]\n", "line 1: unknown field `expected`"),
            ("expect = []\n", "it contains no expectation"),
        ] {
            let found = read(text).unwrap_err();
            assert!(found.starts_with(why), "{text}: {found}");
        }
    }
}
