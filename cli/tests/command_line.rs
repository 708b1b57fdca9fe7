//! The command line on a machine without devices: invalid input and missing devices, each with its exit code.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use peerpath_bench::peer::token::Token;
use peerpath_bench::peer::{frame, handshake};
use serde_json::{Value, json};

fn peerpath(arguments: &[&str]) -> Output {
    let state = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_peerpath"))
        .args(arguments)
        .env("PEERPATH_STATE_DIR", state.path())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn ends(arguments: &[&str], code: i32, word: &str) {
    let output = peerpath(arguments);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(text.contains(word), "{arguments:?} does not mention {word:?}: {text}");
    assert!(!text.contains("panicked"), "{text}");
}

const COMMANDS: [&str; 13] = [
    "list",
    "paths",
    "doctor",
    "explain",
    "snapshot",
    "run",
    "bind",
    "restore",
    "export",
    "report",
    "compare",
    "serve",
    "completions",
];

#[test]
fn help_lists_every_command_and_has_examples() {
    for command in COMMANDS {
        ends(&["--help"], 0, command);
        ends(&[command, "--help"], 0, "Usage");
        ends(&[command, "--help"], 0, "Example");
    }
    ends(&["--version"], 0, "peerpath");
}

/// The arguments of each example in a help text: without redirections, and without a description on the same line.
fn examples(help: &str) -> Vec<Vec<String>> {
    let mut parts = help.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    let joined = parts.fold(first, |text, part| text + part.trim_start());
    let commands = joined.lines().filter_map(|line| line.split_once("peerpath "));
    // The lines of the usage start with the name of the program too.
    let commands = commands.filter(|(_, rest)| !rest.contains("[OPTIONS]"));
    let of_a_shell = commands.filter(|(before, _)| before.trim().is_empty() || before.ends_with("| "));
    let words = |(_, rest): (&str, &str)| {
        let command = rest.split("  ").next().unwrap_or_default();
        let command = command.split(['>', '&', '|']).next().unwrap_or_default();
        command.split_whitespace().map(str::to_owned).collect()
    };
    of_a_shell.map(words).collect()
}

#[test]
fn examples_of_the_help_are_accepted() {
    let mut count = 0;
    for command in COMMANDS {
        for example in examples(&text(&peerpath(&[command, "--help"]))) {
            // Skip plans, because the program reads them before it parses the options, and quoted texts, because this test
            // splits them.
            if example.iter().any(|word| word.ends_with(".toml") || word.contains('"')) {
                continue;
            }
            count += 1;
            let mut words: Vec<&str> = example.iter().map(String::as_str).collect();
            // No options follow `--`.
            words.insert(words.iter().position(|word| *word == "--").unwrap_or(words.len()), "--help");
            ends(&words, 0, "Usage");
        }
    }
    assert!(count >= 35, "{count} examples");
}

#[test]
fn exits_with_2_for_invalid_arguments() {
    ends(&["nonsense"], 2, "nonsense");
    ends(&["run"], 2, "--from");
    ends(&["run", "--from", "host:1M", "--to", "nothing:x"], 2, "nothing");
    ends(&["run", "--from", "host", "--to", "verbs:rxe0"], 2, "host");
    ends(&["run", "--from", "host:1M", "--to", "verbs:rxe0", "--op", "dance"], 2, "dance");
    ends(&["run", "--from", "host:1M", "--to", "verbs:rxe0", "--size", "0"], 2, "1 byte");
    ends(&["run", "--from", "host:1M", "--to", "verbs:rxe0", "--size", "2G"], 2, "1 GiB");
    ends(&["run", "--from", "host:1M", "--to", "verbs:rxe0", "--depth", "0"], 2, "depth");
    ends(&["run", "--from", "host:1M", "--to", "verbs:rxe0", "--iterations", "0"], 2, "iteration");
    ends(&["run", "--from", "host:1M", "--to", "verbs:rxe0", "--ranges", "0"], 2, "--ranges 0");
    ends(&["run", "--from", "0000:03:00.0:2@0x0+0x1000", "--to", "verbs:rxe0", "--ranges", "2"], 2, "ranges itself");
    ends(&["run", "--from", "host:1M", "--to", "verbs:rxe0", "--mechanism", "magic"], 2, "mr-per-range");
    ends(&["run", "--from", "host:1M", "--to", "verbs:rxe0", "--vfio", "window"], 2, "window");
    ends(&["run", "--from", "host:1M", "--to", "verbs:rxe0", "--door", "window"], 2, "--vfio");
    ends(&["run", "--from", "host:1M", "--to", "verbs:rxe0", "--duration", "forever"], 2, "forever");
    ends(&["bind", "not-a-bdf"], 2, "not-a-bdf");
    ends(&["bind"], 2, "BDF");
}

#[test]
fn rejects_allow_write_except_for_one_drive() {
    let (drive, other) = ("iommufd:ff00:fe:1f.7", "iommufd:ff00:fe:1f.6");
    let run = |more: &[&str], word| ends(&[&["run", "--from", "host:1M"], more].concat(), 2, word);
    run(&["--to", drive, "--allow-write", "0+8"], "ff00:fe:1f.7");
    run(&["--to", drive, "--allow-write", "everything"], "LBA+COUNT");
    run(&["--to", drive, "--to", other, "--allow-write", "0+8"], "one drive");
    run(&["--to", "verbs:rxe0", "--allow-write", "0+8"], "no blocks");
}

#[test]
fn exits_with_2_for_an_absent_function() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    ends(&["run", "--from", "ff00:fe:1f.7:2", "--to", "verbs:rxe0", "--out", folder], 2, "ff00:fe:1f.7");
    ends(&["bind", "ff00:fe:1f.7"], 2, "ff00:fe:1f.7");
}

