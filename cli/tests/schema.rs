//! The reference results conform to the JSON Schema.

use std::path::{Path, PathBuf};

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/schema/result.schema.json");

fn read(file: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn schema() -> (Schemas, SchemaIndex) {
    let mut schemas = Schemas::new();
    let mut compiler = Compiler::new();
    let index = compiler.compile(SCHEMA, &mut schemas).unwrap();
    (schemas, index)
}

fn results() -> Vec<PathBuf> {
    let found = peerpath_report::saved::find(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference")]);
    assert!(found.len() >= 30, "{} results", found.len());
    found
}

#[test]
fn reference_results_conform() {
    let (schemas, index) = schema();
    for file in results() {
        if let Err(error) = schemas.validate(&read(&file), index) {
            panic!("{}: {error:#}", file.display());
        }
    }
}

/// An undescribed field would be part of the format without documentation.
#[test]
fn schema_describes_every_field_of_the_reference_results() {
    let schema = read(Path::new(SCHEMA));
    for file in results() {
        undescribed(&schema, &schema, &read(&file), &file.display().to_string());
    }
}

fn undescribed(root: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(name) => &root["$defs"][name.rsplit('/').next().unwrap()],
        None => schema,
    };
    match value {
        Value::Object(fields) if schema.get("properties").is_some() => {
            for (name, value) in fields {
                let described = schema["properties"].get(name);
                let described = described.unwrap_or_else(|| panic!("{place}: {name} is not described"));
                undescribed(root, described, value, &format!("{place}/{name}"));
            }
        }
        Value::Array(list) => list.iter().for_each(|value| undescribed(root, &schema["items"], value, place)),
        _ => {}
    }
}

#[test]
fn schema_rejects_invalid_results() {
    let (schemas, index) = schema();
    let good = read(&results()[0]);
    let mut alterations: Vec<Value> = ["schema_version", "tool", "run", "environment", "cells"]
        .into_iter()
        .map(|field| {
            let mut altered = good.clone();
            altered.as_object_mut().unwrap().remove(field);
            altered
        })
        .collect();
    for (pointer, value) in [
        ("/schema_version", json!(3)),
        ("/environment/emulated", json!("yes")),
        ("/cells/0/outcome", json!("fine")),
        ("/cells/0/path/observed", json!("bypass")),
        ("/cells/0/size_bytes", json!(0)),
        ("/cells/0/source/bdf", json!("03:00.0")),
        ("/cells/0/latency_ns", json!({"p50": 1})),
    ] {
        let mut altered = good.clone();
        *altered.pointer_mut(pointer).unwrap() = value;
        alterations.push(altered);
    }
    for altered in alterations {
        assert!(schemas.validate(&altered, index).is_err(), "{altered}");
    }
    let mut newer = good;
    newer["cells"][0]["added_later"] = json!(1);
    assert!(schemas.validate(&newer, index).is_ok(), "the schema rejects an added field");
}

#[test]
fn reader_knows_the_version_and_the_file_name_of_the_writer() {
    assert_eq!(peerpath_report::saved::SCHEMA_VERSION, peerpath_bench::result::SCHEMA_VERSION);
    assert_eq!(peerpath_report::saved::RESULT_FILE, peerpath_bench::store::RESULT_FILE);
}
