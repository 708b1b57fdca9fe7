//! `result.json`: its schema, the fields that a run writes, and reports of every reference result.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use boon::{Compiler, Schemas};
use serde_json::Value;

use crate::golden;
use crate::program::{Gpu, code, each, run, text};
use crate::shape::Shape;

pub(crate) fn read(file: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// The cells of a result.
pub(crate) fn cells(file: &Path) -> Vec<Value> {
    read(file)["cells"].as_array().unwrap().clone()
}

/// Every reference result.
pub(crate) fn references() -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path.file_name().is_some_and(|name| name == "result.json") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    below(&golden::workspace().join("results/reference"), &mut found);
    found.sort();
    assert!(found.len() >= 30, "{} results", found.len());
    found
}

/// Path of the schema, in the first crate that has one.
fn schema() -> PathBuf {
    let crates = std::fs::read_dir(golden::workspace()).unwrap().map(|entry| entry.unwrap().path());
    let mut schemas = crates.map(|folder| folder.join("schema/result.schema.json")).filter(|file| file.is_file());
    schemas.next().expect("a crate has schema/result.schema.json")
}

fn validate<'a>(results: impl Iterator<Item = (&'a str, &'a Value)>) {
    let mut schemas = Schemas::new();
    let index = Compiler::new().compile(schema().to_str().unwrap(), &mut schemas).unwrap();
    for (name, result) in results {
        if let Err(error) = schemas.validate(result, index) {
            panic!("{name}: {error:#}");
        }
    }
}

/// `PATH  TYPE [optional] [= WORD...]` for each field that the schema describes.
fn describe(root: &Value, schema: &Value, path: &str, optional: bool, within: &[&str], text: &mut String) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        if within.contains(&name) {
            let _ = writeln!(text, "{path}  {name}{}", if optional { " optional" } else { "" });
            return;
        }
        return describe(root, &root["$defs"][name], path, optional, &[within, &[name]].concat(), text);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let is_null = |choice: &&Value| choice["type"] == "null";
        assert!(choices.len() == 2 && choices.iter().any(|choice| is_null(&choice)), "{path}: {schema}");
        let mut of_other = String::new();
        let other = choices.iter().find(|choice| !is_null(choice)).unwrap();
        describe(root, other, path, optional, within, &mut of_other);
        let (name, rest) = of_other.split_once("  ").unwrap();
        let _ = write!(text, "{name}  null|{rest}");
        return;
    }
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let words: Vec<_> = match (&schema["enum"], &schema["const"]) {
        (Value::Array(words), _) => words.iter().map(word).collect(),
        (_, Value::Null) => Vec::new(),
        (_, only) => vec![word(only)],
    };
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().map(word).collect::<Vec<_>>().join("|"),
        Value::Null => "word".to_owned(),
        only => word(only),
    };
    let optional = if optional { " optional" } else { "" };
    let words = if words.is_empty() { String::new() } else { format!(" = {}", words.join(" ")) };
    let pattern = schema["pattern"].as_str().map_or(String::new(), |pattern| format!(" ~ {pattern}"));
    let _ = writeln!(text, "{}  {types}{optional}{words}{pattern}", if path.is_empty() { "." } else { path });
    if schema["items"].is_object() {
        describe(root, &schema["items"], &format!("{path}[]"), false, within, text);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let required = schema["required"].as_array().is_some_and(|required| required.iter().any(|field| field == name));
        let dot = if path.is_empty() { "" } else { "." };
        describe(root, field, &format!("{path}{dot}{name}"), !required, within, text);
    }
}

#[test]
fn the_schema_describes_the_golden_fields() {
    let schema = read(&schema());
    let mut text = String::new();
    describe(&schema, &schema, "", false, &[], &mut text);
    golden::check("result.schema.txt", &text);
}

/// With the fake CUDA driver, cells pass, fail and are waived on every machine.
#[test]
fn a_run_writes_the_golden_fields() {
    let gpu = Gpu::new();
    let result = |settings: &str, name: &str, more: &[&str]| {
        let out = gpu.place(name);
        let common = ["run", "--to", "cuda:0", "--size", "4K", "--iterations", "5", "--warmup", "1", "--out"];
        let output = gpu.peerpath(settings).args(common).arg(&out).args(more).output().unwrap();
        assert!(code(&output) != 2, "{}", text(&output));
        read(&out.join("result.json"))
    };
    let ops = ["export", "register", "unregister", "copy_in", "copy_out", "kernel_store", "kernel_load"];
    let ops: Vec<_> = ops.iter().flat_map(|op| ["--op", op]).collect();
    let results = [
        result("", "passed", &[&["--from", "host:64K", "--from", "cuda:0:64K"], &ops[..]].concat()),
        result("spoil", "failed", &["--from", "host:64K", "--op", "copy_in"]),
        result("refuse=cuMemHostRegister_v2:800", "waived", &["--from", "host:64K", "--op", "copy_in"]),
    ];
    validate(results.iter().map(|result| ("the new result", result)));
    let mut shape = Shape::default();
    for mut result in results {
        // These fields depend on the machine; the plan is not part of the contract.
        result["environment"] = Value::Null;
        let run = result["run"].as_object_mut().unwrap();
        run.remove("warnings");
        run.insert("plan".to_owned(), Value::Null);
        result["tool"].as_object_mut().unwrap().remove("git_revision");
        remove_conditions(&mut result["cells"]);
        let cell = |name: &str| format!("cells[].{name}");
        let words = ["op", "mode", "direction", "engine", "mechanism", "timed_by", "outcome", "cause", "source.kind"];
        let paths = ["target.kind", "path.asked", "path.predicted", "path.observed"];
        let enumerated: Vec<_> = words.iter().chain(&paths).map(|name| cell(name)).collect();
        shape.add(&result, &enumerated.iter().map(String::as_str).collect::<Vec<_>>());
    }
    golden::check("result.written.txt", &shape.text());
}

/// Removes what depends on the machine and on the other programs that run on it.
fn remove_conditions(cells: &mut Value) {
    for cell in cells.as_array_mut().into_iter().flatten() {
        remove_conditions(&mut cell["repeats"]);
        for name in ["cpus", "steal_percent", "involuntary_context_switches", "device_counters", "disturbed", "repeats"]
        {
            let object = cell.as_object_mut().unwrap();
            if name != "repeats" || object[name].is_null() {
                object.remove(name);
            }
        }
    }
}

#[test]
fn every_reference_result_can_be_reported_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = references().into_iter().enumerate().collect();
    each(&files, |(number, file)| {
        let out = folder.path().join(number.to_string());
        let arguments =
            ["report", file.to_str().unwrap(), "--format", "html,md,csv", "--out-dir", out.to_str().unwrap()];
        let output = run(&arguments);
        assert_eq!(code(&output), 0, "{}: {}", file.display(), text(&output));
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 3, "{}", file.display());
    });
}

/// The schema does not enumerate the values of these fields.
#[test]
fn words_of_reference_results_are_those_of_the_golden_list() {
    let mut seen = std::collections::BTreeSet::new();
    for file in references() {
        for cell in cells(&file) {
            for field in ["op", "mode", "engine", "mechanism", "cause"] {
                seen.extend(cell[field].as_str().map(|word| format!("{field} {word}\n")));
            }
        }
    }
    golden::check("result.words.txt", &seen.into_iter().collect::<String>());
}