#[test]
fn a_device_that_does_not_exist_is_one_error_and_leaves_no_result() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("result");
    let run = |source: &str, target: &str, word| {
        ends(&["run", "--from", source, "--to", target, "--out", folder.to_str().unwrap()], 2, word);
        assert!(!folder.exists(), "{source} {target}");
    };
    run("host:1M", "verbs:no_such_nic", "no-device");
    run("host:1M", "iommufd:ff00:fe:1f.7", "no-device");
    run("host:1M", "no_such_nic", "no_such_nic");
    run("ff00:fe:1f.7:2", "verbs:no_such_nic", "no-device");
    run("ff00:fe:1f.7", "verbs:no_such_nic", "ff00:fe:1f.7");
}

#[test]
fn names_a_device_of_a_snapshot_with_and_without_its_kind() {
    let root = format!("{}/../paths/tests/fixtures/hosts/03-turin-b200/root.tar.gz", env!("CARGO_MANIFEST_DIR"));
    let paths = |more: &[&str]| peerpath(&[&["paths", "--root", &root, "--json"], more].concat());
    let with_kind = paths(&["--from", "cuda:0", "--to", "verbs:mlx5_12"]);
    assert_eq!(with_kind.status.code(), Some(0), "{}", text(&with_kind));
    assert_eq!(text(&paths(&["--from", "cuda:0", "--to", "mlx5_12"])), text(&with_kind));
    let reverse = paths(&["--from", "mlx5_12", "--to", "cuda:0"]);
    assert_eq!(reverse.status.code(), Some(0), "{}", text(&reverse));
    ends(&["paths", "--root", &root, "--to", "mlx5_l2"], 2, "did you mean verbs:mlx5_");
    ends(&["paths", "--root", &root, "--to", "verbs:mlx5_l2"], 2, "did you mean verbs:mlx5_");
    ends(&["doctor", "--root", &root, "--to", "mlx5_l2"], 2, "did you mean verbs:mlx5_");
}

#[test]
fn colours_errors_only_on_request() {
    let escape = |arguments: &[&str]| text(&peerpath(arguments)).contains('\u{1b}');
    for error in [&["run", "--size", "4Q"][..], &["run", "missing.toml"], &["bind", "ff00:fe:1f.7"]] {
        assert!(!escape(error), "{error:?}: standard error is not a terminal");
        assert!(!escape(&[error, &["--color", "never"]].concat()), "{error:?}");
        assert!(escape(&[&["--color=always"], error].concat()), "{error:?}");
        assert!(escape(&[error, &["--color", "always"]].concat()), "{error:?}");
    }
}

#[test]
fn prints_steps_with_verbose_and_no_notes_with_quiet() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("host.tar.gz");
    let file = file.to_str().unwrap();
    ends(&["snapshot", file], 0, "written");
    assert_eq!(text(&peerpath(&["-q", "snapshot", "--force", file])), "");
    assert!(text(&peerpath(&["snapshot", "--force", file, "--quiet", "--color=never"])).is_empty());
    ends(&["restore", "-v"], 0, "nothing to restore");
}

#[test]
fn finds_a_plan_after_options_of_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    std::fs::write(&plan, "\nsise = 4\n").unwrap();
    let plan = plan.to_str().unwrap();
    for before in [&[][..], &["-v"], &["--color", "never"], &["--color=never", "--quiet"]] {
        ends(&[before, &["run", plan]].concat(), 2, "plan.toml (line 2)");
    }
}

#[test]
fn completes_the_options_of_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        for word in ["completion-moderation", "serve", "no-such-word"] {
            let script = text(&peerpath(&["completions", shell]));
            assert_eq!(script.contains(word), word != "no-such-word", "{shell}: {word}");
        }
    }
}

#[test]
fn the_version_has_the_revision_and_the_features() {
    ends(&["--version"], 0, "(revision ");
    ends(&["--version"], 0, "features: ");
}

