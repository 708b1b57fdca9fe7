//! What the program prints for wrong input, and its exit code. `wrong_inputs.txt` lists all cases for review.
//!
//! To add a case, add a line `$ peerpath ARGUMENTS` and run the test with PEERPATH_BLESS=1. Files that the arguments name are in
//! `wrong_inputs/`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The names of the files in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The output and the exit code of a command line, in a folder.
fn answer(arguments: &str, folder: &Path, state: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_peerpath"))
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env("PEERPATH_STATE_DIR", state)
        .env_remove("PEERPATH_TOKEN")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains("panicked"), "{arguments}: {text}");
    assert!(
        text.chars().all(|letter| letter == '\n' || !letter.is_control()),
        "{arguments}: control characters: {text:?}"
    );
    let code = output.status.code().unwrap_or_else(|| panic!("{arguments}: ended by a signal: {text}"));
    format!("{}\n=> exit code {code}\n", independent_of_this_host(&text))
}

/// Replaces the list of this host's RDMA devices with a fixed text.
fn independent_of_this_host(text: &str) -> String {
    let lines = text.trim_end().lines().map(|line| match line.find("The devices of this host are: ") {
        Some(at) => format!("{}This host has no RDMA device. [no-device]", &line[..at]),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn prints_what_the_table_says_and_leaves_no_file() {
    let table = place("wrong_inputs.txt");
    let expected = fs::read_to_string(&table).unwrap();
    let work = tempfile::tempdir().unwrap();
    let (folder, state) = (work.path().join("inputs"), work.path().join("state"));
    fs::create_dir(&folder).unwrap();
    for name in names(&place("wrong_inputs")) {
        fs::copy(place("wrong_inputs").join(&name), folder.join(&name)).unwrap();
    }
    let before = names(&folder);
    let mut actual: String =
        expected.lines().take_while(|line| !line.starts_with("## ")).map(|line| format!("{line}\n")).collect();
    let mut cases = 0;
    for line in expected.lines().filter(|line| line.starts_with("$ ") || line.starts_with("## ")) {
        let Some(command) = line.strip_prefix("$ peerpath") else {
            let _ = write!(actual, "{line}\n\n");
            continue;
        };
        cases += 1;
        let _ = write!(actual, "{line}\n{}\n", answer(command, &folder, &state));
    }
    assert!(cases >= 60, "{cases} cases");
    assert_eq!(names(&folder), before, "a wrong input left a file");
    if std::env::var_os("PEERPATH_BLESS").is_some() {
        fs::write(&table, &actual).unwrap();
        return;
    }
    // Case by case, so that a failure shows one case.
    for (wanted, found) in expected.split("\n$ ").zip(actual.split("\n$ ")) {
        assert_eq!(found, wanted, "PEERPATH_BLESS=1 rewrites {}", table.display());
    }
    assert_eq!(actual, expected);
}
