//! Signals and the changes of the host that the journal lists.

use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use peerpath_bench::peer::handshake;
use peerpath_bench::peer::token::Token;

/// Start time of a process, field 22 of `proc(5)` stat.
fn start_time_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap()
}

/// Writes a journal that lists a change that the process `pid` made for a run.
fn write_journal(state: &Path, pid: u32) {
    std::fs::DirBuilder::new().mode(0o700).create(state).unwrap();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let journal = serde_json::json!({"version": 1, "entries": [{
        "bdf": "ff00:fe:1f.7",
        "change": {"kind": "driver", "driver": "nvme", "driver_override": null},
        "owner": {"kind": "run", "pid": pid, "start_time_ticks": start_time_ticks(pid)},
        "boot_id": boot_id.trim(),
    }]});
    std::fs::write(state.join("journal.json"), journal.to_string()).unwrap();
}

#[test]
fn an_interrupted_run_that_leaves_the_host_changed_names_restore() {
    let folder = tempfile::tempdir().unwrap();
    let (file, state) = (folder.path().join("token"), folder.path().join("state"));
    std::fs::write(&file, "known to both sides").unwrap();
    let token = Token::find(Some(&file), None).unwrap().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_peerpath"))
        .args(["run", "--to", "verbs:none", "--peer", &listener.local_addr().unwrap().to_string(), "--token-file"])
        .arg(&file)
        .env("PEERPATH_STATE_DIR", &state)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    handshake::as_server(&stream, &token, handshake::TIME).unwrap();
    write_journal(&state, run.id());
    // `kill` is a builtin of the shell.
    Command::new("sh").args(["-c", &format!("kill -TERM {}", run.id())]).status().unwrap();
    let ended = run.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(143), "{stderr}");
    assert!(stderr.contains("this host is still changed") && stderr.contains("`peerpath restore`"), "{stderr}");
}
