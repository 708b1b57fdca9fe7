//! `run` with repeats, and what makes it end with exit code 1: `--expect` and `--fail-on-waived`. With the fake CUDA driver.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A folder with the fake CUDA driver, which was built with this test.
fn stage() -> tempfile::TempDir {
    let driver = std::env::current_exe().unwrap().parent().unwrap().join("libpeerpath_cuda_double.so");
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(driver, folder.path().join("libcuda.so.1")).unwrap();
    folder
}

/// Runs with these arguments. Returns the exit code and both outputs.
fn run(folder: &Path, arguments: &str) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_peerpath"))
        .env("LD_LIBRARY_PATH", folder)
        .env("PEERPATH_CUDA_DOUBLE", "")
        .env("PEERPATH_STATE_DIR", folder.join("state"))
        .current_dir(folder)
        .args("run --from host:1M --to cuda:0 --size 4K".split(' '))
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn result(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("out/result.json")).unwrap()).unwrap()
}

#[test]
fn each_cell_is_repeated_and_the_table_shows_the_spread() {
    let folder = stage();
    let (code, out, progress) =
        run(folder.path(), "--op copy_in,copy_out --mode bandwidth,completion --iterations 31 --seed 7 --out out");
    assert_eq!(code, 0, "{out}{progress}");
    let result = result(folder.path());
    let plan = &result["run"]["plan"];
    assert_eq!((&plan["repeats"], &plan["seed"]), (&3.into(), &7.into()));
    for cell in result["cells"].as_array().unwrap() {
        let counts: Vec<_> =
            cell["repeats"].as_array().unwrap().iter().map(|repeat| repeat["iterations"].as_u64()).collect();
        assert_eq!(counts, [Some(11), Some(10), Some(10)]);
    }
    assert!(out.contains("spread") && out.contains(" %"), "{out}");
    let lines: Vec<_> = progress.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.starts_with('[')).count(), 4, "{progress}");
    assert!(lines.contains(&"repeat 2 of 3") && lines.contains(&"repeat 3 of 3"), "{progress}");
    // The run ends with a conclusion.
    assert!(out.contains("Host memory to ") && out.contains("copy_in"), "{out}");
}

#[test]
fn a_broken_expectation_ends_the_run_with_1() {
    let folder = stage();
    let expect = |text: &str| std::fs::write(folder.path().join("expect.toml"), text).unwrap();
    let line = "--op copy_in --mode bandwidth --iterations 30 --expect expect.toml --force --out out";
    expect("[[expect]]\nop = \"copy_in\"\nmin_bytes_per_s = 1.0\npath = \"host-memory\"\n");
    assert_eq!(run(folder.path(), line).0, 0);
    expect(
        "[[expect]]\nop = \"copy_in\"\n[[expect]]\nmode = \"bandwidth\"\nmin_bytes_per_s = 1e18\n[[expect]]\nop = \"copy_out\"\n",
    );
    let (code, out, _) = run(folder.path(), line);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("expect.toml that do not hold:"), "{out}");
    assert!(out.contains("  2. ") && out.contains("expected at least 1000000000 GB/s"), "{out}");
    assert!(out.contains("  3. no cell matches op copy_out"), "{out}");
    assert!(!out.contains("  1. "), "{out}");
    expect("[[expect]]\nop = \"copyin\"\n");
    std::fs::remove_dir_all(folder.path().join("out")).unwrap();
    let (code, _, errors) = run(folder.path(), line);
    assert!(code == 2 && errors.contains("line 2: copyin is not an operation"), "{errors}");
    assert!(!folder.path().join("out").exists(), "the expectations are read before the first cell");
}

#[test]
fn a_waived_cell_can_end_the_run_with_1() {
    let folder = stage();
    // An operation of 2 MiB does not fit into the source of 1 MiB.
    let line = "--op copy_in --size 2M --size 4K --mode completion --iterations 3 --force --out out";
    let (code, out, _) = run(folder.path(), line);
    assert!(code == 0 && out.contains("1 passed, 1 waived"), "{out}");
    assert_eq!(run(folder.path(), &format!("{line} --fail-on-waived")).0, 1);
}

#[test]
fn a_dry_run_checks_and_counts_and_saves_nothing() {
    let folder = stage();
    let line = "--op copy_in,copy_out --mode bandwidth --depth 1,2 --duration 6s --dry-run";
    let (code, out, _) = run(folder.path(), &format!("{line} --out out"));
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("4 cells, 3 repeats each: at most 24s of measurements"), "{out}");
    assert!(out.contains("host:1M -> cuda:0: 4 cells"), "{out}");
    assert!(!folder.path().join("out").exists());
    let (code, _, errors) = run(folder.path(), &format!("{line} --to cuda:7"));
    assert_eq!(code, 2, "{errors}");
}

#[test]
fn json_prints_each_finished_cell_on_a_line_of_its_own() {
    let folder = stage();
    let (code, out, errors) =
        run(folder.path(), "--op copy_in,copy_out --mode completion --iterations 30 --json --out out");
    assert_eq!(code, 0, "{errors}");
    let mut printed: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    printed.sort_by_key(|cell| cell["id"].to_string());
    let mut saved = result(folder.path())["cells"].as_array().unwrap().clone();
    saved.sort_by_key(|cell| cell["id"].to_string());
    assert_eq!(printed, saved);
    assert!(errors.contains("2 passed") && errors.contains("out/result.json"), "{errors}");
}

#[test]
fn load_mode_has_a_cell_per_rate_with_offered_and_achieved_operations() {
    let folder = stage();
    let line = "--op copy_in --mode load --rate 500,1k --duration 600ms --out out";
    let (code, out, errors) = run(folder.path(), line);
    assert_eq!(code, 0, "{out}{errors}");
    let result = result(folder.path());
    for (cell, rate) in result["cells"].as_array().unwrap().iter().zip([500, 1000]) {
        assert_eq!((&cell["mode"], &cell["offered_operations_per_s"]), (&"load".into(), &rate.into()));
        assert!(cell["id"].as_str().unwrap().ends_with(&format!("/{rate}-per-s")), "{cell}");
        assert!(cell["latency_ns"]["p50"].is_u64() && cell["operations_per_s"].is_f64(), "{cell}");
        assert!(cell["verified_bytes"].as_u64() > Some(0), "{cell}");
    }
    assert!(out.contains("offered/s") && out.contains("achieved/s"), "{out}");
    let (code, _, errors) = run(folder.path(), "--op copy_in --mode load --dry-run");
    assert!(code == 2 && errors.contains("cannot run mode load"), "{errors}");
    let (code, _, errors) = run(folder.path(), "--op copy_in --mode bandwidth --rate 5 --dry-run");
    assert!(code == 2 && errors.contains("Only mode load has an offered rate"), "{errors}");
}