#[test]
fn lists_a_host_without_devices() {
    let output = peerpath(&["list", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(listed.is_array());
    assert_eq!(peerpath(&["list"]).status.code(), Some(0));
}

#[test]
fn restore_without_changes_succeeds() {
    assert_eq!(peerpath(&["restore"]).status.code(), Some(0));
}

/// Snapshots of topologies whose predicted paths a kernel has confirmed.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../paths/tests/fixtures/truth");

#[test]
fn analyses_a_snapshot_of_another_host() {
    let root = format!("{FIXTURES}/01_switch_epyc.tar.gz");
    let output = peerpath(&["paths", "--root", &root, "--from", "0000:03:00.0", "--to", "0000:04:00.0", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let pairs: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(pairs[0]["predicted"], "bus-address");
    ends(&["paths", "--root", &root], 0, "bus-address");
    ends(&["paths", "--root", &root, "--from", "0000:03:00.0", "--to", "0000:04:00.0"], 0, "because");
    ends(&["paths", "--root", &root, "--from", "0000:33:00.0"], 2, "0000:33:00.0");
    ends(&["paths", "--root", &root, "--to", "verbs:mlx5_9"], 2, "verbs:mlx5_9");
}

/// The output of `lspci -vvvn` on a host with a NIC and a GPU at two root ports.
const LSPCI: &str = "\
00:00.0 0600: 1022:1480
\tControl: I/O- Mem+ BusMaster+
\tStatus: Cap- 66MHz-
\tIOMMU group: 0

00:01.1 0604: 1022:1483
\tControl: I/O- Mem+ BusMaster+
\tStatus: Cap+ 66MHz-
\tIOMMU group: 1
\tBus: primary=00, secondary=01, subordinate=01, sec-latency=0
\tCapabilities: [58] Express (v2) Root Port (Slot+), MSI 00
\tKernel driver in use: pcieport

00:03.1 0604: 1022:1483
\tControl: I/O- Mem+ BusMaster+
\tStatus: Cap+ 66MHz-
\tIOMMU group: 2
\tBus: primary=00, secondary=02, subordinate=02, sec-latency=0
\tCapabilities: [58] Express (v2) Root Port (Slot+), MSI 00
\tKernel driver in use: pcieport

01:00.0 0200: 15b3:1021
\tControl: I/O- Mem+ BusMaster+
\tStatus: Cap+ 66MHz-
\tIOMMU group: 11
\tRegion 0: Memory at d0000000 (64-bit, prefetchable) [size=32M]
\tCapabilities: [60] Express (v2) Endpoint, MSI 00
\tKernel driver in use: mlx5_core

02:00.0 0302: 10de:20b0
\tControl: I/O- Mem+ BusMaster+
\tStatus: Cap+ 66MHz-
\tIOMMU group: 12
\tRegion 1: Memory at 20000000000 (64-bit, prefetchable) [size=64G]
\tCapabilities: [60] Express (v2) Endpoint, MSI 00

";

#[test]
fn analyses_the_output_of_lspci() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let lspci = write("lspci.txt", LSPCI);
    ends(&["list", "--root", &lspci], 0, "0000:02:00.0");
    let pair = |more: &[&str]| {
        let words = [&["paths", "--root", &lspci, "--from", "02:00.0", "--to", "01:00.0", "--json"], more].concat();
        let output = peerpath(&words);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let pairs: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        pairs[0].clone()
    };
    // The output of lspci does not show the domain type. It decides the path only if the kernel trusts the processor.
    let amd = pair(&["--cpu", "AMD EPYC 7763 64-Core Processor"]);
    assert_eq!(amd["predicted"], "unknown");
    assert!(amd["unknown"].to_string().contains("domain type of 0000:01:00.0"), "{amd}");
    let cpuinfo = write("cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n");
    let intel = pair(&["--cpu", &cpuinfo, "--cmdline", "iommu=pt"]);
    assert_eq!((&intel["predicted"], &intel["cause"]), (&"refused".into(), &"topology".into()));
    ends(
        &["doctor", "--root", &lspci, "--cpu", "GenuineIntel:6", "--from", "02:00.0", "--to", "01:00.0"],
        1,
        "topology",
    );

    let tree = write("tree.txt", "-[0000:00]-+-00.0  x\n           \\-01.1-[01]----00.0  y\n");
    ends(&["list", "--root", &format!("{lspci},{tree}")], 0, "0000:02:00.0");
    ends(&["list", "--root", &lspci, "--root", &tree], 0, "0000:02:00.0");
    ends(&["paths", "--root", &lspci, "--cpu", "a fast one"], 2, "AuthenticAMD:25");
    ends(&["paths", "--cpu", "GenuineIntel:6"], 2, "--root");
    ends(&["paths", "--root", &write("log", "[    0.000000] a\n[    0.100000] b\n")], 2, "a kernel log");
    ends(&["paths", "--root", &cpuinfo], 2, "--cpu TEXT|FILE");
}

#[test]
fn rejects_a_file_that_is_not_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("host.tar.gz");
    std::fs::write(&file, b"not an archive").unwrap();
    ends(&["paths", "--root", file.to_str().unwrap()], 2, "host.tar.gz");
    ends(&["paths", "--root", "/nowhere/at/all.tar.gz"], 2, "/nowhere/at/all.tar.gz");
}

#[test]
fn predicts_the_same_from_a_snapshot_of_this_host() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("host.tar.gz");
    let file = file.to_str().unwrap();
    ends(&["snapshot", file], 0, "written");
    let here = peerpath(&["paths", "--json"]);
    let there = peerpath(&["paths", "--root", file, "--json"]);
    assert_eq!(text(&here), text(&there));
    ends(&["snapshot", "/proc/nowhere/host.tar.gz"], 4, "/proc/nowhere");
}

#[test]
fn sigterm_ends_a_run_that_waits_for_its_peer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "known to both sides").unwrap();
    let token = Token::find(Some(&file), None).unwrap().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_peerpath"))
        .args(["run", "--to", "verbs:none", "--peer", &listener.local_addr().unwrap().to_string(), "--token-file"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    handshake::as_server(&stream, &token, handshake::TIME).unwrap();
    // The handshake succeeds and no message follows. `kill` is a builtin of the shell, so no program is needed.
    Command::new("sh").args(["-c", &format!("kill -TERM {}", run.id())]).status().unwrap();
    let ended = run.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(143), "{}", text(&ended));
}

