//! No run loses a result: neither its own nor an earlier one.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::program::{Gpu, code, text};

const CELL: [&str; 10] =
    ["run", "--from", "host:64K", "--to", "cuda:0", "--op", "copy_in", "--iterations", "5", "--mode=completion"];

fn run(gpu: &Gpu, more: &[&str]) -> Output {
    gpu.peerpath("").args(CELL).args(more).output().unwrap()
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn validate(result: &Value) {
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/schema/result.schema.json");
    let index = compiler.compile(schema, &mut schemas).unwrap();
    schemas.validate(result, index).unwrap_or_else(|error| panic!("{error:#}"));
}

fn ids(file: &Path) -> Vec<String> {
    read(file)["cells"].as_array().unwrap().iter().map(|cell| cell["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn runs_that_start_together_save_to_folders_of_their_own() {
    let gpu = Gpu::new();
    let start = |_| {
        let mut command = gpu.peerpath("");
        command.args(CELL).args(["--size", "4K"]).current_dir(gpu.place(""));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = (0..4).map(start).collect();
    let mut files: Vec<String> = running
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert_eq!(code(&output), 0, "{}", text(&output));
            text(&output).split("saved to ").nth(1).unwrap().lines().next().unwrap().to_owned()
        })
        .collect();
    files.sort();
    files.dedup();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        assert_eq!(ids(&gpu.place(&file)).len(), 1, "{file}");
    }
}

#[test]
fn an_earlier_result_is_replaced_only_on_request() {
    let gpu = Gpu::new();
    let (out, file) = (gpu.place("out"), gpu.place("out/result.json"));
    let out = out.to_str().unwrap();
    assert_eq!(code(&run(&gpu, &["--size", "4K", "--out", out])), 0);
    let first = std::fs::read(&file).unwrap();
    let refused = run(&gpu, &["--size", "8K", "--out", out]);
    assert_eq!(code(&refused), 2, "{}", text(&refused));
    assert!(text(&refused).contains("--force") && text(&refused).contains("--append"), "{}", text(&refused));
    assert_eq!(std::fs::read(&file).unwrap(), first);
    // A run that is refused for another reason does not replace the result either.
    let wrong =
        gpu.peerpath("").args(["run", "--from", "host:64K", "--to", "cuda:7", "--force", "--out", out]).output();
    assert_eq!(code(&wrong.unwrap()), 2);
    assert_eq!(std::fs::read(&file).unwrap(), first);
    assert_eq!(code(&run(&gpu, &["--size", "8K", "--out", out, "--force"])), 0);
    assert_eq!(ids(&file).len(), 1);
    assert!(ids(&file)[0].contains("/8192/"), "{:?}", ids(&file));
}

#[test]
fn a_run_adds_its_cells_to_a_result() {
    let gpu = Gpu::new();
    let (out, file) = (gpu.place("out"), gpu.place("out/result.json"));
    let out = out.to_str().unwrap();
    for (size, earlier) in [("4K", 0), ("8K", 1), ("16K", 2)] {
        let output = run(&gpu, &["--size", size, "--out", out, "--append"]);
        assert_eq!(code(&output), 0, "{}", text(&output));
        assert!(text(&output).contains("1 passed, 0 waived, 0 failed"), "{}", text(&output));
        assert_eq!(
            text(&output).contains(&format!("added to {earlier} earlier cells")),
            earlier > 0,
            "{}",
            text(&output)
        );
    }
    assert_eq!(ids(&file).len(), 3);
    let result: Value = read(&file);
    validate(&result);
    let appended = result["appended"].as_array().unwrap();
    let first_cells: Vec<_> = appended.iter().map(|run| run["first_cell"].as_u64().unwrap()).collect();
    assert_eq!(first_cells, [1, 2]);
    assert!(appended[1]["arguments"].to_string().contains("16K"));

    let before = std::fs::read(&file).unwrap();
    let other = String::from_utf8(before.clone()).unwrap();
    let kernel = result["environment"]["kernel"].as_str().unwrap();
    std::fs::write(&file, other.replace(&format!("{kernel:?}"), "\"2.4.37\"")).unwrap();
    let elsewhere = run(&gpu, &["--size", "32K", "--out", out, "--append"]);
    assert_eq!(code(&elsewhere), 2, "{}", text(&elsewhere));
    assert!(text(&elsewhere).contains("kernel was \"2.4.37\", and is"), "{}", text(&elsewhere));

    std::fs::write(&file, before).unwrap();
    let report = |format: &str| {
        let output = gpu.peerpath("").args(["report", out, "--format", format, "--out", "-"]).output().unwrap();
        assert_eq!(code(&output), 0, "{}", text(&output));
        text(&output)
    };
    let id = |run: &Value| run["id"].as_str().unwrap().to_owned();
    let table = report("csv");
    let runs: Vec<_> = table.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().to_owned()).collect();
    assert_eq!(runs, [id(&result["run"]), id(&appended[0]), id(&appended[1])]);
    assert!(report("html").contains("added the cells from number 2"));
}

