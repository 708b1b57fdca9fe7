//! Input files are bounded: no command waits for a FIFO, reads a device, or takes memory without a limit.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::program::{Gpu, code, each, peerpath, text};

/// Runs the program with a limit that the shell sets, e.g. `-v 1000000` of `ulimit`.
fn limited(limit: &str, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_peerpath")]);
    command.args(arguments).env("PEERPATH_STATE_DIR", folder.join("state")).output().unwrap()
}

#[test]
fn refuses_devices_fifos_sockets_and_directories_as_files() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    nix::unistd::mkfifo(Path::new(&place("fifo")), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", place("link")).unwrap();
    std::fs::write(place("result.json"), r#"{"cells": [{}]}"#).unwrap();
    let snapshot = concat!(env!("CARGO_MANIFEST_DIR"), "/../paths/tests/fixtures/truth/01_switch_epyc.tar.gz");
    let good = place("result.json");
    let commands: &[&[&str]] = &[
        &["report", "FILE", "--out", "-"],
        &["report", &good, "--base", "FILE", "--out", "-"],
        &["compare", "FILE", &good],
        &["compare", &good, "FILE"],
        &["run", "FILE"],
        &["run", "--to", "verbs:x", "--peer", "127.0.0.1:1", "--token-file", "FILE"],
        &["serve", "--from", "host:1M", "--to", "verbs:x", "--token-file", "FILE"],
        &["paths", "--root", "FILE"],
        &["list", "--root", "FILE", "--root", snapshot],
        &["doctor", "--root", snapshot, "--cmdline", "FILE"],
        &["doctor", "--root", snapshot, "--cpu", "FILE"],
        &["explain", "FILE"],
        &["explain", "-", "--root", "FILE"],
    ];
    let files = ["fifo", "socket", "link"].map(place);
    let cases: Vec<_> = commands.iter().flat_map(|command| files.iter().map(move |file| (*command, file))).collect();
    let wrong = each(&cases, |(command, file)| {
        let words = command.iter().map(|word| if *word == "FILE" { file.as_str() } else { word });
        let output =
            peerpath(Path::new(&place("state"))).args(words).stdin(std::process::Stdio::null()).output().unwrap();
        let is_refused = code(&output) == 2 && text(&output).contains(", not a regular file")
            || text(&output).contains("The file is a ");
        (!is_refused).then(|| format!("{command:?} with {file}: {}", text(&output)))
    });
    let wrong: Vec<_> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_result_of_many_small_values_takes_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str, start: &str, repeated: &str, end: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, start.to_owned() + &repeated.repeat((16 << 20) / repeated.len()) + end).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let unknown = save("unknown.json", r#"{"cells": [{}], "x": ["#, r#"{"":0},"#, "0]}");
    let cells = save("cells.json", r#"{"cells": ["#, r#"{"":0},"#, "{}]}");
    let nested = save("nested.json", r#"{"cells": [{"path": {"hops": ["#, r#"{"":[{}]},"#, "0]}}]}");
    let repeats = save("repeats.json", r#"{"cells": [{"repeats": ["#, "0,", "0]}]}");
    let repeated =
        save("repeated.json", r#"{"cells": ["#, &format!(r#"{{"repeats": [{}0]}},"#, "0,".repeat(999)), "{}]}");
    for (file, expected) in [(&unknown, 0), (&cells, 2), (&nested, 2), (&repeats, 2), (&repeated, 2)] {
        for command in [&["report", file, "--format", "csv", "--out", "-"][..], &["compare", file, file, "--force"]] {
            let output = limited("-v 700000", folder.path(), command);
            // A result without figures has nothing to compare.
            let expected = if command[0] == "compare" { 2 } else { expected };
            assert_eq!(code(&output), expected, "{command:?}: {}", text(&output));
            assert!(!text(&output).contains("memory allocation"), "{command:?}: {}", text(&output));
        }
    }
    let output = limited("-v 700000", folder.path(), &["report", &cells, "--out", "-"]);
    assert!(text(&output).contains("more than 100000 cells"), "{}", text(&output));
}

#[test]
fn a_short_plan_with_too_many_cells_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    let mut text_of_plan = "from = 'host:1M'\nto = 'cuda:0'\n".to_owned();
    for (key, from) in [("size", 4096), ("depth", 1), ("qps", 1), ("threads", 1)] {
        let values: Vec<_> = (from..from + 500).map(|value| value.to_string()).collect();
        let _ = writeln!(text_of_plan, "{key} = [{}]", values.join(","));
    }
    assert!(text_of_plan.len() < 10_000);
    std::fs::write(&plan, text_of_plan).unwrap();
    let output = limited("-v 700000", folder.path(), &["run", plan.to_str().unwrap()]);
    assert_eq!(code(&output), 2, "{}", text(&output));
    assert!(text(&output).contains("at most 100000"), "{}", text(&output));
}

#[test]
fn reports_too_many_open_files_as_the_cause() {
    let gpu = Gpu::new();
    let out = gpu.place("out");
    let arguments = ["run", "--from", "host:64K", "--to", "cuda:0", "--op", "copy_in", "--size", "4K", "--out"];
    // The run needs a descriptor for the folder, and another one for the result.
    for limit in [4, 5] {
        let mut command = gpu.peerpath("");
        let program = command.get_program().to_owned();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]).arg(program).args(arguments).arg(&out);
        for (name, value) in command.args(arguments).get_envs() {
            value.map(|value| shell.env(name, value));
        }
        let output = shell.output().unwrap();
        // 3 if the library of the target is the first file that cannot be opened.
        assert!([3, 4].contains(&code(&output)), "{limit}: {}", text(&output));
        assert!(text(&output).contains("do: Raise the limit with `ulimit -n`.\n"), "{limit}: {}", text(&output));
    }
}

#[test]
fn reader_and_writer_of_results_have_the_same_limit_of_cells() {
    assert_eq!(peerpath_report::saved::MAX_CELLS, peerpath_bench::plan::MOST_CELLS);
}
