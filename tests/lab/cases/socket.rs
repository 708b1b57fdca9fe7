//! A process exports a buffer to another process over a socket.

use std::os::unix::fs::PermissionsExt;

use libtest_mimic::Failed;

use crate::Case;
use crate::command::{all_passed, result, run, start, until};
use crate::functions::{EXPORTER, driver};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case {
        name: "imports_from_another_process_over_a_socket",
        scenarios: &["default", "bypass"],
        run: export_over_a_socket,
    }]
}

fn export_over_a_socket() -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    let folder = out.path().display();
    let socket = out.path().join("bar.sock");
    let mut exporting = start(&format!("export {EXPORTER}:2 --range 0x0+0x100000 --socket {}", socket.display()))?;
    until("the exporter listens", || socket.exists())?;
    let mode = std::fs::metadata(&socket)?.permissions().mode() & 0o777;
    if mode != 0o600 {
        return Err(format!("the socket has mode {mode:o}").into());
    }
    for _ in 0..2 {
        run(&format!(
            "run --from socket:{} --to verbs:rxe0 --op register --op write --op read --size 4K --size 64K \
             --iterations 20 --force --out {folder}",
            socket.display()
        ))?
        .expect(0)?;
        all_passed(&result(out.path())?, 10)?;
    }
    // Another user cannot connect.
    let other_user = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args([
            "python3",
            "-c",
            "import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(sys.argv[1])",
        ])
        .arg(&socket)
        .output()?;
    if other_user.status.success() {
        return Err("another user could connect".into());
    }
    exporting.signal("TERM")?;
    exporting.wait()?.expect(143)?;
    if socket.exists() || driver(EXPORTER).is_some() {
        return Err("the exporter did not remove its socket or did not restore its function".into());
    }
    Ok(())
}