#[test]
fn states_what_is_wrong_with_the_folder() {
    let gpu = Gpu::new();
    let file = gpu.place("file");
    std::fs::write(&file, "precious").unwrap();
    for path in [&file, &file.join("below")] {
        let output = run(&gpu, &["--size", "4K", "--out", path.to_str().unwrap()]);
        assert_eq!(code(&output), 2, "{}", text(&output));
        assert!(text(&output).contains("is not a directory") && !text(&output).contains("space"), "{}", text(&output));
    }
    let below = file.join("report.html");
    let base = concat!(env!("CARGO_MANIFEST_DIR"), "/../results/reference/nvme");
    let output = gpu.peerpath("").args(["report", base, "--out"]).arg(below).output().unwrap();
    assert_eq!(code(&output), 4, "{}", text(&output));
    assert!(text(&output).contains("a part of this one is a file"), "{}", text(&output));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

#[test]
fn the_same_command_completes_an_interrupted_run() {
    let gpu = Gpu::new();
    let (out, file) = (gpu.place("out"), gpu.place("out/result.json"));
    let out = out.to_str().unwrap();
    let again = |sizes: &str| run(&gpu, &["--size", sizes, "--repeat", "2", "--out", out, "--append"]);
    assert_eq!(code(&again("4K,8K,16K")), 0);
    // As after an interruption: one cell lacks a repeat, one did not pass, and one is complete.
    let mut result: Value = read(&file);
    let cells = result["cells"].as_array_mut().unwrap();
    cells[0]["repeats"].as_array_mut().unwrap().pop();
    cells[1]["outcome"] = "failed".into();
    let complete = cells[2].clone();
    std::fs::write(&file, result.to_string()).unwrap();
    let output = again("4K,8K,16K,32K");
    assert_eq!(code(&output), 0, "{}", text(&output));
    assert!(text(&output).contains("3 passed") && text(&output).contains("1 cell was skipped"), "{}", text(&output));
    let completed: Value = read(&file);
    validate(&completed);
    let sizes: Vec<_> = completed["cells"].as_array().unwrap().iter().map(|cell| &cell["size_bytes"]).collect();
    assert_eq!(sizes, [16 << 10, 4 << 10, 8 << 10, 32 << 10]);
    assert_eq!(completed["cells"][0], complete);
    assert_eq!(completed["appended"][0]["first_cell"], 1);
    let cells = completed["cells"].as_array().unwrap();
    assert!(cells.iter().all(|cell| cell["outcome"] == "passed" && cell["repeats"].as_array().unwrap().len() == 2));

    let output = again("4K,8K,16K,32K");
    assert_eq!(code(&output), 0, "{}", text(&output));
    assert!(text(&output).contains("4 cells were skipped"), "{}", text(&output));
    assert_eq!(ids(&file).len(), 4);
}
