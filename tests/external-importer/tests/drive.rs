//! Measures through this importer with peerpath-bench as a library, which does not contain the importer.

use std::fs::{self, File};
use std::path::Path;

use boon::{Compiler, Schemas};
use external_importer::CopyImporter;
use peerpath_bench::environment::Host;
use peerpath_bench::failure::Failure;
use peerpath_bench::interrupt::Interrupt;
use peerpath_bench::plan::{Mode, Plan, Target};
use peerpath_bench::result::{Cell, Outcome, RunResult, Tool};
use peerpath_bench::route::Routes;
use peerpath_bench::run::{Progress, Runner};
use peerpath_bench::store::{Destination, Existing, RESULT_FILE};
use peerpath_exporter::OpenOptions;
use peerpath_importers::Op;
use peerpath_paths::Tree;

fn plan(to: &str) -> Plan {
    Plan {
        ops: vec![Op::Write, Op::Read],
        modes: vec![Mode::Completion, Mode::Bandwidth],
        depths: vec![16],
        warmup: 10,
        iterations: Some(100),
        ..Plan::new(vec!["host:1M".parse().unwrap()], vec![Target::among(&[&CopyImporter], to).unwrap()])
    }
}

struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _what: &str, _repeat: u32) {}
    fn end(&mut self, _cell: &Cell, _left: u32) {}
    fn failed(&mut self, failure: &Failure) {
        panic!("{failure:?}");
    }
}

fn run(plan: &Plan, folder: &Path) -> Result<RunResult, Failure> {
    let mut runner = Runner {
        plan,
        tool: Tool { name: "drive".to_owned(), version: "0.1.0".to_owned(), git_revision: None },
        arguments: Vec::new(),
        open: &OpenOptions::default(),
        changes: &peerpath_host::Options { state_dir: folder.join("state"), ..peerpath_host::Options::default() },
        destination: Destination::Folder(folder, Existing::Refuse),
        interrupt: &Interrupt::default(),
        host: Host::new(Tree::live()),
        routes: Routes::live(),
        peer: None,
    };
    runner.run(&mut Silent)
}

#[test]
fn measures_and_verifies_through_an_external_importer() {
    let folder = tempfile::tempdir().unwrap();
    let result = run(&plan("copy:cpu"), folder.path()).unwrap();

    let cells: Vec<_> = result.cells.iter().map(|cell| (cell.op.as_str(), cell.mode.as_str())).collect();
    let expected = [("write", "completion"), ("write", "bandwidth"), ("read", "completion"), ("read", "bandwidth")];
    assert_eq!(cells, expected);
    for cell in &result.cells {
        assert_eq!(cell.outcome, Outcome::Passed, "{cell:?}");
        assert!(cell.measured.verified_bytes.is_some_and(|bytes| bytes >= 4096), "{cell:?}");
        assert_eq!((cell.target.kind.as_str(), cell.target.device.as_str()), ("copy", "cpu"));
        assert_eq!((cell.mechanism.as_deref(), cell.engine.as_deref()), (Some("address"), Some("cpu")));
        assert_eq!(cell.measured.latency_ns.is_some(), cell.mode == "completion", "{cell:?}");
        assert_eq!(cell.measured.throughput_bytes_per_s.is_some(), cell.mode == "bandwidth", "{cell:?}");
    }

    let saved = folder.path().join(RESULT_FILE);
    let read: RunResult = serde_json::from_slice(&fs::read(&saved).unwrap()).unwrap();
    assert_eq!(read.cells.len(), result.cells.len());
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench/schema/result.schema.json");
    let schema = compiler.compile(schema, &mut schemas).unwrap();
    let saved: serde_json::Value = serde_json::from_reader(File::open(saved).unwrap()).unwrap();
    schemas.validate(&saved, schema).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn reports_the_importers_own_error() {
    let folder = tempfile::tempdir().unwrap();
    let failure = run(&plan("copy:gpu"), folder.path()).unwrap_err();
    assert_eq!(
        (failure.what.as_str(), failure.explanation.remedy.as_str()),
        ("cannot open the device \"gpu\"", "Use copy:cpu.")
    );
}