/// Runs a client against a server that knows the token and sends one message after the handshake. Returns the client's output.
fn answered_with(message: &Value) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "the token of this test").unwrap();
    let token = Token::find(Some(&file), None).unwrap().unwrap();
    let client = Command::new(env!("CARGO_BIN_EXE_peerpath"))
        .args(["run", "--to", "verbs:none", "--peer", &listener.local_addr().unwrap().to_string(), "--token-file"])
        .arg(&file)
        .arg("--out")
        .arg(folder.path().join("out"))
        .env("PEERPATH_STATE_DIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    handshake::as_server(&stream, &token, handshake::TIME).unwrap();
    frame::write(&mut stream, message).unwrap();
    drop(stream);
    client.wait_with_output().unwrap()
}

#[test]
fn texts_of_a_peer_do_not_control_the_terminal() {
    let evil = "host:1\u{1b}[2J\u{9b}1m\u{202e}\u{061c}\u{200b}\u{e0041}\nerror: forged";
    let offer = json!({"offer": {
        "tool": {"name": "another", "version": evil},
        "environment": {"emulated": true, "soft_rdma": true, "devices": []},
        "target": {"kind": "verbs", "device": evil, "bdf": null},
        "sources": [evil],
    }});
    for message in [json!({"refused": {"why": evil}}), offer, json!({evil: {}})] {
        let output = answered_with(&message);
        let text = text(&output);
        assert_ne!(output.status.code(), Some(0), "{text}");
        assert_eq!(peerpath_paths::printable_lines(&text), text);
        assert_eq!(text.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{text}");
    }
}

#[test]
fn warns_about_a_token_that_others_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "the token of this test").unwrap();
    for (mode, warns) in [(0o600, false), (0o640, true), (0o604, true)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        for command in [["run", "--peer", "127.0.0.1:1"], ["serve", "--from", "host:1M"]] {
            let output =
                peerpath(&[&command[..], &["--to", "verbs:none", "--token-file", file.to_str().unwrap()]].concat());
            let text = text(&output);
            assert_eq!(text.contains("chmod 600"), warns, "{mode:o}: {text}");
            assert!(!text.contains("of this test"), "{text}");
        }
    }
}

#[test]
fn list_shows_usable_functions_and_all_on_request() {
    let root = format!("{}/../results/reference/matrix/default/snapshot.tar.gz", env!("CARGO_MANIFEST_DIR"));
    let listed = text(&peerpath(&["list", "--root", &root]));
    // A function without a driver, and one with an RDMA device.
    assert!(listed.contains("0000:01:00.0") && listed.contains("verbs:rxe0"), "{listed}");
    assert!(!listed.contains("0000:03:00.0") && !listed.contains("GPU"), "{listed}");
    assert!(listed.contains("13 other functions need `peerpath bind` first"), "{listed}");
    let all = text(&peerpath(&["list", "--all", "--root", &root]));
    let (first, later) = (all.find("verbs:rxe1").unwrap(), all.find("0000:03:00.0").unwrap());
    assert!(first < later, "usable functions come first: {all}");
}
