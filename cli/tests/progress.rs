//! Progress of a run and its table, with the fake CUDA driver: finished, interrupted, quiet, and on terminals.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A folder with the fake CUDA driver, which was built with this test.
fn stage() -> tempfile::TempDir {
    let driver = std::env::current_exe().unwrap().parent().unwrap().join("libpeerpath_cuda_double.so");
    assert!(driver.is_file(), "{} was not built", driver.display());
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(driver, folder.path().join("libcuda.so.1")).unwrap();
    folder
}

/// A run of 21 cells, in the environment of the fake driver.
fn with_driver(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("LD_LIBRARY_PATH", folder)
        .env("PEERPATH_CUDA_DOUBLE", "")
        .env("PEERPATH_STATE_DIR", folder.join("state"))
        .env("TERM", "dumb");
    command
}

fn arguments(folder: &Path, limit: &str) -> Vec<String> {
    let out = folder.join("out");
    let line = format!(
        "run --from host:1M --to cuda:0 --op copy_in,copy_out,kernel_load --mode bandwidth --size 4K {limit} --repeat 1 --out"
    );
    let sizes = ["--depth", "1,2,3,4,5,6,7"].map(str::to_owned);
    let words = line.split(' ').map(str::to_owned);
    words.chain([out.to_str().unwrap().to_owned()]).chain(sizes).collect()
}

#[test]
fn an_interrupted_run_prints_the_table_of_its_finished_cells() {
    let folder = stage();
    let mut run = with_driver(env!("CARGO_BIN_EXE_peerpath"), folder.path())
        .args(arguments(folder.path(), "--duration 500ms"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    let third = progress.find(|line| line.starts_with("[ 3/21] passed  copy_in bandwidth 4 KiB depth 3  ")).unwrap();
    assert!(third.contains("B/s  host-memory  host -> cuda:"), "{third}");
    // `kill` is a builtin of the shell.
    Command::new("sh").args(["-c", &format!("kill -INT {}", run.id())]).status().unwrap();
    progress.for_each(drop);
    let mut text = String::new();
    run.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130), "{text}");
    let result: Value = serde_json::from_slice(&std::fs::read(folder.path().join("out/result.json")).unwrap()).unwrap();
    let done = result["cells"].as_array().unwrap().len();
    assert!((3..21).contains(&done), "{text}");
    assert!(text.contains(&format!("interrupted after {done} of 21 cells: {done} passed")), "{text}");
    let rows = text.lines().filter(|line| line.starts_with("host ") && line.ends_with("passed"));
    assert_eq!(rows.count(), done, "{text}");
}

#[test]
fn quiet_prints_only_the_results() {
    let folder = stage();
    let limit = "--iterations 20 --quiet";
    let run = with_driver(env!("CARGO_BIN_EXE_peerpath"), folder.path())
        .args(arguments(folder.path(), limit))
        .output()
        .unwrap();
    let (out, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert_eq!((run.status.code(), &*errors), (Some(0), ""), "{out}");
    assert!(out.contains("21 passed, 0 waived, 0 failed"), "{out}");
}

/// What the run prints on a terminal of 80 columns; `None` without the program `script`.
fn on_terminal(term: &str) -> Option<String> {
    let folder = stage();
    let words: Vec<_> = arguments(folder.path(), "--iterations 20").iter().map(|word| format!("'{word}'")).collect();
    let line = format!("stty cols 80; '{}' {}", env!("CARGO_BIN_EXE_peerpath"), words.join(" "));
    let run = with_driver("script", folder.path())
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", term)
        .stdin(Stdio::null())
        .output();
    let run = run.inspect_err(|error| eprintln!("waived: cannot start script(1): {error}")).ok()?;
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert_eq!(run.status.code(), Some(0), "{text}");
    Some(text)
}

#[test]
fn a_terminal_shows_finished_cells_and_the_remaining_time() {
    let Some(text) = on_terminal("xterm") else { return };
    assert!(text.contains("[21/21] passed  kernel_load bandwidth 4 KiB depth 7"), "{text}");
    assert!(text.contains("ETA ") && text.contains("\u{1b}["), "{text}");
}

#[test]
fn a_dumb_terminal_shows_a_line_per_cell() {
    let Some(text) = on_terminal("dumb") else { return };
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(lines.len(), 21, "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(text.lines().all(|line| line.trim_end().chars().count() <= 80 || line.contains("saved to")), "{text}");
}
