//! `--json` output: keys, types, and the words of enumerated fields.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::golden;
use crate::program::{code, each, json, run};
use crate::result_file::read;
use crate::shape::Shape;

/// Every snapshot in the repository.
fn snapshots() -> Vec<PathBuf> {
    let matrix = golden::workspace().join("results/reference/matrix");
    let scenarios = std::fs::read_dir(matrix).unwrap().map(|entry| entry.unwrap().path().join("snapshot.tar.gz"));
    let truth = std::fs::read_dir(golden::workspace().join("paths/tests/fixtures/truth")).unwrap();
    let truth = truth.map(|entry| entry.unwrap().path()).filter(|path| path.to_str().unwrap().ends_with(".tar.gz"));
    let mut found: Vec<_> = scenarios.filter(|path| path.is_file()).chain(truth).collect();
    found.sort();
    assert!(found.len() >= 20, "{} snapshots", found.len());
    found
}

fn shape(values: &[Value], enumerated: &[&str]) -> Shape {
    let mut shape = Shape::default();
    values.iter().for_each(|value| shape.add(value, enumerated));
    shape
}

fn predictions(snapshot: &Path) -> Value {
    let output = run(&["paths", "--root", snapshot.to_str().unwrap(), "--json"]);
    assert_eq!(code(&output), 0);
    json(&output)
}

#[test]
fn paths_prints_the_golden_fields() {
    // Also run the command for one pair of each snapshot, which adds the ceiling. The devices of the snapshots are emulated,
    // those of the other hosts are hardware.
    let hosts = golden::workspace().join("paths/tests/fixtures/hosts");
    let hardware = [("07-turin-mi325x-bnxt/host", "0000:05:00.0", "0000:06:00.0")];
    let of_pair = |root: &Path, from: &str, to: &str| {
        let output = run(&["paths", "--root", root.to_str().unwrap(), "--json", "--from", from, "--to", to]);
        assert_eq!(code(&output), 0);
        json(&output)
    };
    let mut printed = each(&snapshots(), |snapshot| {
        let pairs = predictions(snapshot);
        let pair = pairs.as_array().unwrap().iter().find(|pair| pair["from"] != pair["to"]);
        let pair = pair.map(|pair| of_pair(snapshot, pair["from"].as_str().unwrap(), pair["to"].as_str().unwrap()));
        [Some(pairs), pair]
    })
    .into_iter()
    .flatten()
    .flatten()
    .collect::<Vec<_>>();
    printed.extend(hardware.map(|(host, from, to)| of_pair(&hosts.join(format!("{host}.tar.gz")), from, to)));
    let enumerated =
        ["[].predicted", "[].cause", "[].blockers[]", "[].ceiling.write.no_ceiling", "[].ceiling.hops[].kind"];
    let shape = shape(&printed, &enumerated);
    golden::check("paths.json.txt", &shape.text());
}

#[test]
fn doctor_prints_the_golden_fields() {
    let printed = each(&snapshots(), |snapshot| {
        let root = snapshot.to_str().unwrap();
        let examined = |more: &[&str]| {
            let output = run(&[&["doctor", "--root", root, "--json"], more].concat());
            let findings = json(&output);
            let any_failed = findings.as_array().unwrap().iter().any(|finding| finding["status"] == "fail");
            assert_eq!(code(&output), i32::from(any_failed), "{root} {more:?}");
            findings
        };
        // Also run the command for one pair of the snapshot, which adds the checks of a pair.
        let pairs = predictions(snapshot);
        let pair = pairs.as_array().unwrap().iter().find(|pair| pair["from"] != pair["to"]);
        let pair = pair.map(|pair| [pair["from"].as_str().unwrap(), pair["to"].as_str().unwrap()]);
        pair.map(|[from, to]| examined(&["--from", from, "--to", to]))
            .into_iter()
            .chain([examined(&[])])
            .collect::<Vec<_>>()
    });
    let shape = shape(&printed.concat(), &["[].status", "[].check", "[].cause"]);
    golden::check("doctor.json.txt", &shape.text());
}

#[test]
fn explain_prints_the_golden_fields() {
    let errnos =
        [&["EINVAL"][..], &["EPERM"], &["EOPNOTSUPP"], &["524", "--source", "gpu"], &["EXDEV", "--step", "export"]];
    let printed = each(&errnos, |arguments| {
        let output = run(&[&["explain", "--json"], *arguments].concat());
        assert_eq!(code(&output), 0);
        json(&output)
    });
    let shape = shape(&printed, &["[].step", "[].severity"]);
    golden::check("explain.json.txt", &shape.text());
}

#[test]
fn explain_prints_the_golden_fields_for_each_line_of_a_log() {
    let log = golden::workspace().join("paths/tests/fixtures/kernel-log/lab.txt");
    let root = golden::workspace().join("results/reference/matrix/default/snapshot.tar.gz");
    let arguments = ["explain", log.to_str().unwrap(), "--root", root.to_str().unwrap(), "--json", "--all"];
    let output = run(&arguments);
    assert_eq!(code(&output), 0);
    let lines = String::from_utf8(output.stdout).unwrap();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shape = shape(&records, &["severity"]);
    golden::check("explain.log.json.txt", &shape.text());
}

/// `list` reads the host that runs the test, so the golden file may list more than this host has.
#[test]
fn list_prints_no_other_fields_than_the_golden_ones() {
    let output = run(&["list", "--json"]);
    assert_eq!(code(&output), 0);
    let printed = json(&output);
    if printed.as_array().is_some_and(Vec::is_empty) {
        eprintln!("waived: this host shows no PCI functions, so `list --json` prints an empty array");
        return;
    }
    let mut seen = Shape::default();
    seen.add(&printed, &["[].bars[].kind", "[].domain_type"]);
    let golden = golden::read("list.json.txt");
    let allowed = Shape::parse(&golden);
    let beyond = seen.beyond(&allowed);
    if golden::blesses() && !beyond.is_empty() {
        golden::check("list.json.txt", &allowed.joined(Shape::parse(&seen.text())).text());
        return;
    }
    assert!(
        beyond.is_empty(),
        "list --json differs from list.json.txt:\n{}\n{}",
        beyond.join("\n"),
        golden::INSTRUCTION
    );
}

/// Adds three repeats to every cell that passed, with throughputs that differ by 1 %.
pub(crate) fn repeat(result: &mut Value) {
    for cell in result["cells"].as_array_mut().unwrap().iter_mut().filter(|cell| cell["outcome"] == "passed") {
        let figures = |factor: f64| {
            let mut repeat = json!({"iterations": cell["iterations"], "latency_ns": cell["latency_ns"]});
            if let Some(figure) = cell["throughput_bytes_per_s"].as_f64() {
                repeat["throughput_bytes_per_s"] = json!(figure * factor);
            }
            repeat
        };
        cell["repeats"] = [0.99, 1.0, 1.01].map(figures).into_iter().collect();
    }
}

/// Multiplies the throughput of every cell and repeat.
pub(crate) fn scale_throughput(result: &mut Value, factor: f64) {
    for cell in result["cells"].as_array_mut().unwrap() {
        for field in ["throughput_bytes_per_s", "throughput_min_window_bytes_per_s", "operations_per_s"] {
            let repeats = cell["repeats"].as_array_mut().into_iter().flatten();
            let scaled: Vec<Value> = repeats
                .map(|repeat| {
                    let mut repeat = repeat.clone();
                    if let Some(figure) = repeat[field].as_f64() {
                        repeat[field] = json!(figure * factor);
                    }
                    repeat
                })
                .collect();
            if !scaled.is_empty() {
                cell["repeats"] = json!(scaled);
            }
            if let Some(figure) = cell[field].as_f64() {
                cell[field] = json!(figure * factor);
            }
        }
    }
}

#[test]
fn compare_prints_the_golden_fields() {
    let folder = tempfile::tempdir().unwrap();
    let mut base = read(&golden::workspace().join("results/reference/nvme/result.json"));
    let old = base.clone();
    repeat(&mut base);
    let altered = |name: &str, alter: &dyn Fn(&mut Value)| {
        let mut result = base.clone();
        alter(&mut result);
        let file = folder.path().join(name);
        std::fs::write(&file, result.to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let same = altered("same.json", &|_| {});
    let cases = [
        (same.clone(), 0),
        (altered("old.json", &|result| *result = old.clone()), 0),
        (altered("slower.json", &|result| scale_throughput(result, 0.5)), 1),
        (altered("faster.json", &|result| scale_throughput(result, 2.0)), 0),
        (
            altered("elsewhere.json", &|result| {
                for cell in result["cells"].as_array_mut().unwrap() {
                    cell["mechanism"] = json!("another");
                }
            }),
            2,
        ),
        (
            altered("failed.json", &|result| {
                for cell in result["cells"].as_array_mut().unwrap() {
                    cell["outcome"] = json!("failed");
                    cell["reason"] = json!("it failed");
                }
            }),
            1,
        ),
    ];
    let printed = each(&cases, |(new, expected)| {
        let output = run(&["compare", &same, new, "--json"]);
        assert_eq!(code(&output), *expected, "{new}");
        json(&output)
    });
    let shape = shape(&printed, &["verdict", "cells[].verdict", "cells[].metric"]);
    golden::check("compare.json.txt", &shape.text());
}
